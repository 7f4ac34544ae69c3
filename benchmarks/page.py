"""The tables and plots of docs/benchmarks.md, made from the committed results and nothing else."""

from __future__ import annotations

import hashlib
import re
import subprocess
from collections.abc import Sequence
from itertools import groupby
from pathlib import Path

from benchmarks import aims, keeping
from benchmarks.contestants import environment
from benchmarks.result import ROOT, Result
from benchmarks.stand import number
from benchmarks.suite import BENCHMARKS

__all__ = ["PAGE", "PLOTS", "digest", "filled", "publish"]

PAGE = ROOT / "docs" / "benchmarks.md"
PLOTS = ROOT / "docs" / "plots"
_STORES = ("sqlite", "mariadb", "mysql", "postgresql", "redis", "none")


def publish() -> None:
    """Fill the page and draw the plots anew."""
    PAGE.write_text(filled(PAGE.read_text("utf-8"), keeping.committed()), "utf-8")
    python = environment("plots", ROOT / "benchmarks" / "plots.txt")
    command = [str(python), "-m", "benchmarks.plots", str(keeping.RESULTS), str(PLOTS), digest()]
    subprocess.run(command, check=True, cwd=ROOT)


def digest(folder: Path | None = None) -> str:
    """Return what the committed results are known by: plots carry it."""
    paths = sorted((folder or keeping.RESULTS).glob("*.json"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:16]


def filled(text: str, results: Sequence[Result]) -> str:
    """Return the page with what stands between its marks replaced by tables of these results."""
    text = _between(text, "origins", _origins(results))
    text = _between(text, "aims", aims.table(results))
    return _between(text, "tables", _tables(results))


def _between(text: str, mark: str, new: str) -> str:
    begin, end = f"<!-- {mark}: begin -->", f"<!-- {mark}: end -->"
    pattern = re.compile(re.escape(begin) + ".*" + re.escape(end), re.DOTALL)
    return pattern.sub(lambda _: f"{begin}\n\n{new}\n{end}", text)


def _tables(results: Sequence[Result]) -> str:
    """Return for each benchmark a table of Duetime on its stores, and one of peers beside it."""
    order = {name: place for place, name in enumerate(BENCHMARKS)}
    ours = sorted(results, key=lambda found: order.get(_family(found), len(order)))
    parts = []
    for family, group in groupby(ours, key=_family):
        some = list(group)
        parts += [f"### {family}", ""]
        parts += _pivot([found for found in some if found.system == "duetime"], ratios=True)
        peers = [found for found in some if found.system != "duetime"]
        names = {found.name for found in peers}
        beside = [found for found in some if found.system == "duetime" and found.name in names]
        if peers:
            parts += _pivot([*beside, *peers], ratios=False)
    return "\n".join(parts)


def _family(found: Result) -> str:
    return found.name.split()[0]


def _pivot(results: Sequence[Result], *, ratios: bool) -> list[str]:
    """Return a table with a row for each name and a column for each system and store."""
    if not results:
        return []
    columns = sorted({_column(found) for found in results}, key=_place)
    rows: dict[tuple[str, str], dict[tuple[str, str], str]] = {}
    for found in results:
        rows.setdefault((found.name, found.unit), {})[_column(found)] = _cell(found, ratios=ratios)
    heads = [_head(*column) for column in columns]
    lines = [f"| | {' | '.join(heads)} |", f"|---|{'--:|' * len(heads)}"]
    for (name, unit), cells in rows.items():
        lines.append(f"| {name}, {unit} | {' | '.join(cells.get(c, '') for c in columns)} |")
    return [*lines, ""]


def _column(found: Result) -> tuple[str, str]:
    return found.system, found.store


def _place(column: tuple[str, str]) -> tuple[bool, int, str]:
    system, store = column
    return system != "duetime", _STORES.index(store), system


def _head(system: str, store: str) -> str:
    return system if store == "none" else f"{system}, {store}"


def _cell(found: Result, *, ratios: bool) -> str:
    ratio = f" [{found.ratio:.2f}]" if ratios and found.ratio is not None else ""
    return f"**{number(found.value)}** ({number(found.low)} to {number(found.high)}){ratio}"


def _origins(results: Sequence[Result]) -> str:
    """Return where, when and with what the results were measured, each once."""
    found = {
        f"- {r.system}{'' if r.store == 'none' else ' on ' + r.store}: "
        f"{r.machine.cores} x {r.machine.cpu}, {r.machine.memory_gb:g} GB, {r.machine.system}, "
        f"load {r.machine.load:g}; {r.python}; {_versions(r)}; {r.runs} runs, "
        f"{r.settings.get('level', 'plain')} sizes; commit {r.commit}": None
        for r in sorted(results, key=lambda r: _place(_column(r)))
    }
    return "\n".join(found) + "\n"


def _versions(found: Result) -> str:
    shown = (*_STORES, "duetime", found.system, "apsw", "pymysql", "psycopg", "asyncpg", "redis")
    named = {name: found.versions[name] for name in shown if name in found.versions}
    return ", ".join(f"{name} {version}" for name, version in named.items())
