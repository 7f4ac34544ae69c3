"""Fired minus due, of events spread evenly, while others are created and settled."""

from __future__ import annotations

import tempfile
from functools import partial
from pathlib import Path

from benchmarks.contestants import Peer
from benchmarks.databases import NAMESPACE, Database
from benchmarks.load import BUSY, KIND, SECOND, create_evenly, now, quantiles
from benchmarks.nodes import running
from benchmarks.stand import Entry, Figures, Size, Stand
from benchmarks.worker import Create, Spec

__all__ = ["beside", "own", "run"]

_SECONDS = Size(0.3, 4, 30)
_TIMER = Size(0.1, 1, 3)  # seconds of a bare timer
_AHEAD = Size(0.5, 1, 3)  # seconds between creation and due time, in the node's own process
_SHORTLY = 0.2  # the same, by another process
_BUSY_RATE = 20  # events/s that compute for 50 ms each: all that one interpreter can


def run(stand: Stand) -> None:
    """Measure at four rates, created ahead or shortly before; beside: a bare timer."""
    for rate in (200, 1_000) if stand.quick else (200, 1_000, 5_000, 10_000):
        entries = []
        for database in stand.databases:
            engine = partial(own, stand, database, NAMESPACE, rate)
            entries += _pair(stand, f"lateness {rate:,}/s", database, engine)
        if rate <= (200 if stand.level == "plain" else 1_000):
            entries += [_of_peer(stand, peer, rate) for peer in stand.peers]
        stand.compare(f"lateness at {rate:,}/s", "ms", entries)
    rates = {"quick": (1_000,), "plain": (1_000, 10_000), "full": (200, 1_000, 5_000, 10_000)}
    for rate in rates[stand.level]:
        entries = []
        for database in stand.databases:
            engine = partial(beside, stand, database, rate)
            entries += _pair(stand, f"lateness {rate:,}/s, 0.2 s ahead", database, engine)
        stand.compare(f"lateness at {rate:,}/s, created 0.2 s ahead", "ms", entries)
    entries = []
    for database in stand.databases:
        engine = partial(beside, stand, database, 200, busy=True)
        entries += _pair(stand, "lateness 200/s, busy handler", database, engine)
    stand.compare("lateness beside a handler that computes", "ms", entries)


def _pair(
    stand: Stand, name: str, database: Database, engine: partial[dict[str, Figures]]
) -> list[Entry]:
    """Return the engine's entry and its limit: the bare timer of the same process, just before."""
    timers: list[Figures] = []

    def measure() -> Figures:
        figures = engine()
        timers.append(figures["timer"])
        return figures["late"]

    settings = {"seconds": stand.size(_SECONDS), "timer_seconds": stand.size(_TIMER)}
    return [
        Entry(name, "duetime", database.store, measure, settings),
        Entry(name, "limit", database.store, lambda: timers[-1]),
    ]


def _empty(database: Database) -> None:
    raw = database.raw()
    raw.clear()
    raw.close()


def own(
    stand: Stand, database: Database, namespace: str, rate: int, seconds: float = 0
) -> dict[str, Figures]:
    """Let the node's own process create events some seconds ahead."""
    if namespace == NAMESPACE:
        _empty(database)
    seconds = seconds or stand.size(_SECONDS)
    count, ahead = int(rate * seconds), stand.size(_AHEAD)
    spec = Spec(
        database.store,
        database.url,
        namespace,
        "note",
        timer=(rate, stand.size(_TIMER)),
        create=Create(rate, count, ahead),
    )
    with running(spec) as node:
        timer = node.ready()
        node.go(now() + int((ahead + 0.7) * SECOND))
        node.settled(count)
        noted = node.end()[0]
    assert noted["count"] == count
    return {"late": noted["late"], "timer": timer}


def beside(
    stand: Stand, database: Database, rate: int, *, busy: bool = False
) -> dict[str, Figures]:
    """Create events here, 0.2 s ahead; with `busy`, also some whose handler computes."""
    _empty(database)
    seconds = stand.size(_SECONDS)
    count, computing = int(rate * seconds), int(_BUSY_RATE * seconds) if busy else 0
    spec = Spec(database.store, database.url, NAMESPACE, "note", timer=(rate, stand.size(_TIMER)))
    with running(spec) as node, database.scheduler() as scheduler:
        timer = node.ready()
        first = now() + SECOND
        node.go()
        if busy:
            wishes = ({"kind": BUSY, "after": 1 + i / _BUSY_RATE} for i in range(computing))
            scheduler.schedule_many(wishes)
        create_evenly(scheduler, KIND, first, rate, count, _SHORTLY)
        node.settled(count + computing)
        noted = node.end()[0]
    assert noted["count"] == count
    return {"late": noted["late"], "timer": timer}


def _of_peer(stand: Stand, peer: Peer, rate: int) -> Entry:
    seconds = stand.size(_SECONDS)
    count, ahead = max(1, int(rate * seconds)), 2.0

    def measure() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            url, file = stand.url_for(peer), Path(folder) / "lines"
            peer.ask("prepare", url, file)
            wish = {"rate": rate, "count": count, "ahead": ahead}
            if peer.alone:
                with peer.doing("evenly", url, file, first=now() + 5 * SECOND, **wish):
                    return quantiles([ran - due for due, ran in peer.lines(file, count)])
            with peer.doing("work", url, file):
                warm = now() + SECOND
                peer.ask("fill", url, file, first=warm, span=0, count=1)
                peer.lines(file, 1)  # it works
                peer.ask("evenly", url, file, first=now() + 4 * SECOND, **wish)
                ran = [pair for pair in peer.lines(file, count + 1) if pair[0] != warm]
            return quantiles([ran - due for due, ran in ran])

    settings = {**peer.settings, "seconds": seconds, "created_ahead": ahead}
    return Entry(f"lateness {rate:,}/s", peer.name, peer.store, measure, settings)
