"""A process that keeps one server for a whole test session and ends it when the session ends.

It also ends the server when the session is gone without a word, killed for example.
"""

from __future__ import annotations

import json
import shutil
import signal
import sys
import threading
from contextlib import suppress
from pathlib import Path

from tests.servers.galera import Cluster
from tests.servers.local import LocalServer

__all__ = ["main"]

_LOOK = 0.5  # s between two looks whether the session still lives


def main(kind: str, folder: str, owner: str) -> None:
    """Start a server in `folder`, tell by a file how that went, and stop it in the end."""
    told_to_stop = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(each, lambda *_: told_to_stop.set())
    place = Path(folder)
    own = place / "server"
    server = Cluster(own) if kind == "galera" else LocalServer(kind, own)
    birth = _birth(int(owner))
    try:
        try:
            server.start()
        except Exception as error:  # noqa: BLE001 - the tests that need it shall tell
            _tell(place / "failed", str(error))
        else:
            _tell(place / "ready", json.dumps(server.address._asdict()))
        while _birth(int(owner)) == birth is not None and not told_to_stop.wait(_LOOK):
            pass
    finally:
        server.stop()
        shutil.rmtree(place, ignore_errors=True)
        if not told_to_stop.is_set():
            _clean_up_after(place)


def _clean_up_after(place: Path) -> None:
    """Remove what a session that died has left; the last guardian removes the folder."""
    for name in ("lock", f"{place.name}.pid"):
        (place.parent / name).unlink(missing_ok=True)
    with suppress(OSError):
        place.parent.rmdir()


def _tell(path: Path, text: str) -> None:
    """Write a file that is seen whole or not at all."""
    draft = path.with_suffix(".part")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def _birth(pid: int) -> str | None:
    """Return when a process began, which tells it from a later one of the same number."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return None
    fields = text.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]


if __name__ == "__main__":
    main(*sys.argv[1:])
