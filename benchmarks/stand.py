"""Where everything is measured: one file, one set of sizes, engine and limit in turn."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping
from typing import Any

import apsw

from benchmarks import result
from benchmarks.raw import RawSqlite
from benchmarks.result import Result
from duetime import Scheduler
from duetime.config import parse_store

__all__ = ["NAMESPACE", "Figures", "Stand", "line", "number"]

Figures = Mapping[str, float]  # by the end of the result's name; "" where there is only one
NAMESPACE = "bench"


class Stand:
    """Where benchmarks run. `quick` shrinks every size, so that the tests can run them all."""

    def __init__(self, url: str, *, runs: int = 3, quick: bool = False) -> None:
        self.url = url
        self.runs = runs
        self.quick = quick
        self.results: list[Result] = []
        self.path = parse_store(url).path
        self._machine = result.machine()
        self._python = result.python()
        self._versions = {**result.versions(), "sqlite": apsw.sqlite_lib_version()}
        self._commit = result.commit()

    def size(self, full: int, quick: int) -> int:
        """Return how many: `full`, or `quick` in the tests."""
        return quick if self.quick else full

    def seconds(self, full: float) -> float:
        """Return how long: `full`, or a moment in the tests."""
        return min(full, 0.2) if self.quick else full

    def scheduler(self, **settings: Any) -> Scheduler:
        """Return a scheduler on the file, with default settings but for those given."""
        options = {"namespace": NAMESPACE, "stats_every": 0.0, **settings}
        scheduler = Scheduler(self.url, **options)
        assert scheduler.store.shards == RawSqlite.shards
        return scheduler

    def raw(self) -> RawSqlite:
        """Return a bare connection to the same tables."""
        self.scheduler().close()  # makes the tables
        return RawSqlite(self.path, f"{NAMESPACE}_events")

    def compare(
        self,
        name: str,
        unit: str | Mapping[str, str],
        engine: Callable[[], Figures],
        limit: Callable[[], Figures] | None = None,
        **settings: Any,
    ) -> None:
        """Run engine and limit in turn, and keep a result for each figure of the engine.

        `unit` is one for all figures, or one for each.
        """
        measured: dict[str, list[float]] = {}
        limits: dict[str, list[float]] = {}
        for _ in range(self.runs):
            for values, run in ((measured, engine), (limits, limit)):
                gc.collect()
                for key, value in (run() if run else {}).items():
                    values.setdefault(key, []).append(value)
        for key, found in measured.items():
            full = f"{name} {key}".rstrip()
            of = unit if isinstance(unit, str) else unit[key]
            self._keep(full, of, found, limits.get(key), settings)

    def _keep(
        self,
        name: str,
        unit: str,
        values: list[float],
        limits: list[float] | None,
        settings: dict[str, Any],
    ) -> None:
        value, low, high = result.summary(values)
        limit = result.summary(limits)[0] if limits else None
        found = Result(
            name=name,
            system="duetime",
            store=parse_store(self.url).scheme,
            value=value,
            unit=unit,
            low=low,
            high=high,
            runs=len(values),
            limit=limit,
            ratio=value / limit if limit else None,
            machine=self._machine,
            python=self._python,
            versions=self._versions,
            settings=settings,
            commit=self._commit,
        )
        self.results.append(found)
        print(line(found), flush=True)

    def heading(self) -> str:
        """Return what all results of this run share."""
        where = self._machine
        used = ", ".join(f"{name} {number}" for name, number in self._versions.items())
        return (
            f"{where.cores} x {where.cpu}, {where.memory_gb} GB, {where.system}, "
            f"load {where.load}\n{self._python}, {used}, commit {self._commit}\n"
            f"default settings ({self.settings()}), {self.runs} runs, median (least-most); "
            f"limit: bare statements or a bare timer in the same run\n"
        )

    def settings(self) -> str:
        """Return the settings that matter most for the figures."""
        with self.scheduler() as scheduler:
            chosen = scheduler.settings
        names = ("synchronous", "shards", "claim_batch", "settle_batch", "workers", "lead")
        return ", ".join(f"{name} {getattr(chosen, name)}" for name in names)


def line(found: Result) -> str:
    """Return a result as one line for people."""
    spread = f"({number(found.low)}-{number(found.high)})"
    beside = ""
    if found.limit is not None and found.ratio is not None:
        beside = f"  limit {number(found.limit)}, ratio {found.ratio:.2f}"
    return f"{found.name:<34} {number(found.value):>10} {found.unit:<9} {spread:<22}{beside}"


def number(value: float) -> str:
    """Return a figure with three significant digits at least, and no more than it deserves."""
    if abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
