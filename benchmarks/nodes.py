"""Nodes in processes of their own, started, awaited and ended by a benchmark."""

from __future__ import annotations

import json
import os
import selectors
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from benchmarks.result import ROOT
from benchmarks.worker import Spec

__all__ = ["Nodes", "running"]

PATIENCE = 120.0  # s after which a benchmark is given up
_END = 30.0  # s that a node may take to stop


class Nodes:
    """Some nodes on one database."""

    def __init__(self, processes: list[subprocess.Popen[bytes]]) -> None:
        self._processes = processes
        self._said: list[dict[str, Any]] = [{} for _ in processes]
        self._rests = [b""] * len(processes)
        self._selector = selectors.DefaultSelector()
        for index, process in enumerate(processes):
            assert process.stdout is not None
            self._selector.register(process.stdout, selectors.EVENT_READ, index)

    def ready(self) -> dict[str, float]:
        """Wait until all are ready; return the figures of the first one's bare timer."""
        self._until(lambda: all("ready" in said for said in self._said))
        found: dict[str, float] = self._said[0]["ready"]
        return found

    def go(self, first: int = 0) -> None:
        """Start them; `first` is when the first of the events that they create is due."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps({"first": first}).encode() + b"\n")
            process.stdin.flush()

    def settled(self, count: int) -> tuple[float, float]:
        """Wait until so many are settled; return when the first was fired, the last settled."""
        self._until(lambda: sum(said.get("settled", 0) for said in self._said) >= count)
        firsts = [said["first"] for said in self._said if said.get("first")]
        return min(firsts), max(said.get("at", 0.0) for said in self._said)

    def end(self) -> list[dict[str, Any]]:
        """Stop them; return what each noted."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.close()
        self._until(lambda: all("notes" in said for said in self._said))
        return [said["notes"] for said in self._said]

    def _until(self, reached: Callable[[], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not reached():
            if time.monotonic() > deadline:
                raise TimeoutError(f"the nodes said no more than {self._said}")
            for key, _ in self._selector.select(1.0):
                data = os.read(key.fd, 65_536)
                if data:
                    self._hear(key.data, data)
                elif "notes" in self._said[key.data]:
                    self._selector.unregister(key.fd)  # it has said all
                else:
                    raise RuntimeError("a node has died")

    def _hear(self, index: int, data: bytes) -> None:
        *lines, self._rests[index] = (self._rests[index] + data).split(b"\n")
        for line in lines:
            self._said[index].update(json.loads(line))


@contextmanager
def running(spec: Spec, count: int = 1) -> Iterator[Nodes]:
    """Start nodes; whatever happens, they are gone in the end."""
    words = [sys.executable, "-m", "benchmarks.worker", msgspec.json.encode(spec).decode()]
    processes = [
        subprocess.Popen(words, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        for _ in range(count)
    ]
    try:
        yield Nodes(processes)
    finally:
        for process in processes:
            if process.stdin and not process.stdin.closed:
                process.stdin.close()
        for process in processes:
            try:
                process.wait(_END)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            if process.stdout:
                process.stdout.close()
