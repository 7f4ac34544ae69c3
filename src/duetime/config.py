"""Settings, checked once: defaults, then a TOML or JSON file, `DUETIME_…`, and arguments.

Each source overrules the one before. Whatever is refused is told with its place, its limit and
a near name, and never with a password.
"""

from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
from msgspec import Meta

from duetime.errors import ConfigError
from duetime.store_url import StoreUrl, parse_store, redact

__all__ = ["Settings", "StoreUrl", "load", "parse_store", "redact", "trace"]

PREFIX = "DUETIME_"
_FILE_LIMIT = 1 << 20  # bytes of a configuration file
_SECRET_LIMIT = 1 << 12  # bytes of a file that holds one value
_HIDDEN = "webhook_secrets"  # its value is told in no message
_SIGNING = re.compile(r"(?:whsec_[A-Za-z0-9+/]{32,86}={0,2}(?: +(?=whsec_)|\Z))*")
_NAMESPACE = re.compile(r"[a-z][a-z0-9_]{0,30}")

Share = Annotated[float, Meta(ge=0.001, le=60)]


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """All that can be set; durations are in seconds.

    Raises ConfigError for a value of the wrong type, out of its range, or that contradicts
    another one.
    """

    # Where the events are: sqlite:///relative/file, sqlite:////absolute/file, memory:// or
    # mysql://user:password@host:port/database (mariadb:// is the same)
    store: str = "sqlite:///duetime.db"
    # Tables are named namespace_events and so on: several schedulers can live in one database.
    namespace: str = "duetime"
    # Slices of the events table that nodes divide among themselves; fixed when tables are made.
    shards: Annotated[int, Meta(ge=1, le=1024)] = 32
    # FULL: what was acknowledged survives a power cut. NORMAL: it survives the death of the
    # process, but a power cut may lose the newest commits.
    synchronous: Literal["FULL", "NORMAL"] = "FULL"
    # How long to wait for another process that writes to the same file.
    busy_timeout: Annotated[float, Meta(ge=0, le=600)] = 10.0

    tick: Share = 0.025  # shortest time between two claims
    poll: Share = 0.07  # how often the store is asked for events that were made elsewhere
    # PostgreSQL: tell the nodes of events stored elsewhere that are due before they would look.
    notify: bool = True
    lead: Share = 0.05  # how far ahead of their due time events are claimed, at least
    lead_max: Share = 3.0  # and at most, before a spike
    # Events held in memory, claimed and not yet settled: what bounds the memory of a node.
    max_held: Annotated[int, Meta(ge=1, le=10_000_000)] = 100_000
    claim_batch: Annotated[int, Meta(ge=1, le=100_000)] = 1000  # rows per claim statement

    workers: Annotated[int, Meta(ge=1, le=10_000)] = 16  # threads for sync handlers
    async_workers: Annotated[int, Meta(ge=1, le=1_000_000)] = 100  # async handlers at once
    # Events per call of a batch handler, at most.
    batch_size: Annotated[int, Meta(ge=1, le=100_000)] = 1000
    settle_every: Annotated[float, Meta(ge=0, le=10)] = 0.01  # longest wait of an outcome
    settle_batch: Annotated[int, Meta(ge=1, le=100_000)] = 5000  # outcomes per transaction
    # How long handlers may go on after a stop was asked for; 0 gives them no time.
    grace: Annotated[float, Meta(ge=0, le=86_400)] = 30.0

    beat: Annotated[float, Meta(ge=0.01, le=60)] = 0.5  # time between two signs of life
    lease: Annotated[float, Meta(ge=1, le=3600)] = 3.0  # without a beat so long, a node is dead
    margin: Annotated[float, Meta(ge=0.01, le=3600)] = 1.0  # a node itself gives up this earlier
    # While run() is in charge of the process, a second one stands by and beats for it when a
    # handler holds the interpreter for longer than a beat (a regular expression gone wild).
    beater: bool = True
    # A handler that killed its process so often is not tried again: the event is dead.
    max_crashes: Annotated[int, Meta(ge=1, le=1000)] = 3

    retries: Annotated[int, Meta(ge=0, le=10_000)] = 18  # further attempts after the first
    backoff_first: Annotated[float, Meta(ge=0, le=31_622_400)] = 1.0  # longest first pause
    backoff_factor: Annotated[float, Meta(ge=1, le=1000)] = 2.0  # growth per retry
    backoff_max: Annotated[float, Meta(ge=0, le=31_622_400)] = 600.0  # longest pause of all
    history_kept: Annotated[int, Meta(ge=0, le=1000)] = 20  # attempts remembered per event

    max_payload: Annotated[int, Meta(ge=16, le=1 << 24)] = 65_536  # bytes of JSON per event
    # How far ahead an event may be due (100 years), and never beyond year 9999.
    max_horizon: Annotated[float, Meta(ge=1, le=252_460_800_000)] = 3_155_760_000.0
    past: Literal["fire", "reject"] = "fire"  # what becomes of an event due in the past

    # What webhooks are signed with: "whsec_" and 24 to 64 random bytes in base64; several,
    # separated by spaces, while they are exchanged, the newest first. Shown nowhere.
    webhook_secrets: str = ""

    stats_every: Annotated[float, Meta(ge=0, le=86_400)] = 10.0  # log the counts; 0 = never
    # Passed to sys.setswitchinterval while a node runs, so that a busy handler delays the others
    # less; 0 leaves it as it is.
    switch_interval: Annotated[float, Meta(ge=0, le=1)] = 0.001

    def __post_init__(self) -> None:
        """Check each value, then the rules between values; 1 becomes 1.0 where a float is due."""
        for name in _RULES:
            value = _checked(name, getattr(self, name), "")
            msgspec.structs.force_setattr(self, name, value)
        _check_rules(self)

    def __repr__(self) -> str:
        """Show what differs from the defaults, without a password."""
        parts = (
            f"{name}={'***' if name == _HIDDEN else _shown(getattr(self, name))}"
            for name, rule in _RULES.items()
            if getattr(self, name) != rule.default
        )
        return f"Settings({', '.join(parts)})"


class _Rule(NamedTuple):
    type: type[Any]
    default: Any
    low: float = -math.inf
    high: float = math.inf
    choices: tuple[Any, ...] = ()


def load(
    file: str | Path | None = None, environ: Mapping[str, str] = os.environ, **arguments: Any
) -> Settings:
    """Return the settings: defaults < file < environment < arguments (None: not given).

    Without `file`, the file is the one named by DUETIME_CONFIG, or ./duetime.toml if it exists;
    an empty DUETIME_CONFIG means none. `DUETIME_<NAME>_FILE` reads one value from a file, which
    nobody else may read. Raises ConfigError; nothing has been opened then but these files.
    """
    return trace(file, environ, **arguments)[0]


def trace(
    file: str | Path | None = None, environ: Mapping[str, str] = os.environ, **arguments: Any
) -> tuple[Settings, dict[str, str]]:
    """Return what `load` returns, and for each setting where it came from."""
    values: dict[str, Any] = {}
    origins = dict.fromkeys(_RULES, "default")
    given = {name: (value, "argument") for name, value in arguments.items() if value is not None}
    for name in given:
        _check_name(name, "argument: ", str)
    for source in (_from_file(file, environ), _from_environment(environ), given):
        for name, (value, origin) in source.items():
            values[name] = _checked(name, value, f"{origin}: ")
            origins[name] = origin
    return Settings(**values), origins


def _rules() -> dict[str, _Rule]:
    info = msgspec.inspect.type_info(Settings)
    assert isinstance(info, msgspec.inspect.StructType)
    rules = {}
    for field in info.fields:
        kind = field.type
        if isinstance(kind, msgspec.inspect.IntType):
            rule = _Rule(int, field.default, kind.ge or 0, kind.le or math.inf)
        elif isinstance(kind, msgspec.inspect.FloatType):
            rule = _Rule(float, field.default, kind.ge or 0, kind.le or math.inf)
        elif isinstance(kind, msgspec.inspect.BoolType):
            rule = _Rule(bool, field.default)
        elif isinstance(kind, msgspec.inspect.LiteralType):
            rule = _Rule(str, field.default, choices=kind.values)
        else:
            rule = _Rule(str, field.default)
        rules[field.name] = rule
    return rules


_RULES = _rules()


def _checked(name: str, value: Any, where: str) -> Any:
    """Return one value, an int as float where that is due, or raise with its type or range."""
    rule = _RULES[name]
    fits = isinstance(value, rule.type) or (rule.type is float and isinstance(value, int))
    if not fits or isinstance(value, bool) is not (rule.type is bool):
        names = {int: "a whole number", float: "a number", str: "a string", bool: "true or false"}
        expected = names[rule.type]
        raise _refuse("config_type", name, f"{where}{name} must be {expected}", value)
    if rule.choices and value not in rule.choices:
        choices = " or ".join(map(str, rule.choices))
        raise _refuse("config_range", name, f"{where}{name} must be {choices}", value)
    if rule.type in (int, float) and not rule.low <= value <= rule.high:
        limits = f"from {rule.low:,} to {rule.high:,}"
        raise _refuse("config_range", name, f"{where}{name} must be {limits}", value)
    if name == "store":
        parse_store(value)
    if name == _HIDDEN and not _SIGNING.fullmatch(value):
        text = f"{where}{name} must be whsec_ and 24 to 64 random bytes in base64, or several"
        raise _refuse("secret_invalid", name, text, value)
    if name == "namespace" and (not _NAMESPACE.fullmatch(value) or value.startswith("sqlite")):
        rule_text = f"must match {_NAMESPACE.pattern} and not begin with sqlite, which SQLite keeps"
        raise _refuse("prefix_invalid", name, f"{where}{name} {rule_text}", value)
    return float(value) if rule.type is float else value


def _check_rules(s: Settings) -> None:
    """Check the rules between values: the only place where they stand."""
    if not s.beat < s.lease / 3:
        text = f"beat ({s.beat} s) must be less than a third of lease ({s.lease} s)"
        raise ConfigError(f"{text}: a node is missed after three beats.", code="heartbeat_rule")
    if not s.margin < s.lease - s.beat:
        text = f"margin ({s.margin} s) must be less than lease - beat ({s.lease - s.beat:g} s)"
        raise ConfigError(f"{text}: a node must outlive one beat.", code="heartbeat_rule")
    for low, high, code in (
        ("lead", "lead_max", "config_range"),
        ("claim_batch", "max_held", "config_range"),
        ("backoff_first", "backoff_max", "backoff_range"),
    ):
        least, most = getattr(s, low), getattr(s, high)
        if least > most:
            text = f"{low} ({least:,}) must not be more than {high} ({most:,})."
            raise ConfigError(text, code=code, field=low)


def _from_file(file: str | Path | None, environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    """Return the values of the configuration file, each with file:line."""
    if file is None:
        named = environ.get(f"{PREFIX}CONFIG")
        file = named if named is not None else "duetime.toml"
        if file == "" or (named is None and not Path(file).exists()):
            return {}
    path = Path(file)
    text = _read(path, _FILE_LIMIT).removeprefix("\ufeff")
    values = _parsed(path, text)
    found = {}
    for name, value in values.items():
        place = f"{path}{_line(text, name)}"
        _check_name(name, f"{place}: ", str)
        found[name] = (value, place)
    return found


def _parsed(path: Path, text: str) -> dict[str, Any]:
    import json  # noqa: PLC0415 - only where there is a file
    import tomllib  # noqa: PLC0415 - as above

    try:
        if path.suffix == ".toml":
            values = tomllib.loads(text)
        elif path.suffix == ".json":
            values = json.loads(text, object_pairs_hook=_unique, parse_constant=_no_constant)
        else:
            raise ConfigError(
                f"{path}: a configuration file is named *.toml or *.json.", code="config_file"
            )
    except _DuplicateKeyError as error:
        place = f"{path}{_line(text, error.args[0], 1)}"
        raise ConfigError(
            f"{place}: {error.args[0]} stands there twice.", code="config_syntax"
        ) from None
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{path}:{error.lineno}: {error.msg} (column {error.colno}).", code="config_syntax"
        ) from None
    except tomllib.TOMLDecodeError as error:
        line = re.search(r"\(at line (\d+)", str(error))
        place = f"{path}:{line[1]}" if line else str(path)
        raise ConfigError(f"{place}: {error}.", code="config_syntax") from None
    except RecursionError:
        raise ConfigError(f"{path}: nested too deeply.", code="config_syntax") from None
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError(f"{path}: a number cannot be read.", code="config_syntax") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{path}: the file must hold one object.", code="config_type")
    return values


class _DuplicateKeyError(Exception):
    pass


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise _DuplicateKeyError(key)
        values[key] = value
    return values


def _no_constant(name: str) -> float:
    raise ValueError(name)


def _line(text: str, key: str, skip: int = 0) -> str:
    """Return ":line" where a key stands in a file, as far as it can be found; else nothing."""
    pattern = rf"""^[\s{{,\[]*["']?{re.escape(key)}["']?\s*[=:.\]]|[,{{]\s*"{re.escape(key)}"\s*:"""
    places = [match.end() for match in re.finditer(pattern, text, re.MULTILINE)]
    return f":{text.count(chr(10), 0, places[skip]) + 1}" if len(places) > skip else ""


def _from_environment(environ: Mapping[str, str]) -> dict[str, tuple[Any, str]]:
    found: dict[str, tuple[Any, str]] = {}
    for variable in sorted(environ):
        if not variable.startswith(PREFIX) or variable == f"{PREFIX}CONFIG":
            continue
        if variable.startswith(f"{PREFIX}TEST_"):
            continue
        name = variable.removeprefix(PREFIX).lower()
        text, origin = environ[variable], variable
        if name.endswith("_file") and name.removesuffix("_file") in _RULES:
            name = name.removesuffix("_file")
            text, origin = _secret(Path(text), variable), f"{variable} ({text})"
        _check_name(name, "", lambda near: f"{PREFIX}{near.upper()}")
        if name in found:
            text = f"Set {PREFIX}{name.upper()} or {variable}, not both."
            raise ConfigError(text, code="config_conflict", field=name)
        found[name] = (_converted(name, text, variable), origin)
    return found


def _converted(name: str, text: str, where: str) -> Any:
    wanted = _RULES[name].type
    if wanted is bool and text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        if wanted is int and re.fullmatch(r"[+-]?[0-9_]{1,20}", text):
            return int(text)
        if wanted is float and re.fullmatch(r"[+-]?[0-9_.]{1,30}(e[+-]?[0-9]{1,3})?", text):
            return float(text)
    except ValueError:
        pass  # such as 1.2.3: told by the check of the type, together with the rest
    return _checked(name, text, f"{where}: ")


def _secret(path: Path, variable: str) -> str:
    """Return the one line of a file that only its owner (and group) may read."""
    try:
        mode = path.stat().st_mode
    except OSError as error:
        raise ConfigError(f"{variable}: {path}: {error.strerror}.", code="config_file") from None
    if stat.S_ISREG(mode) and mode & 0o007:
        raise ConfigError(
            f"{variable}: {path} is open to all users of this machine: chmod o= {path}",
            code="secret_readable",
        )
    text = _read(path, _SECRET_LIMIT).strip("\r\n")
    if not text.strip():
        raise ConfigError(f"{variable}: {path} is empty.", code="secret_empty")
    if "\n" in text or "\r" in text:
        raise ConfigError(f"{variable}: {path} holds more than one line.", code="secret_lines")
    return text


def _read(path: Path, limit: int) -> str:
    try:
        if not path.is_file():
            reason = "it is no regular file" if path.exists() else "there is no such file"
            raise ConfigError(f"{path}: {reason}.", code="config_file")
        if path.stat().st_size > limit:
            raise ConfigError(f"{path}: it has more than {limit:,} bytes.", code="config_file")
        return path.read_bytes().decode()
    except OSError as error:
        raise ConfigError(f"{path}: {error.strerror}.", code="config_file") from None
    except UnicodeDecodeError as error:
        raise ConfigError(
            f"{path}: it is not UTF-8 (byte {error.start}).", code="config_syntax"
        ) from None


def _check_name(name: str, where: str, spell: Any) -> None:
    if name in _RULES:
        return
    near = _near(name.lower().replace("-", "_"), list(_RULES), spell)
    text = f"{where}there is no setting {_shown(spell(name[:60]))}{f': {near}' if near else '.'}"
    raise ConfigError(text, code="config_unknown", field=name)


def _near(name: str, names: list[str], spell: Any = str) -> str:
    import difflib  # noqa: PLC0415 - only for a message

    close = difflib.get_close_matches(name, names, 1)
    return f"did you mean {spell(close[0])}?" if close else ""


def _shown(value: Any) -> str:
    text = ascii(redact(value)) if isinstance(value, str) else ascii(value)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _refuse(code: str, name: str, text: str, value: Any) -> ConfigError:
    told = "" if name == _HIDDEN else f", not {_shown(value)}"
    return ConfigError(f"{text}{told}.", code=code, field=name)
