"""How long `import duetime` takes, in fresh interpreters."""

from __future__ import annotations

import subprocess
import sys
import time
from statistics import median

from benchmarks.result import ROOT
from benchmarks.stand import Entry, Figures, Stand

__all__ = ["run"]

_TURNS = 5


def run(stand: Stand) -> None:
    """Start interpreters that import nothing, and the package; the difference is the figure."""
    turns = stand.count(1, _TURNS)

    def above() -> Figures:
        pairs = [(_start("pass"), _start("import duetime")) for _ in range(turns)]
        return {"": median(loaded - bare for bare, loaded in pairs)}

    def bare() -> Figures:
        return {"": median(_start("pass") for _ in range(turns))}

    kept = {"limit": "an interpreter that imports nothing"}
    entries = [
        Entry("imports", "duetime", "none", above, kept),
        Entry("imports", "limit", "none", bare),
    ]
    stand.compare("imports", "ms", entries)


def _start(program: str) -> float:
    """Return the ms from start to end of an interpreter that runs this."""
    began = time.perf_counter()
    environment = {"PYTHONPATH": str(ROOT / "src")}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment)
    return (time.perf_counter() - began) * 1e3
