"""A disk that fails now and then: SQLite reads and writes through it, in this process only."""

from __future__ import annotations

import random
from pathlib import Path

import apsw

__all__ = ["make_shaky"]


class _File(apsw.VFSFile):
    """A file whose writes and syncs fail by chance, until a file named `calm` lies beside it."""

    def __init__(
        self, vfs: str, name: str | apsw.URIFilename, flags: list[int], rate: float
    ) -> None:
        super().__init__(vfs, name, flags)
        self._rate = rate
        path = name.filename() if isinstance(name, apsw.URIFilename) else name
        self._calm = Path(path).parent / "calm"

    def _fails(self) -> bool:
        return random.random() < self._rate and not self._calm.exists()

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802 - SQLite's name
        if self._fails():
            raise apsw.IOError("the disk did not take a page")
        super().xWrite(data, offset)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's name
        if self._fails():
            raise apsw.IOError("the disk did not sync")
        super().xSync(flags)


class _Disk(apsw.VFS):
    def __init__(self, rate: float) -> None:
        self._rate = rate
        super().__init__("shaky", "unix", makedefault=True)

    def xOpen(  # noqa: N802 - SQLite's name
        self, name: str | apsw.URIFilename | None, flags: list[int]
    ) -> apsw.VFSFile:
        if name is None:
            return super().xOpen(name, flags)
        return _File("unix", name, flags, self._rate)


_disks: list[_Disk] = []


def make_shaky(rate: float) -> None:
    """Let this share of all writes and syncs of this process fail from now on."""
    _disks.append(_Disk(rate))
