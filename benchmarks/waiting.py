"""What waiting costs: a node in a process of its own, with events that are due far away."""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import apsw

from benchmarks.load import KIND, SECOND, handler, now, rows
from benchmarks.result import ROOT
from benchmarks.stand import Figures, Stand

__all__ = ["run"]

_DAY = 86_400


def run(stand: Stand) -> None:
    """Let a node wait with 100,000 events; beside: a process that has only the driver loaded."""
    count = stand.size(100_000, 300)
    seconds = stand.seconds(5)
    raw = stand.raw()
    raw.clear()
    raw.insert(rows(count, now() + _DAY * SECOND, _DAY * SECOND), 1000)
    raw.close()
    stand.compare(
        "waiting",
        {"cpu": "%", "statements": "/s", "memory": "MB"},
        partial(_child, "node", stand.url, seconds),
        partial(_child, "bare", stand.url, seconds / 10),
        pending=count,
        seconds=seconds,
    )


def _child(what: str, url: str, seconds: float) -> Figures:
    command = [sys.executable, "-m", "benchmarks.waiting", what, url, str(seconds)]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    figures: dict[str, float] = json.loads(answer.stdout)
    return figures


def _wait(what: str, url: str, seconds: float) -> Figures:
    """Wait and return what it cost: per cent of one core, statements per second, MB resident."""
    statements = [0]

    def count(*_: object) -> bool:
        statements[0] += 1
        return True

    apsw.connection_hooks.append(lambda connection: connection.set_exec_trace(count))
    if what == "node":
        stand = Stand(url)
        scheduler = stand.scheduler()
        scheduler.on(KIND)(handler)
        scheduler.start()
        time.sleep(min(1.0, seconds))  # the first claims and sweeps are not waiting
    began, used, before = time.perf_counter(), time.process_time(), statements[0]
    time.sleep(seconds)
    took = time.perf_counter() - began
    return {
        "cpu": 100 * (time.process_time() - used) / took,
        "statements": (statements[0] - before) / took,
        "memory": _resident(),
    }


def _resident() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    return pages * resource.getpagesize() / 2**20


if __name__ == "__main__":
    print(json.dumps(_wait(sys.argv[1], sys.argv[2], float(sys.argv[3]))))
