"""What waiting costs: a node in a process of its own, with events that are due far away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.contestants import Peer
from benchmarks.databases import NAMESPACE, Database
from benchmarks.load import DAY, KIND, now, rows
from benchmarks.result import ROOT
from benchmarks.stand import Entry, Figures, Size, Stand
from benchmarks.usage import usage

__all__ = ["fill", "of_node", "run"]

UNITS = {"cpu": "%", "statements": "/s", "memory": "MB"}
_SECONDS = Size(0.3, 5, 30)
_SETTLING = 1.5  # s after a start whose claims and sweeps are not waiting


def run(stand: Stand) -> None:
    """Let a node wait with 100,000 events; beside: a process that has only the driver loaded."""
    count = stand.count(300, 100_000)
    seconds = stand.size(_SECONDS)
    entries = []
    for database in stand.databases:
        fill(stand, database, NAMESPACE, count)
        entries += [
            Entry(
                "waiting",
                "duetime",
                database.store,
                partial(of_node, database, NAMESPACE, "node", seconds),
                {"pending": count, "seconds": seconds, "beater": True},
            ),
            Entry(
                "waiting",
                "limit",
                database.store,
                partial(of_node, database, NAMESPACE, "bare", seconds / 10),
            ),
        ]
    if stand.level != "plain":
        entries += [_of_peer(stand, peer, count, seconds) for peer in stand.peers]
    stand.compare("waiting", UNITS, entries)


def fill(stand: Stand, database: Database, namespace: str, count: int) -> None:
    """Fill a table with events due over a day, from tomorrow on."""
    raw = database.raw(namespace)
    raw.clear()
    block = min(count, 100_000)
    raw.keep(rows(block, now() + DAY, DAY, seed=stand.seed))
    for turn in range(count // block):
        raw.refill(shift=turn)  # µs: no two of one place
    raw.settled()
    raw.close()


def of_node(database: Database, namespace: str, what: str, seconds: float) -> Figures:
    """Let a process wait; return what that cost."""
    words = [sys.executable, "-m", "benchmarks.waiting", what, database.store, database.url]
    answer = subprocess.run(
        [*words, namespace, str(seconds)], capture_output=True, text=True, check=True, cwd=ROOT
    )
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def _counted(database: Database, namespace: str) -> Callable[[], int]:
    """Return how to ask for the number of statements: in SQLite itself, or of the server."""
    if database.store != "sqlite":
        raw = database.connect(namespace)
        return raw.statements
    import apsw

    statements = [0]

    def count(*_: object) -> bool:
        statements[0] += 1
        return True

    apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(count))
    return lambda: statements[0]


def _wait(what: str, store: str, url: str, namespace: str, seconds: float) -> dict[str, Any]:
    """Wait and return what it cost: per cent of one core, statements per second, MB resident."""
    database = Database(store, url)
    ask = _counted(database, namespace)
    if what == "node":
        scheduler = database.scheduler(namespace)
        scheduler.on(KIND)(lambda event: None)
        scheduler.start(beater=True)
        time.sleep(min(_SETTLING, seconds))
    before, used, began = ask(), usage(os.getpid()).seconds, time.perf_counter()
    time.sleep(seconds)
    took = time.perf_counter() - began
    after = usage(os.getpid())
    # The look itself is one or two of the statements.
    found = {
        "cpu": 100 * (after.seconds - used) / took,
        "statements": max(0.0, (ask() - before - 2) / took),
        "memory": after.megabytes,
    }
    if what == "node":
        scheduler.close()
    return found


def _of_peer(stand: Stand, peer: Peer, count: int, seconds: float) -> Entry:
    def measure() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            url, file = stand.url_for(peer), Path(folder) / "lines"
            peer.ask("prepare", url, file)
            peer.ask("fill", url, file, first=now() + DAY, span=DAY, count=count)
            peer.ask("fill", url, file, first=now(), span=0, count=1)
            with peer.doing("work", url, file) as pid:
                peer.lines(file, 1)  # it works
                time.sleep(3 * min(1.0, seconds))
                before, began = usage(pid), time.perf_counter()
                time.sleep(seconds)
                after, took = usage(pid), time.perf_counter() - began
            cpu = 100 * (after.seconds - before.seconds) / took
            return {"cpu": cpu, "memory": after.megabytes}

    settings = {**peer.settings, "pending": count, "seconds": seconds}
    return Entry("waiting", peer.name, peer.store, measure, settings)


if __name__ == "__main__":
    what, store, url, namespace, seconds = sys.argv[1:]
    print(json.dumps(_wait(what, store, url, namespace, float(seconds))))
