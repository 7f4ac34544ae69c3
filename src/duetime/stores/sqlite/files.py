"""The file itself: which paths are refused, how it is made, and whether it is still the same."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from threading import Lock

from duetime.errors import ConfigError, SchemaError, StoreUnavailable, StoreUnsupported

__all__ = ["absolute", "admit", "identity"]

# Closing any descriptor of a file drops this process's locks on it, so nobody may open the new
# file before the descriptor that made it is closed.
_making = Lock()


def absolute(path: str) -> str:
    """Return an absolute path, for a later chdir must not lead to another file.

    Raises ConfigError `sqlite_memory` or `sqlite_path`.
    """
    path = os.fspath(path)
    if path == ":memory:":
        raise ConfigError(
            'SQLite in memory loses everything: use MemoryStore ("memory://") or give a file.',
            code="sqlite_memory",
            field="path",
        )
    if not path or "\0" in path:
        raise ConfigError("The path of the SQLite file is empty.", code="sqlite_path", field="path")
    return str(Path(path).absolute())


def admit(path: str, *, create: bool) -> None:
    """Refuse what is not a file to be trusted; with `create`, make one, readable by us alone.

    Raises StoreUnsupported, StoreUnavailable, or SchemaError `schema_missing`.
    """
    with _making:
        _admit(path, create=create)


def _admit(path: str, *, create: bool) -> None:
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        if not create:
            raise SchemaError(
                f"There is no database at {path}: run `duetime migrate`.",
                code="schema_missing",
            ) from None
        _make(path)
        return
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be opened: {error.strerror}.") from error
    if stat.S_ISLNK(mode):
        raise StoreUnsupported(
            f"{path} is a symbolic link: give the path of the file itself.",
            code="sqlite_symlink",
        )
    if not stat.S_ISREG(mode):
        raise StoreUnsupported(f"{path} is not a regular file.", code="sqlite_not_a_file")


def identity(path: str) -> tuple[int, int] | None:
    """Return what tells the file from another at the same path, or None if there is none."""
    try:
        found = os.stat(path)  # noqa: PTH116 - each write passes here: 1 µs, a Path 3
    except OSError:
        return None
    return found.st_dev, found.st_ino


def _make(path: str) -> None:
    try:
        _make_directories(Path(path).parent)
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | getattr(os, "O_NOFOLLOW", 0)
        os.close(os.open(path, flags, 0o600))
    except FileExistsError:
        _admit(path, create=False)
    except OSError as error:
        raise StoreUnavailable(f"{path} cannot be made: {error.strerror}.") from error


def _make_directories(path: Path) -> None:
    """Make a directory and its missing parents, each open to us alone."""
    if not path.is_dir():
        _make_directories(path.parent)
        path.mkdir(0o700, exist_ok=True)
