"""One measured figure, and where and with what it was measured."""

from __future__ import annotations

import os
import platform
import subprocess
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

import msgspec

__all__ = ["Machine", "Result", "commit", "machine", "summary", "versions"]

ROOT = Path(__file__).resolve().parents[1]


class Machine(msgspec.Struct, frozen=True):
    """Where a figure was measured."""

    cores: int
    cpu: str
    memory_gb: float
    system: str
    load: float  # load average of the last minute when the benchmark began


class Result(msgspec.Struct, frozen=True):
    """One figure: the median of several runs, with the least and the greatest of them.

    `limit` is what bare statements or a bare timer reached in the same run, on the same file;
    `ratio` is value / limit. Both are None where nothing stands beside the figure.
    """

    name: str
    system: str
    store: str
    value: float
    unit: str
    low: float
    high: float
    runs: int
    limit: float | None
    ratio: float | None
    machine: Machine
    python: str
    versions: dict[str, str]
    settings: dict[str, Any]
    commit: str


def summary(values: list[float]) -> tuple[float, float, float]:
    """Return median, least and greatest."""
    return median(values), min(values), max(values)


def machine() -> Machine:
    """Return what can be told of this machine."""
    pages = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return Machine(
        os.cpu_count() or 1,
        _cpu(),
        round(pages / 2**30, 1),
        f"{platform.system()} {platform.release()}",
        round(os.getloadavg()[0], 2),
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    models = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(models, platform.machine())


def python() -> str:
    """Return the interpreter: its version, and whether profiles optimised its build."""
    import sysconfig

    flags = sysconfig.get_config_var("PY_CFLAGS") or ""
    arguments = sysconfig.get_config_var("CONFIG_ARGS") or ""
    profiled = "-fprofile-use" in flags or "--enable-optimizations" in arguments
    build = "profile-guided" if profiled else "not profile-guided"
    return f"{platform.python_implementation()} {platform.python_version()} ({build})"


def versions() -> dict[str, str]:
    """Return the versions of what does the work."""
    return {name: version(name) for name in ("duetime", "apsw", "msgspec", "pymysql", "psycopg")}


def commit() -> str:
    """Return the commit that is checked out, with a + where source files differ from it."""
    try:
        head = _git("rev-parse", "--short=12", "HEAD")
        dirty = _git("status", "--porcelain", "--", "src", "benchmarks/*.py")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + ("+" if dirty else "")


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
