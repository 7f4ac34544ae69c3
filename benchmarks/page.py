"""Results as files, and the tables of docs/benchmarks.md made from them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import msgspec

from benchmarks.result import ROOT, Result
from benchmarks.stand import number

__all__ = ["PAGE", "RESULTS", "committed", "filled", "publish", "save", "tables"]

RESULTS = ROOT / "benchmarks" / "results"
PAGE = ROOT / "docs" / "benchmarks.md"
_BEGIN, _END = "<!-- tables: begin -->", "<!-- tables: end -->"
_BETWEEN = re.compile(re.escape(_BEGIN) + ".*" + re.escape(_END), re.DOTALL)


def save(results: Sequence[Result], path: Path) -> None:
    """Write results as a JSON list, one line for each, so that a change can be read as one."""
    lines = ",\n".join(msgspec.json.encode(found).decode() for found in results)
    path.write_text(f"[\n{lines}\n]\n", "utf-8")


def committed() -> list[Result]:
    """Return the results in benchmarks/results/."""
    return [
        result
        for path in sorted(RESULTS.glob("*.json"))
        for result in msgspec.json.decode(path.read_bytes(), type=list[Result])
    ]


def publish(results: Iterable[Result]) -> None:
    """Put results in the place of those with the same names, and fill the page anew."""
    for store, group in groupby(sorted(results, key=_store), key=_store):
        path = RESULTS / f"{store}.json"
        kept = msgspec.json.decode(path.read_bytes(), type=list[Result]) if path.exists() else []
        new = {found.name: found for found in group}
        merged = [new.pop(old.name, old) for old in kept]
        save([*merged, *new.values()], path)
    PAGE.write_text(filled(PAGE.read_text("utf-8"), committed()), "utf-8")


def filled(text: str, results: Sequence[Result]) -> str:
    """Return the page with its tables replaced by those of these results."""
    return _BETWEEN.sub(lambda _: f"{_BEGIN}\n\n{tables(results)}\n{_END}", text)


def tables(results: Sequence[Result]) -> str:
    """Return one table for each benchmark, and where its figures come from."""
    return "\n".join(
        _table(name, list(group))
        for name, group in groupby(results, key=lambda r: r.name.split()[0])
    )


def _table(name: str, results: list[Result]) -> str:
    lines = [f"### {name}", ""]
    for origin in _origins(results):
        lines += [origin, ""]
    lines += [
        "| | median | least to greatest | unit | limit | ratio |",
        "|---|--:|--:|---|--:|--:|",
    ]
    for found in results:
        limit = "" if found.limit is None else number(found.limit)
        ratio = "" if found.ratio is None else f"{found.ratio:.2f}"
        spread = f"{number(found.low)} to {number(found.high)}"
        cells = (found.name, number(found.value), spread, found.unit, limit, ratio)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, ""])


def _origins(results: list[Result]) -> list[str]:
    """Return where the results were measured, each place once."""
    found = {
        f"{r.system} on {r.store}, {r.machine.cores} x {r.machine.cpu}, "
        f"{r.machine.memory_gb:g} GB, {r.machine.system}, load {r.machine.load:g}; {r.python}; "
        f"{', '.join(f'{name} {number_}' for name, number_ in r.versions.items())}; "
        f"{r.runs} runs; commit {r.commit}": None
        for r in results
    }
    return list(found)


def _store(found: Result) -> str:
    return found.store
