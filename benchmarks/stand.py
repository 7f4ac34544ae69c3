"""Where everything is measured: the databases, the sizes, and all contenders in turn."""

from __future__ import annotations

import gc
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from benchmarks import result
from benchmarks.contestants import Peer
from benchmarks.databases import Database
from benchmarks.result import Result

__all__ = ["Entry", "Figures", "Size", "Stand", "line", "number"]

Figures = Mapping[str, float]  # by the end of the result's name; "" where there is only one
LIMIT = "limit"
_PEER_RUNS = 2


class Size(NamedTuple):
    """How much: in the tests, in an ordinary run, and with --full."""

    quick: float
    plain: float
    full: float | None = None


class Entry(NamedTuple):
    """One contender: what it is measured as, and how it is run.

    With the system "limit" the figure stands beside all results of its store with the same name
    (all of the case, if its name is empty).
    """

    name: str
    system: str
    store: str
    run: Callable[[], Figures]
    settings: Mapping[str, Any] = {}


class Stand:
    """Where benchmarks run. `level` is "quick", "plain" or "full"."""

    def __init__(
        self,
        databases: Sequence[Database],
        systems: Sequence[str] = ("duetime",),
        *,
        peers: Sequence[Peer] = (),
        runs: int = 3,
        level: str = "plain",
        seed: int = 4711,
        known: Callable[[str, str, str], bool] = lambda *_: False,
        keep: Callable[[list[Result]], None] = lambda _: None,
    ) -> None:
        self.databases = [database for database in databases if database.store != "redis"]
        self._all = {database.store: database for database in databases}
        self.systems = systems
        self.peers = [peer for peer in peers if peer.store in self._all]
        self.runs = runs
        self.level = level
        self.seed = seed
        self.results: list[Result] = []
        self.failed: list[str] = []
        self._known = known
        self._keep_all = keep
        self.machine = result.machine()
        self.python = result.python()
        self.commit = result.commit()
        self.versions = result.versions() | self._servers()

    def _servers(self) -> dict[str, str]:
        """Return the versions of the databases."""
        found = {}
        for database in self.databases:
            raw = database.raw()
            found[database.store] = raw.version()
            raw.close()
        return found

    @property
    def quick(self) -> bool:
        """Whether this is only to show that all runs."""
        return self.level == "quick"

    def size(self, of: Size) -> float:
        """Return how much."""
        if self.level == "full" and of.full is not None:
            return of.full
        return of.quick if self.quick else of.plain

    def count(self, quick: int, plain: int, full: int | None = None) -> int:
        """Return how many."""
        return int(self.size(Size(quick, plain, full)))

    def url_for(self, peer: Peer) -> str:
        """Return where a peer keeps its jobs."""
        return self._all[peer.store].url

    def compare(self, case: str, units: str | Mapping[str, str], entries: Sequence[Entry]) -> None:
        """Run all in turn, again and again, and keep a result for each figure.

        `units` is one for all figures, or one for each. What fails is told and left out.
        """
        chosen = self._chosen(entries)
        measured: list[dict[str, list[float]]] = [{} for _ in chosen]
        began, broken = time.perf_counter(), set[int]()
        for turn in range(self.runs):
            for index, entry in enumerate(chosen):
                if index in broken or turn >= self._turns(entry):
                    continue
                gc.collect()
                try:
                    figures = entry.run()
                except Exception:  # noqa: BLE001 - one that fails must not cost the others' figures
                    broken.add(index)
                    self.failed.append(f"{entry.name or case}: {entry.system} on {entry.store}")
                    print(f"{self.failed[-1]} failed", file=sys.stderr)
                    traceback.print_exc()
                    continue
                for key, value in figures.items():
                    measured[index].setdefault(key, []).append(value)
        whole = [
            pair for i, pair in enumerate(zip(chosen, measured, strict=True)) if i not in broken
        ]
        limits = {
            (entry.store, entry.name, key): result.summary(values)[0]
            for entry, figures in whole
            if entry.system == LIMIT
            for key, values in figures.items()
        }
        found = [
            self._result(entry, key, values, units, limits)
            for entry, figures in whole
            if entry.system != LIMIT
            for key, values in figures.items()
        ]
        self.results += found
        for one in found:
            print(line(one), flush=True)
        if chosen:
            print(f"    {case}: {time.perf_counter() - began:.0f} s", flush=True)
            self._keep_all(found)

    def _turns(self, entry: Entry) -> int:
        """Return how often a contender runs: slow peers not in every turn."""
        slow = self.level == "plain" and entry.system not in ("duetime", LIMIT)
        return min(self.runs, _PEER_RUNS) if slow else self.runs

    def _chosen(self, entries: Sequence[Entry]) -> list[Entry]:
        """Leave out what is not wanted or known already, and limits that nobody needs."""
        wanted = [
            entry
            for entry in entries
            if entry.system in self.systems
            and not self._known(entry.name, entry.system, entry.store)
        ]
        ours = {entry.store for entry in wanted if entry.system == "duetime"}
        return [
            entry
            for entry in entries
            if entry in wanted or (entry.system == LIMIT and entry.store in ours)
        ]

    def _result(
        self,
        entry: Entry,
        key: str,
        values: list[float],
        units: str | Mapping[str, str],
        limits: Mapping[tuple[str, str, str], float],
    ) -> Result:
        value, low, high = result.summary(values)
        beside = [(entry.store, name, at) for name in (entry.name, "") for at in (key, "")]
        limit = None
        if entry.system == "duetime":
            limit = next((limits[place] for place in beside if place in limits), None)
        base = ("duetime", "apsw", "msgspec", "sqlite", entry.store, *_DRIVERS.get(entry.store, ()))
        versions = {name: self.versions[name] for name in base if name in self.versions}
        peer = next((peer for peer in self.peers if peer.name == entry.system), None)
        if peer is not None:
            server = {entry.store: self.versions[entry.store]} if entry.store in versions else {}
            versions = {**peer.versions(), **server}
        return Result(
            name=f"{entry.name} {key}".rstrip(),
            system=entry.system,
            store=entry.store,
            value=value,
            unit=units if isinstance(units, str) else units[key],
            low=low,
            high=high,
            runs=len(values),
            limit=limit,
            ratio=value / limit if limit else None,
            machine=self.machine,
            python=self.python,
            versions=versions,
            settings={
                **(self._all[entry.store].settings() if entry.store in self._all else {}),
                **entry.settings,
                "level": self.level,
                "seed": self.seed,
            },
            commit=self.commit,
        )

    def heading(self) -> str:
        """Return what all results of this run share."""
        where = self.machine
        used = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return (
            f"{where.cores} x {where.cpu}, {where.memory_gb} GB, {where.system}, "
            f"load {where.load}\n{self.python}, {used}, commit {self.commit}\n"
            f"{self.level} sizes, {self.runs} runs, median (least-most); "
            f"limit: bare statements or a bare timer in the same run\n"
        )


_DRIVERS = {"mariadb": ("pymysql",), "mysql": ("pymysql",), "postgresql": ("psycopg",)}


def line(found: Result) -> str:
    """Return a result as one line for people."""
    spread = f"({number(found.low)}-{number(found.high)})"
    beside = ""
    if found.limit is not None and found.ratio is not None:
        beside = f"  limit {number(found.limit)}, ratio {found.ratio:.2f}"
    who = f"{found.system}/{found.store}"
    return (
        f"{found.name:<34} {who:<24} {number(found.value):>9} {found.unit:<8} {spread:<20}{beside}"
    )


def number(value: float) -> str:
    """Return a figure with three significant digits at least, and no more than it deserves."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
