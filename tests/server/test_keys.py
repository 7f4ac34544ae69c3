"""Keys of the server's callers, and the file that they are kept in."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from duetime.clock import MICROS
from duetime.errors import ConfigError, InvalidInput
from duetime.server.keys import Key, KeyRing, Scope, add, load, revoke, rotate

NOW = 1_800_000_000 * MICROS


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


def made(path: Path, *scopes: Scope, expires_at: int | None = None) -> tuple[Key, str]:
    return add(path, "billing", scopes or (Scope.READ,), NOW, expires_at)


def test_a_key_is_found_by_its_whole_text(path: Path) -> None:
    """Who offers a key in full is known; who offers anything else is not."""
    key, text = made(path, Scope.SCHEDULE, Scope.READ)
    ring = KeyRing(path)
    assert ring.find(text, NOW) == key
    others = ["", "dt", text[:-1], text + "x", text.upper(), text[3:], f"xx{text[2:]}", "é" * 40]
    others += [text.replace(key.id, "0" * 12), f"dt_{key.id}_", f"dt_{key.id}", "dt_" + "a" * 9999]
    assert [ring.find(other, NOW) for other in others] == [None] * len(others)


def test_the_secret_is_kept_nowhere(path: Path) -> None:
    """Neither the file nor the key that is lent holds the secret, and only its owner may read."""
    key, text = made(path)
    secret = text.rpartition("_")[2]
    assert len(secret) == 64
    assert secret not in path.read_text()
    assert secret not in repr(key)
    assert path.stat().st_mode & 0o777 == 0o600
    assert [item.name for item in path.parent.iterdir()] == [path.name]


def test_two_keys_never_share_a_secret(path: Path) -> None:
    """Each key has an id and a secret of its own."""
    texts = {made(path)[1] for _ in range(20)}
    assert len(texts) == 20
    assert len({key.id for key in load(path)}) == 20
    assert len({key.hash for key in load(path)}) == 20


def test_scopes_allow_what_they_name() -> None:
    """A scope allows itself; admin allows everything."""
    few = Key(id="a", name="n", scopes=(Scope.READ,), hash="", created_at=NOW)
    every = Key(id="a", name="n", scopes=(Scope.ADMIN,), hash="", created_at=NOW)
    assert [few.allows(scope) for scope in Scope] == [scope is Scope.READ for scope in Scope]
    assert all(every.allows(scope) for scope in Scope)


def test_a_key_expires(path: Path) -> None:
    """From the moment that it expires a key is taken no more."""
    _, text = made(path, expires_at=NOW + 10)
    ring = KeyRing(path)
    assert ring.find(text, NOW + 9) is not None
    assert ring.find(text, NOW + 10) is None


def test_a_rotated_key_takes_the_old_secret_for_a_while(path: Path) -> None:
    """After a rotation both secrets are taken, and after the grace time only the new one."""
    key, old = made(path)
    ring = KeyRing(path)
    new = rotate(path, key.id, NOW, grace=60)
    assert new != old
    last = NOW + 60 * MICROS
    assert [ring.find(text, last - 1) is not None for text in (old, new)] == [True, True]
    assert [ring.find(text, last) is not None for text in (old, new)] == [False, True]
    newest = rotate(path, key.id, NOW, grace=0)
    assert [ring.find(text, NOW) is not None for text in (old, new, newest)] == [0, 0, 1]


def test_a_revoked_key_is_gone_at_once(path: Path) -> None:
    """A ring that was open before a key was revoked takes it no more."""
    key, text = made(path)
    _, other = made(path)
    ring = KeyRing(path)
    revoke(path, key.id)
    assert ring.find(text, NOW) is None
    assert ring.find(other, NOW) is not None
    assert len(ring) == 1


def test_a_damaged_file_changes_nothing_for_a_ring(path: Path) -> None:
    """While the file cannot be read, the keys that were known go on being taken."""
    _, text = made(path)
    ring = KeyRing(path)
    path.write_text("{")
    assert ring.find(text, NOW) is not None


@pytest.mark.parametrize(
    ("content", "mode", "said"),
    [
        (b"{", 0o600, "damaged"),
        (b'[{"id": 1}]', 0o600, "damaged"),
        (b"\x80\x04pickle", 0o600, "damaged"),
        (b"[]", 0o644, "chmod 600"),
        (b"[]", 0o620, "chmod 600"),
        (b"[" + b" " * (1 << 20) + b"]", 0o600, "larger"),
    ],
)
def test_a_bad_file_is_refused(path: Path, content: bytes, mode: int, said: str) -> None:
    """A file that is damaged, or that others may read, is refused and left as it is."""
    path.write_bytes(content)
    path.chmod(mode)
    for call in (lambda: KeyRing(path), lambda: made(path), lambda: revoke(path, "a")):
        with pytest.raises(ConfigError, match=said) as caught:
            call()
        assert caught.value.code == "keys_file"
    assert path.read_bytes() == content


def test_links_and_folders_are_no_files(path: Path, tmp_path: Path) -> None:
    """A link may lead into another's hands, so it is refused, and a folder too."""
    _, _ = made(tmp_path / "real.json")
    path.symlink_to(tmp_path / "real.json")
    with pytest.raises(ConfigError, match="plain file"):
        load(path)
    with pytest.raises(ConfigError, match="plain file"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["", "x" * 65, "a\nb", "\x1b[31m"])
def test_a_name_is_checked(path: Path, name: str) -> None:
    """A name is short and can be shown; nothing is written otherwise."""
    with pytest.raises(InvalidInput) as caught:
        add(path, name, [Scope.READ], NOW)
    assert caught.value.code == "key_name"
    assert not path.exists()


def test_a_key_without_scopes_is_refused(path: Path) -> None:
    """A key that allows nothing is a mistake."""
    with pytest.raises(InvalidInput) as caught:
        add(path, "n", [], NOW)
    assert caught.value.code == "key_scopes"


def test_an_unknown_key_is_told(path: Path) -> None:
    """Rotating or revoking a key that is not there says so."""
    made(path)
    for call in (lambda: revoke(path, "zz"), lambda: rotate(path, "zz", NOW, 0)):
        with pytest.raises(InvalidInput) as caught:
            call()
        assert caught.value.code == "key_unknown"
    assert len(json.loads(path.read_text())) == 1


def test_no_file_is_no_keys(path: Path) -> None:
    """Before the first key was made there is none."""
    assert load(path) == []
    assert len(KeyRing(path)) == 0
    assert KeyRing(path).find("dt_a_b", NOW) is None
