"""The peers as the benchmarks use them: an environment of its own for each, and its program."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from benchmarks.result import ROOT

__all__ = ["CACHE", "PEERS", "Peer", "environment"]

CACHE = ROOT / ".bench_cache"  # made on demand, known to no one else; `make clean` removes it
_END = 10.0  # s that a worker may take to stop
_PATIENCE = 120.0  # s after which a peer is given up


def environment(name: str, requirements: Path) -> Path:
    """Return the interpreter of an environment with these requirements, made if it is not there."""
    place = CACHE / name
    made = place / "made-from"
    wanted = requirements.read_text("utf-8")
    if not made.exists() or made.read_text("utf-8") != wanted:
        print(f"Making the environment of {name}.", file=sys.stderr)
        shutil.rmtree(place, ignore_errors=True)
        subprocess.run([sys.executable, "-m", "venv", str(place)], check=True)
        pip = [place / "bin" / "python", "-m", "pip", "--disable-pip-version-check", "-q"]
        command = [*map(str, pip), "install", "--no-deps", "-r", str(requirements)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError(f"pip failed for {name}:\n{done.stdout}{done.stderr}")
        made.write_text(wanted, "utf-8")
    return place / "bin" / "python"


class Peer:
    """One peer: its name is that of its program, its requirements and its environment."""

    def __init__(
        self, name: str, store: str, drained: int, settings: dict[str, Any], *, alone: bool = False
    ) -> None:
        self.name = name
        self.store = store
        self.drained = drained  # how many it drains in some seconds
        self.settings = settings
        self.alone = alone  # creator and worker are one process

    @property
    def requirements(self) -> Path:
        """Where its packages are pinned."""
        return ROOT / "benchmarks" / "peers" / f"{self.name}.txt"

    def versions(self) -> dict[str, str]:
        """Return the pinned versions of its packages."""
        lines = self.requirements.read_text("utf-8").splitlines()
        return {line.partition("==")[0].lower(): line.partition("==")[2] for line in lines}

    @cached_property
    def _python(self) -> Path:
        return environment(self.name, self.requirements)

    def _words(self, command: str, url: str, file: Path, arguments: dict[str, Any]) -> list[str]:
        program = [str(self._python), "-m", f"benchmarks.peers.{self.name}"]
        return [*program, command, _beside(url), str(file), json.dumps(arguments)]

    def ask(self, command: str, url: str, file: Path, **arguments: Any) -> dict[str, Any]:
        """Carry out one command of its program; return what it says."""
        words = self._words(command, url, file, arguments)
        done = subprocess.run(
            words, cwd=ROOT, env=_clean(), capture_output=True, text=True, check=False
        )
        if done.returncode:
            raise RuntimeError(f"{self.name} {command} failed:\n{done.stderr[-3000:]}")
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
        return found

    @contextmanager
    def doing(self, command: str, url: str, file: Path, **arguments: Any) -> Iterator[int]:
        """Let its program do something beside, such as work; yield its process id."""
        words = self._words(command, url, file, arguments)
        log = file.with_suffix(f".{command}.log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                words, cwd=ROOT, env=_clean(), stdout=output, stderr=output, start_new_session=True
            )
        try:
            yield process.pid
        finally:
            _end(process)

    def lines(self, file: Path, count: int) -> list[tuple[int, int]]:
        """Wait until the file has so many lines; return when each job was due and ran, in µs."""
        deadline = time.monotonic() + _PATIENCE
        seen, size = 0, -1
        while time.monotonic() < deadline:
            if file.exists() and file.stat().st_size != size:
                size = file.stat().st_size
                text = file.read_bytes()
                seen = text.count(b"\n")
                if seen >= count:
                    pairs = (line.split() for line in text.splitlines())
                    return [(int(due), int(ran)) for due, ran in pairs]
            time.sleep(0.1)
        log = file.with_suffix(".work.log")
        said = log.read_text(errors="replace")[-2000:] if log.exists() else ""
        raise TimeoutError(f"{self.name} ran {seen} of {count} jobs in {_PATIENCE:g} s\n{said}")


def _end(process: subprocess.Popen[bytes]) -> None:
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(_END)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def _beside(url: str) -> str:
    """Return the URL for a peer: on SQLite a file of its own."""
    return url.removesuffix("bench.db") + "peer.db" if url.startswith("sqlite") else url


def _clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


PEERS = {
    peer.name: peer
    for peer in (
        Peer("pgqueuer", "postgresql", 20_000, {"batch_size": 1000, "dequeue_timeout": 0.05}),
        Peer(
            "procrastinate",
            "postgresql",
            2_000,
            {"concurrency": 100, "fetch_job_polling_interval": 0.05},
        ),
        Peer(
            "apscheduler",
            "postgresql",
            3_000,
            {"job_store": "SQLAlchemy, psycopg", "threads": 16},
            alone=True,
        ),
        Peer(
            "celery",
            "redis",
            3_000,
            {"pool": "prefork", "concurrency": 2, "prefetch_multiplier": 0, "redis": "not flushed"},
        ),
        Peer("huey", "sqlite", 3_000, {"fsync": True, "workers": 4, "scheduler_interval": 1}),
    )
}
