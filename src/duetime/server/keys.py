"""Keys of the server's callers: made once, shown once, kept as hashes in a file, rotated, revoked.

A key reads `dt_<id>_<secret>`. The secret has 256 bits of chance, so that its plain SHA-256 says
nothing about it; a slow hash would only slow the server down.
"""

from __future__ import annotations

import hmac
import os
import stat
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from enum import StrEnum
from hashlib import sha256
from pathlib import Path

import msgspec

from duetime.chance import secret_text
from duetime.clock import MICROS
from duetime.errors import ConfigError, InvalidInput

__all__ = ["Key", "KeyRing", "Scope", "add", "load", "revoke", "rotate"]

_MARK = "dt"
_ID_BYTES, _SECRET_BYTES = 6, 32
_LONGEST = 128  # characters of what is offered as a key
_NAME = 64  # characters of a key's name
_FILE_LIMIT = 1 << 20  # bytes


class Scope(StrEnum):
    """What a key allows."""

    SCHEDULE = "schedule"  # schedule events
    READ = "read"  # look at events, nodes and figures
    CANCEL = "cancel"  # cancel and move events
    DELIVER = "deliver"  # pull events and say what came of them
    ADMIN = "admin"  # all of these, and bulk changes, redrive, pause


class Key(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One key as it is kept: without its secret. Times are µs since 1970 UTC."""

    id: str
    name: str
    scopes: tuple[Scope, ...]
    hash: str  # SHA-256 of the secret, in hex
    created_at: int
    expires_at: int | None = None
    old_hash: str | None = None  # of the secret before the last rotation
    old_until: int = 0  # and how long that one is still taken

    def allows(self, scope: Scope) -> bool:
        """Tell whether this key may do what the scope stands for."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    def takes(self, secret: str, now: int) -> bool:
        """Tell whether this is the key's secret, in a time that does not depend on how near."""
        digest = _hash(secret)
        fits = hmac.compare_digest(digest, self.hash)
        if self.old_hash is not None and now < self.old_until:
            fits |= hmac.compare_digest(digest, self.old_hash)
        return fits and (self.expires_at is None or now < self.expires_at)


class KeyRing:
    """The keys of a file, read again when the file has changed."""

    def __init__(self, path: Path) -> None:
        """Raise ConfigError for a file that others may read, or that cannot be read."""
        self._path = path
        self._mark = _mark(path)
        self._keys = {key.id: key for key in load(path)}

    def __len__(self) -> int:
        return len(self._keys)

    def find(self, offered: str, now: int) -> Key | None:
        """Return the key that was offered in full, or None; raises nothing for nonsense."""
        self._refresh()
        mark, _, rest = offered.partition("_")
        key_id, _, secret = rest.partition("_")
        if len(offered) > _LONGEST or mark != _MARK or not offered.isascii():
            return None
        key = self._keys.get(key_id)
        return key if key is not None and key.takes(secret, now) else None

    def _refresh(self) -> None:
        mark = _mark(self._path)
        if mark == self._mark:
            return
        # A file that has become unreadable revokes nothing and admits nobody new.
        with suppress(ConfigError):
            self._keys = {key.id: key for key in load(self._path)}
            self._mark = mark


def load(path: Path) -> list[Key]:
    """Return the keys of a file, none if there is no file. Raises ConfigError `keys_file`."""
    try:
        link = path.lstat()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise _bad_file(path, f"it cannot be read ({error.strerror})") from error
    if not stat.S_ISREG(link.st_mode):
        raise _bad_file(path, "it is not a plain file")
    if link.st_mode & 0o077:
        raise _bad_file(path, "others may read it: chmod 600")
    if link.st_size > _FILE_LIMIT:
        raise _bad_file(path, f"it is larger than {_FILE_LIMIT:,} bytes")
    try:
        return msgspec.json.decode(path.read_bytes(), type=list[Key])
    except msgspec.DecodeError as error:
        raise _bad_file(path, f"it is damaged ({error})") from error
    except OSError as error:
        raise _bad_file(path, f"it cannot be read ({error.strerror})") from error


def add(
    path: Path, name: str, scopes: Iterable[Scope], now: int, expires_at: int | None = None
) -> tuple[Key, str]:
    """Make a key; return it and its text, which is never to be had again.

    Raises InvalidInput `key_name` or `key_scopes`, ConfigError `keys_file`.
    """
    if not name or len(name) > _NAME or not name.isprintable():
        raise InvalidInput(
            f"name: {name[:80]!a} must have 1 to {_NAME} printable characters.",
            code="key_name",
            field="name",
        )
    chosen = tuple(sorted(set(scopes)))
    if not chosen:
        raise InvalidInput(
            f"scopes: give at least one of {', '.join(Scope)}.", code="key_scopes", field="scopes"
        )
    key_id, secret = secret_text(_ID_BYTES), secret_text(_SECRET_BYTES)
    key = Key(
        id=key_id,
        name=name,
        scopes=chosen,
        hash=_hash(secret),
        created_at=now,
        expires_at=expires_at,
    )
    with _changing(path) as keys:
        keys.append(key)
    return key, f"{_MARK}_{key_id}_{secret}"


def rotate(path: Path, key_id: str, now: int, grace: float) -> str:
    """Give a key a new secret; the old one is taken for `grace` seconds more.

    Returns the key's new text. Raises InvalidInput `key_unknown`, ConfigError `keys_file`.
    """
    secret = secret_text(_SECRET_BYTES)
    with _changing(path) as keys:
        index = _index(keys, key_id)
        keys[index] = msgspec.structs.replace(
            keys[index],
            hash=_hash(secret),
            old_hash=keys[index].hash,
            old_until=now + int(grace * MICROS),
        )
    return f"{_MARK}_{key_id}_{secret}"


def revoke(path: Path, key_id: str) -> None:
    """Forget a key at once. Raises InvalidInput `key_unknown`, ConfigError `keys_file`."""
    with _changing(path) as keys:
        del keys[_index(keys, key_id)]


def _index(keys: list[Key], key_id: str) -> int:
    for index, key in enumerate(keys):
        if key.id == key_id:
            return index
    raise InvalidInput(
        f"There is no key {key_id[:40]!a}: see `duetime keys list`.", code="key_unknown", field="id"
    )


def _hash(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()


def _mark(path: Path) -> tuple[int, int, int] | None:
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino


@contextmanager
def _changing(path: Path) -> Iterator[list[Key]]:
    """Lend the keys of a file, and put what became of them in its place, whole or not at all."""
    keys = load(path)
    yield keys
    data = msgspec.json.format(msgspec.json.encode(keys), indent=2)
    try:
        handle, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    except OSError as error:
        raise _bad_file(path, f"its folder cannot be written to ({error.strerror})") from error
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def _bad_file(path: Path, reason: str) -> ConfigError:
    return ConfigError(f"keys {str(path)!a}: {reason}.", code="keys_file", field="keys")
