"""What `duetime check` looks at on an SQLite file: library, place, settings, schema, integrity."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from duetime.errors import SchemaError
from duetime.stores.contract import Finding
from duetime.stores.sqlite import checkpoint
from duetime.stores.sqlite.driver import CORRUPT, Connection, Driver, affected

__all__ = ["file_system", "library", "look", "schema"]

_NETWORKS = {"nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "afs", "ceph", "glusterfs", "ncpfs"}
_LITTLE_ROOM = 256 * 2**20  # bytes: about three times the largest write-ahead log


def look(
    db: Connection, driver: Driver, path: str, verify: Callable[[Connection], None]
) -> list[Finding]:
    """Return what is to be said about this file, the good things too."""
    return [
        library(driver),
        file_system(path, _mounts()),
        *_file(path),
        _mode(db),
        _schema(db, verify),
        _integrity(db, driver),
    ]


def library(driver: Driver) -> Finding:
    """Judge the version of SQLite."""
    if affected(driver.version):
        text = checkpoint.advice(driver.version, driver.through)
        return Finding("warning", "sqlite_version", text)
    return Finding("ok", "sqlite_version", f"SQLite {driver.version} through {driver.through}.")


def file_system(path: str, mounts: str) -> Finding:
    """Judge where the file lies; `mounts` is the text of /proc/mounts."""
    best, kind = "", "unknown"
    real = os.path.realpath(path)
    for line in mounts.splitlines():
        _, point, type_, *_ = [*line.split(" "), "", ""]
        point = point.replace("\\040", " ")
        if _inside(real, point) and len(point) >= len(best):
            best, kind = point, type_
    if kind in _NETWORKS or kind.startswith("fuse.ss"):
        return Finding(
            "error",
            "file_system",
            f"{path} lies on {best}, a network file system ({kind}): its locks and shared memory "
            "do not work between machines. Use a local disk, or a database server.",
        )
    return Finding("ok", "file_system", f"{path} lies on {best or 'an unknown mount'} ({kind}).")


def _inside(path: str, point: str) -> bool:
    return bool(point) and (path == point or path.startswith(point.rstrip("/") + "/"))


def _mounts() -> str:
    try:
        return Path("/proc/mounts").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return ""


def _file(path: str) -> Iterator[Finding]:
    free = shutil.disk_usage(Path(path).parent).free
    level = "ok" if free >= _LITTLE_ROOM else "warning"
    advice = "" if level == "ok" else ": free some, or scheduling will soon be refused"
    yield Finding(level, "free_space", f"{free // 2**20:,} MiB are free{advice}.")
    mode = stat.S_IMODE(Path(path).stat().st_mode)
    if mode & 0o077:
        text = f"Others may open {path} (mode {mode:04o}): chmod 600, unless that is meant."
        yield Finding("warning", "file_mode", text)
    else:
        yield Finding("ok", "file_mode", f"Only its owner may open {path}.")


def schema(error: SchemaError) -> Finding:
    """Return what is wrong with the tables."""
    return Finding("error", "schema", str(error))


def _mode(db: Connection) -> Finding:
    mode = (db.first("PRAGMA journal_mode") or ("unknown",))[0]
    if mode == "wal":
        return Finding("ok", "journal_mode", "Write-ahead logging is on.")
    text = f"The journal mode is {mode}: Duetime switches it to WAL when it opens the file."
    return Finding("warning", "journal_mode", text)


def _schema(db: Connection, verify: Callable[[Connection], None]) -> Finding:
    try:
        verify(db)
    except SchemaError as error:
        return schema(error)
    return Finding("ok", "schema", "The tables are those of this program.")


def _integrity(db: Connection, driver: Driver) -> Finding:
    try:
        faults = [fault for (fault,) in db.rows("PRAGMA integrity_check(10)")]
    except driver.error as error:
        if driver.code(error) != CORRUPT:
            raise
        faults = [str(error)]
    if faults == ["ok"]:
        return Finding("ok", "integrity", "integrity_check found nothing.")
    text = f"integrity_check found: {'; '.join(map(str, faults))[:500]}. Restore a backup."
    return Finding("error", "integrity", text)
