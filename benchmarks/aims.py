"""What Duetime is to reach, and whether the committed results do: the table of aims."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from benchmarks.result import Result
from benchmarks.stand import number

__all__ = ["AIMS", "WHY", "Aim", "table"]

Find = Callable[[str, str, str], Result | None]  # by name, system and store
_SERVERS = ("mariadb", "mysql", "postgresql")
_ALL = ("sqlite", *_SERVERS)


class Aim(NamedTuple):
    """One figure and what it is to be. `met` answers for a result that was found."""

    text: str
    name: str
    stores: Sequence[str]
    met: Callable[[Result, Find], bool]


# Why an aim is missed on a store, or what forbids it, with the profile that proves it.
WHY: Mapping[tuple[str, str], str] = {}


def _share(least: float) -> Callable[[Result, Find], bool]:
    return lambda found, _: found.ratio is not None and found.ratio >= least


def _least(least: float) -> Callable[[Result, Find], bool]:
    return lambda found, _: found.value >= least


def _most(most: float) -> Callable[[Result, Find], bool]:
    return lambda found, _: found.value <= most


def _ten_times_pgqueuer(found: Result, find: Find) -> bool:
    peer = find("drain append", "pgqueuer", "postgresql")
    limit = found.limit or 0.0
    return peer is not None and found.value >= min(10 * peer.value, 0.8 * limit)


def _as_threads(found: Result, find: Find) -> bool:
    threads = find("create 64 threads", "duetime", found.store)
    return threads is not None and found.value >= threads.value


def _flat(name: str, *, rising: bool = False) -> Callable[[Result, Find], bool]:
    """Tell whether a figure is within a fifth of that at 100,000 pending."""

    def met(found: Result, find: Find) -> bool:
        small = find(name.format("100,000"), "duetime", found.store)
        if small is None:
            return False
        worse = found.value / small.value
        return worse <= 1.2 if rising else worse >= 0.8

    return met


def _grown(text: str, case: str, end: str = "", *, rising: bool = False) -> list[Aim]:
    name = f"growth {case}, {{}} pending {end}".rstrip()
    return [
        Aim(f"{text} at {size} pending", name.format(size), _ALL, _flat(name, rising=rising))
        for size in ("1,000,000", "5,000,000")
    ]


AIMS: Sequence[Aim] = (
    Aim("drain, one process: 0.8 of the bare loop", "drain sync", _ALL, _share(0.8)),
    Aim(
        "drain, appending to a file: 10 times PgQueuer, or 0.8 of the bare loop if that is less",
        "drain append",
        ("postgresql",),
        _ten_times_pgqueuer,
    ),
    Aim(
        "create, 64 callers: 0.9 of bare inserts that share commits",
        "create 64 threads",
        _ALL,
        _share(0.9),
    ),
    Aim("create, 64 tasks: as fast as threads", "create 64 tasks", _ALL, _as_threads),
    Aim(
        "create, 64 callers: 5 times triggerhook (1,774/s)",
        "create 64 threads",
        ("mysql",),
        _least(8_870),
    ),
    Aim(
        "create, 64 callers: 5 times triggerhook (2,953/s)",
        "create 64 threads",
        ("mariadb",),
        _least(14_765),
    ),
    Aim("create, 1 caller: 0.8 of a bare insert", "create 1 threads", _ALL, _share(0.8)),
    Aim("bulk: 0.7 of bare inserts of many rows", "create in bulk", _ALL, _share(0.7)),
    *(
        Aim(
            f"lateness p99 at {rate}: {most} ms at most",
            f"lateness {rate} p99",
            stores,
            _most(most),
        )
        for rate, most, stores in (
            ("200/s", 1, _SERVERS),
            ("200/s", 2, ("sqlite",)),
            ("1,000/s", 2, _SERVERS),
            ("1,000/s", 5, ("sqlite",)),
            ("10,000/s", 5, _SERVERS),
            ("1,000/s, 0.2 s ahead", 2, _SERVERS),
            ("10,000/s, 0.2 s ahead", 5, _SERVERS),
        )
    ),
    *(
        Aim(f"never early at {rate}", f"lateness {rate} earliest", _ALL, _least(0))
        for rate in ("200/s", "1,000/s", "5,000/s", "10,000/s")
    ),
    *(
        Aim(
            f"spike of {count}: fired within {most} ms",
            f"spike {count} last fired",
            _ALL,
            _most(most),
        )
        for count, most in (("15,000", 30), ("100,000", 150), ("300,000", 500))
    ),
    Aim(
        "spike of 100,000: settled at 100,000/s",
        "spike 100,000 settle rate",
        ("mariadb", "mysql"),
        _least(100_000),
    ),
    Aim("spike: others' p99 50 ms at most", "spike 100,000 trickle p99", _ALL, _most(50)),
    Aim("from memory to a sync handler: 500,000/s", "handover sync", ("none",), _least(500_000)),
    Aim("from memory to a batch handler: 1,000,000/s", "handover batch", ("none",), _least(1e6)),
    Aim("cancel, 64 callers: 10,000/s", "cancel 64 threads", _ALL, _least(10_000)),
    Aim("cancel in bulk: 0.7 of bare deletes", "cancel in bulk", _ALL, _share(0.7)),
    *_grown("create, 64 callers: flat", "create 64 threads"),
    *_grown("drain: flat", "drain sync"),
    *_grown("lateness p99: flat", "lateness 1,000/s", "p99", rising=True),
    *(
        Aim(f"{what}, {size} pending: {most} at most", f"{name} {end}", _ALL, _most(most))
        for size, name in (
            ("100,000", "waiting"),
            ("5,000,000", "growth waiting, 5,000,000 pending"),
        )
        for what, end, most in (
            ("memory (MB)", "memory", 120),
            ("processor (%)", "cpu", 1),
            ("statements/s", "statements", 25),
        )
    ),
    Aim("import: 60 ms above bare Python", "imports", ("none",), _most(60)),
)


def table(results: Iterable[Result]) -> str:
    """Return every aim with its figure, limit and verdict, as far as there are results."""
    known = {(found.name, found.system, found.store): found for found in results}

    def find(name: str, system: str, store: str) -> Result | None:
        return known.get((name, system, store))

    lines = [
        "| aim | store | figure | limit | verdict |",
        "|---|---|--:|--:|---|",
    ]
    for aim in AIMS:
        for store in aim.stores:
            found = find(aim.name, "duetime", store)
            if found is None:
                continue
            limit = "" if found.limit is None else number(found.limit)
            met = aim.met(found, find)
            why = WHY.get((aim.name, store), "")
            verdict = "met" if met else f"**missed**{': ' if why else ''}{why}"
            figure = f"{number(found.value)} {found.unit}"
            cells = (aim.text, "" if store == "none" else store, figure, limit, verdict)
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
