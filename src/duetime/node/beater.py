"""Beats for a node whose interpreter is held by one of its own handlers.

A catastrophic regular expression or a large power of integers keeps every other thread of its
process from running, the one that beats included: 22.8 s were measured. The others would hold the
node for dead and run its events again. So a second process stands by: it beats under the node's
number whenever the node itself is late, and only then. It does not beat for a node that is dead
(its end of the pipe closes), stopped by a signal, or silent for longer than `_PATIENCE`.
"""

from __future__ import annotations

import mmap
import os
import select
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import msgspec

from duetime.clock import MICROS, SystemClock
from duetime.config import Settings
from duetime.errors import StoreError
from duetime.stores import open_store

__all__ = ["Beater", "main"]

_PULSE = struct.Struct("=qq32s")  # boot time of the node's last beat (µs), its number, its id
_LATE = 1.5  # beats: how late a node has to be before this process beats for it
_PATIENCE = 600 * MICROS  # a node that has not run at all for so long is stuck for good
_STATE = 0  # the field after the process's name in /proc/PID/stat


class Beater:
    """The node's side: starts the process that stands by, and tells it of each beat."""

    def __init__(self, settings: Settings, info: bytes) -> None:
        file, path = tempfile.mkstemp(prefix="duetime-")
        try:
            Path(path).unlink()
            os.ftruncate(file, _PULSE.size)
            self._page = mmap.mmap(file, _PULSE.size)
            self._process = subprocess.Popen(  # noqa: S603 - our own module, no shell
                [sys.executable, "-c", f"from {__name__} import main; main()", str(file)],
                stdin=subprocess.PIPE,
                pass_fds=(file,),
                start_new_session=True,  # Ctrl-C is for the node: beats end last
            )
        finally:
            os.close(file)
        assert self._process.stdin is not None
        self._process.stdin.write(msgspec.json.encode(settings) + b"\n" + info + b"\n")
        self._process.stdin.flush()

    def pulse(self, sent: int, number: int, node: str) -> None:
        """Tell of a beat: sent at this boot time under this number (0: beat no more)."""
        _PULSE.pack_into(self._page, 0, sent, number, node.encode())

    def stop(self) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    @property
    def pid(self) -> int:
        """The process that stands by."""
        return self._process.pid


def main() -> None:
    """Stand by until the node closes the pipe."""
    page = mmap.mmap(int(sys.argv[1]), _PULSE.size, prot=mmap.PROT_READ)
    settings = msgspec.json.decode(sys.stdin.buffer.readline(), type=Settings)
    info = sys.stdin.buffer.readline().rstrip(b"\n")
    clock = SystemClock()
    store = open_store(settings, clock)
    node = os.getppid()
    beat = int(settings.beat * MICROS)
    while not select.select([sys.stdin], [], [], settings.beat / 2)[0]:
        sent, number, name = _PULSE.unpack_from(page)
        late = clock.boot() - sent
        if number == 0 or late < _LATE * beat or late > _PATIENCE:
            continue
        if os.getppid() != node or _is_stopped(node):
            continue
        try:
            store.beat(name.rstrip(b"\0").decode(), number, info)
        except StoreError:
            continue  # the node will say so itself, or be held for dead
    store.close()


def _is_stopped(pid: int) -> bool:
    """Tell whether a process is stopped or gone: then nobody may say that it lives."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rpartition(")")[2].split()[_STATE] in "TtZX"
