"""What a process and its children cost: seconds of processor time and resident memory."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple

__all__ = ["Usage", "usage"]


class Usage(NamedTuple):
    """What was used."""

    seconds: float  # of processor time so far
    megabytes: float  # resident; pages that processes share are counted for each


def usage(pid: int) -> Usage:
    """Return what a process and all below it use. Linux alone tells."""
    ticks, pages = 0, 0
    waiting = [pid]
    while waiting:
        place = Path(f"/proc/{waiting.pop()}")
        try:
            fields = (place / "stat").read_text("ascii").rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
            pages += int((place / "statm").read_text("ascii").split()[1])
            for task in (place / "task").iterdir():
                waiting += map(int, (task / "children").read_text("ascii").split())
        except (FileNotFoundError, ProcessLookupError):
            continue  # it has just ended
    tick, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGE_SIZE")
    return Usage(ticks / tick, pages * page / 2**20)
