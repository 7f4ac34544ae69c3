"""Settings come from four places, are checked once, and never show a password."""

from __future__ import annotations

import json
import math
import sys
import tomllib
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime import config
from duetime.config import Settings, load
from duetime.errors import ConfigError

CANARY = "hunter2"


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def refusal(**arguments: Any) -> ConfigError:
    arguments.setdefault("environ", {})
    with pytest.raises(ConfigError) as caught:
        load(**arguments)
    return caught.value


def written(text: str, name: str = "duetime.toml") -> Path:
    path = Path(name)
    path.write_text(text, encoding="utf-8")
    return path


def test_defaults() -> None:
    """Without any source the defaults hold, and they keep their own rules."""
    assert load(environ={}) == Settings()
    assert Settings().store == "sqlite:///duetime.db"


def test_each_source_overrules_the_one_before() -> None:
    """Defaults, then the file, then the environment, then arguments."""
    written("workers = 1\nretries = 1\nmax_held = 5000\n")
    environ = {"DUETIME_RETRIES": "2", "DUETIME_MAX_HELD": "6000"}
    settings, origins = config.trace(environ=environ, max_held=7000, store=None)
    assert (settings.workers, settings.retries, settings.max_held) == (1, 2, 7000)
    assert origins["workers"] == "duetime.toml:1"
    assert origins["retries"] == "DUETIME_RETRIES"
    assert origins["max_held"] == "argument"
    assert origins["store"] == "default"


def test_the_file_is_found() -> None:
    """A named file comes before DUETIME_CONFIG, and that before ./duetime.toml."""
    written("workers = 1")
    named = written('{"workers": 2}', "other.json")
    given = written("workers = 3", "given.toml")
    environ = {"DUETIME_CONFIG": str(named)}
    assert load(environ={}).workers == 1
    assert load(environ=environ).workers == 2
    assert load(given, environ).workers == 3
    assert load(environ={"DUETIME_CONFIG": ""}) == Settings()


@pytest.mark.parametrize("name", ["a.toml", "a.json"])
def test_both_formats_hold_every_setting(name: str) -> None:
    """TOML and JSON files can set everything, and what is printed can be read again."""
    values = msgspec.to_builtins(Settings(workers=7, store="memory://", past="reject"))
    if name.endswith("toml"):
        text = "\n".join(f"{key} = {json.dumps(value)}" for key, value in values.items())
    else:
        text = json.dumps(values)
    assert msgspec.to_builtins(load(written(text, name), environ={})) == values


def test_whole_numbers_are_seconds_too() -> None:
    """An integer where a float is due becomes one, from every source."""
    for settings in (Settings(grace=5), load(environ={"DUETIME_GRACE": "5"})):
        assert settings.grace == 5.0
        assert type(settings.grace) is float


def test_unknown_keys_are_refused_with_a_near_name() -> None:
    """A key that does not exist is refused with file, line and the near name."""
    error = refusal(file=written("retries = 3\n\nworker = 5\n", "a.toml"))
    assert error.code == "config_unknown"
    assert "a.toml:3: " in str(error)
    assert "workers?" in str(error)
    error = refusal(environ={"DUETIME_RETRYS": "5"})
    assert (error.code, "DUETIME_RETRIES?" in str(error)) == ("config_unknown", True)
    assert refusal(wrokers=5).code == "config_unknown"
    assert "max_held?" in str(refusal(file=written('{\n"max-held": 5}', "a.json")))


def test_tables_are_no_settings() -> None:
    """A table of an unknown name is refused at its line."""
    error = refusal(file=written("workers = 1\n[database]\nstore = 'x'\n"))
    assert error.code == "config_unknown"
    assert "duetime.toml:2: " in str(error)


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("a.toml", "workers = 1\nworkers = 2\n", 2),
        ("a.toml", "workers = 1\nretries 5\n", 2),
        ("a.json", '{"workers": 1,\n "retries": 2,\n "workers": 3}', 3),
        ("a.json", '{"workers": 1,\n retries: 2}', 2),
        ("a.json", "[" * 100_000, None),
        ("a.toml", "x = " + "[" * 100_000, None),
        ("a.json", '{"workers": 1' + "0" * 5000 + "}", None),
        ("a.json", '{"grace": NaN}', None),
        ("a.json", "", 1),
        ("a.json", '{"a": 1} x', 1),
    ],
)
def test_files_that_cannot_be_read_are_refused(name: str, text: str, line: int | None) -> None:
    """A file with a syntax error or a double key is refused, with its line where there is one."""
    error = refusal(file=written(text, name))
    assert error.code == "config_syntax"
    assert f"{name}:{line}: " in str(error) if line else name in str(error)
    assert len(str(error)) < 200


def test_a_file_holds_one_object() -> None:
    """A JSON list is no configuration."""
    assert refusal(file=written("[]", "a.json")).code == "config_type"


def test_a_byte_order_mark_is_no_fault() -> None:
    """A file that an editor began with a byte order mark is read."""
    assert load(written("\ufeffworkers = 3"), environ={}).workers == 3


def test_only_files_of_known_form_are_read(tmp_path: Path) -> None:
    """Missing, huge, binary, foreign files and folders are refused with the reason."""
    assert "no such file" in str(refusal(file="nowhere.toml"))
    assert refusal(environ={"DUETIME_CONFIG": "nowhere.toml"}).code == "config_file"
    assert refusal(file=tmp_path).code == "config_file"
    assert "*.toml" in str(refusal(file=written("workers: 3", "a.yaml")))
    assert refusal(file=written("#" * (1 << 20) + "\n")).code == "config_file"
    Path("b.toml").write_bytes(b"workers = \xff")
    assert refusal(file="b.toml").code == "config_syntax"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", "3"),
        ("workers", 3.0),
        ("workers", True),
        ("workers", [3]),
        ("grace", "5s"),
        ("grace", False),
        ("store", 5),
        ("past", 1),
        ("namespace", {}),
    ],
)
def test_wrong_types_are_refused(name: str, value: Any) -> None:
    """A value of the wrong type is refused, from a file with its line and as an argument."""
    error = refusal(**{name: value})
    assert (error.code, error.field) == ("config_type", name)
    error = refusal(file=written(f'{{"retries": 1,\n"{name}": {json.dumps(value)}}}', "a.json"))
    assert "a.json:2: " in str(error)
    with pytest.raises(ConfigError, match=name):
        Settings(**{name: value})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("workers", 0),
        ("workers", -1),
        ("shards", 1025),
        ("grace", math.nan),
        ("grace", math.inf),
        ("lease", 0.9),
        ("synchronous", "full"),
        ("past", "skip"),
        ("retries", 2**31),
        ("max_horizon", 1e12),
        ("switch_interval", -0.1),
        ("max_payload", 0),
    ],
)
def test_values_out_of_range_are_refused(name: str, value: Any) -> None:
    """A value out of its range is refused, and the message tells the range."""
    error = refusal(**{name: value})
    assert (error.code, error.field) == ("config_range", name)
    assert " or " in str(error) or "from " in str(error)


@pytest.mark.parametrize("text", ["", "x", "5s", "1.5", "0x10", "1e3", " 5", "1__0", "\u0661"])
def test_numbers_in_the_environment_are_plain(text: str) -> None:
    """A whole number in the environment is digits and nothing else."""
    assert refusal(environ={"DUETIME_WORKERS": text}).code == "config_type"


@pytest.mark.parametrize("text", ["nan", "inf", "-1", "1e999", "..", "1.2.3"])
def test_durations_in_the_environment_are_plain(text: str) -> None:
    """A duration in the environment is a finite number."""
    assert refusal(environ={"DUETIME_GRACE": text}).code in {"config_type", "config_range"}


def test_other_variables_do_not_matter() -> None:
    """Variables of other programs, of tests, and of other spelling are left alone."""
    environ = {"DUETIME_TEST_DSN": "x", "duetime_x": "y", "DUETIMER": "z", "HOME": "/"}
    assert load(environ=environ) == Settings()


@pytest.mark.parametrize(
    "values",
    [
        {"beat": 1.0},
        {"beat": 1.1, "lease": 3.0},
        {"margin": 2.5},
        {"margin": 3.0},
    ],
)
def test_beats_keep_their_rule(values: dict[str, float]) -> None:
    """Three beats fit into a lease, and a node gives up at least one beat before it ends."""
    error = refusal(**values)
    assert error.code == "heartbeat_rule"
    assert "lease" in str(error)


def test_beats_may_be_slow() -> None:
    """A rule that just holds is no fault."""
    assert Settings(beat=0.9, margin=2.0).beat == 0.9


@pytest.mark.parametrize(
    ("values", "code"),
    [
        ({"lead": 5.0}, "config_range"),
        ({"max_held": 10}, "config_range"),
        ({"backoff_first": 700.0}, "backoff_range"),
    ],
)
def test_values_fit_together(values: dict[str, Any], code: str) -> None:
    """A least value is not more than its most; a claim fits into memory."""
    assert refusal(**values).code == code


@pytest.mark.parametrize("name", ["a", "duetime", "a_1", "x" * 31])
def test_namespaces(name: str) -> None:
    """A namespace is a small plain word."""
    assert Settings(namespace=name).namespace == name


@pytest.mark.parametrize(
    "name",
    ["", "x; drop", "a'b", 'a"', "x" * 32, "x" * 64, "Upper", "1a", "_a", "a\n", "sqlite", "ä"],
)
def test_other_namespaces_are_refused(name: str) -> None:
    """Nothing that would have to be quoted, and nothing that the database keeps for itself."""
    assert refusal(namespace=name).code == "prefix_invalid"


SECRET_URLS = [
    f"mysql://root:{CANARY}@db:port/x",
    f"mysql://root:a@{CANARY}@db",
    f"mysql://root:a/{CANARY}@db",
    f"mysql://root:{CANARY} {CANARY}@db",
    f"mysql://:{CANARY}@db",
    f"mysql://root:{CANARY}/x",
    f"mysql://root:1{CANARY}",
    f"root:{CANARY}@db/x",
    f"redis://u:{CANARY}://@x",
    f"sqlite:///a.db?password={CANARY}",
    f"postgresql://db/x?user=a&sslpassword={CANARY}&b=c",
    f"host=db password={CANARY} user=x",
    f"host=db PassWord = '{CANARY} {CANARY}' user=x",
    f"mysql://db/x?passwd={CANARY}",
    f"mysql://db/x?api_key={CANARY}",
]


@pytest.mark.parametrize("url", SECRET_URLS)
def test_passwords_are_never_shown(url: str) -> None:
    """A password shows in no message, from whatever source and however misplaced."""
    assert CANARY not in config.redact(url)
    texts = [
        str(refusal(store=url)),
        str(refusal(environ={"DUETIME_STORE": url})),
        str(refusal(file=written(f"store = {json.dumps(url)}"))),
        str(refusal(file=written(f"namespace = {json.dumps(url)}"))),
        str(refusal(environ={"DUETIME_WORKERS": url})),
        str(refusal(environ={f"DUETIME_{url}": "x"})),
        str(refusal(file=written(json.dumps({url: 1}), "a.json"))),
        str(refusal(store=[url])),
    ]
    assert [text for text in texts if CANARY in text] == []


def test_settings_show_no_password() -> None:
    """The password of a right URL shows in no repr of the settings."""
    for url in (f"mysql://root:{CANARY}@db:3306/x", f"mysql://root:a@{CANARY}@db/x"):
        assert CANARY not in repr(config.load(environ={"DUETIME_STORE": url}))


def test_settings_show_no_webhook_secret() -> None:
    """A secret that webhooks are signed with shows neither in a repr nor in what refuses it."""
    good = f"whsec_{CANARY * 5}"[:50]
    both = f"{good} {good}"
    for text in (good, both):
        settings = config.load(environ={"DUETIME_WEBHOOK_SECRETS": text})
        assert settings.webhook_secrets == text
        assert repr(settings) == "Settings(webhook_secrets=***)"
    bad: list[Any] = [CANARY, good[:30], f"{good} {CANARY}", f"{both},", f"{good}\n", [good]]
    for value in bad:
        error = refusal(webhook_secrets=value)
        assert error.field == "webhook_secrets"
        assert CANARY not in str(error)


def secret_file(text: str, mode: int = 0o600) -> dict[str, str]:
    path = written(text, "store.secret")
    path.chmod(mode)
    return {"DUETIME_STORE_FILE": str(path)}


def test_a_value_can_stand_in_a_file_of_its_own() -> None:
    """DUETIME_STORE_FILE reads the URL from a file and drops the newline at its end."""
    settings, origins = config.trace(environ=secret_file("memory://\r\n"))
    assert settings.store == "memory://"
    assert origins["store"] == "DUETIME_STORE_FILE (store.secret)"
    assert load(environ={"DUETIME_WORKERS_FILE": str(written("3", "w"))} | owned("w")).workers == 3


def owned(name: str) -> dict[str, str]:
    Path(name).chmod(0o640)
    return {}


@pytest.mark.parametrize(
    ("text", "mode", "code"),
    [
        ("memory://", 0o604, "secret_readable"),
        ("memory://", 0o602, "secret_readable"),
        ("", 0o600, "secret_empty"),
        (" \n", 0o600, "secret_empty"),
        ("memory://\nmemory://", 0o600, "secret_lines"),
        ("x" * 5000, 0o600, "config_file"),
        (f"mysql://u:{CANARY}@h", 0o600, "store_url_invalid"),
    ],
)
def test_secret_files_are_checked(text: str, mode: int, code: str) -> None:
    """A secret that others can read, an empty one, and one of several lines are refused."""
    error = refusal(environ=secret_file(text, mode))
    assert error.code == code
    assert "DUETIME_STORE" in str(error) or "store.secret" in str(error) or "store" in str(error)
    assert CANARY not in str(error)


def test_a_value_and_its_file_conflict() -> None:
    """The same setting as a variable and as a file is refused."""
    environ = secret_file("memory://") | {"DUETIME_STORE": "memory://"}
    assert refusal(environ=environ).code == "config_conflict"
    assert refusal(environ={"DUETIME_STORE_FILE": "nowhere"}).code == "config_file"


def test_settings_cannot_be_changed() -> None:
    """Settings are frozen: what was checked stays true."""
    with pytest.raises(AttributeError):
        Settings().workers = 5  # type: ignore[misc]  # the point


def test_the_repr_shows_what_differs() -> None:
    """The repr is short: only what is not the default."""
    assert repr(Settings(workers=3, store="memory://")) == "Settings(store='memory://', workers=3)"


@given(st.binary(max_size=80), st.sampled_from([".toml", ".json"]))
def test_no_file_breaks_the_loader(data: bytes, suffix: str) -> None:
    """Whatever stands in a file, the loader answers or refuses."""
    path = Path(f"fuzz{suffix}")
    path.write_bytes(data)
    try:
        assert load(path, environ={}) == Settings()
    except ConfigError as error:
        assert str(error).startswith(path.name)  # noqa: PT017  # a file may also be right


def test_every_field_is_explained() -> None:
    """Each setting has a comment that says what it means, above it or beside it."""
    lines = Path(str(sys.modules["duetime.config"].__file__)).read_text().splitlines()
    for name in Settings.__struct_fields__:
        at = next(i for i, line in enumerate(lines) if line.startswith(f"    {name}: "))
        assert "#" in lines[at] or lines[at - 1].lstrip().startswith("#"), name


def test_toml_is_read_by_the_standard_library() -> None:
    """The parser of TOML tells the line in the words that the loader looks for."""
    with pytest.raises(tomllib.TOMLDecodeError, match=r"at line 2"):
        tomllib.loads("a = 1\nb\n")
