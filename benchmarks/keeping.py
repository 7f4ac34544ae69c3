"""Results as files: one line for each, merged by name, system and store."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from benchmarks.result import ROOT, Result

__all__ = ["RESULTS", "belongs", "committed", "load", "merge", "publish"]

RESULTS = ROOT / "benchmarks" / "results"


def load(path: Path | None) -> list[Result]:
    """Return the results in a file; none if there is no such file."""
    if path is None or not path.exists():
        return []
    return msgspec.json.decode(path.read_bytes(), type=list[Result])


def merge(path: Path, results: Iterable[Result]) -> None:
    """Put results in the place of those of the same name, system and store; others stay."""
    new = {_key(found): found for found in results}
    merged = [new.pop(_key(old), old) for old in load(path)]
    lines = ",\n".join(msgspec.json.encode(one).decode() for one in [*merged, *new.values()])
    draft = path.with_suffix(".part")
    draft.write_text(f"[\n{lines}\n]\n", "utf-8")
    draft.replace(path)


def committed() -> list[Result]:
    """Return the results in benchmarks/results/."""
    return [found for path in sorted(RESULTS.glob("*.json")) for found in load(path)]


def publish(results: Sequence[Result]) -> None:
    """Merge results into benchmarks/results/, a file for each store."""
    for store, group in groupby(sorted(results, key=_store), key=_store):
        merge(RESULTS / f"{store}.json", group)


def belongs(name: str, case: str) -> bool:
    """Tell whether a result is a figure of a case: its name, or that and one more word or two."""
    return name == case or name.removeprefix(case + " ") in _ENDS


_ENDS = {
    *("earliest", "p50", "p99", "p99.9", "max", "cpu", "statements", "memory"),
    *("first fired", "last fired", "settled", "settle rate", "trickle p99", "trickle max"),
}


def _key(found: Result) -> tuple[str, str, str]:
    return found.name, found.system, found.store


def _store(found: Result) -> str:
    return found.store
