"""How fast a backlog goes: from the first firing to the last settlement, by nodes of their own."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from benchmarks.contestants import Peer
from benchmarks.databases import NAMESPACE, Database
from benchmarks.load import SECOND, now, rows
from benchmarks.nodes import running
from benchmarks.raw import drain
from benchmarks.stand import Entry, Figures, Stand
from benchmarks.worker import Spec
from duetime import Event

__all__ = ["nodes_drain", "run"]

_HANDLERS = ("none", "async", "batch", "append")


def run(stand: Stand) -> None:
    """Drain events that were due over the last minute, by each handler, by 1, 2 and 4 nodes."""
    count = stand.count(500, 200_000)
    refills = {database.store: _kept(stand, database, count) for database in stand.databases}
    entries = []
    for database in stand.databases:
        refill = refills[database.store]
        for handler in _HANDLERS:
            name = f"drain {_named(handler)}"
            engine = partial(_engine, database, refill, handler, 1, count)
            entries.append(Entry(name, "duetime", database.store, engine, {"events": count}))
        limit = partial(_limit, database, refill)
        entries.append(Entry("", "limit", database.store, limit))
    entries += [_of_peer(stand, peer) for peer in stand.peers]
    stand.compare("drain", "events/s", entries)
    entries = []
    for database in stand.databases:
        for nodes in (2,) if stand.quick else (2, 4):
            engine = partial(_engine, database, refills[database.store], "append", nodes, count)
            settings = {"events": count, "nodes": nodes}
            name = f"drain append, {nodes} nodes"
            entries.append(Entry(name, "duetime", database.store, engine, settings))
    stand.compare("drain by several nodes", "events/s", entries)


def _named(handler: str) -> str:
    return "sync" if handler == "none" else handler


def _kept(stand: Stand, database: Database, count: int) -> Callable[[], None]:
    """Keep a backlog on the server; return what fills the table from it."""
    raw = database.raw()
    raw.clear()
    raw.keep(rows(count, now() - 60 * SECOND, 60 * SECOND, seed=stand.seed))
    raw.close()

    def refill() -> None:
        raw = database.connect()
        raw.clear()
        raw.refill()
        raw.settled()
        raw.close()

    return refill


def _engine(
    database: Database, refill: Callable[[], None], handler: str, nodes: int, count: int
) -> Figures:
    refill()
    found = nodes_drain(database, NAMESPACE, handler, nodes, count)
    raw = database.connect()
    assert raw.count() == 0
    raw.close()
    return {"": found}


def nodes_drain(database: Database, namespace: str, handler: str, nodes: int, count: int) -> float:
    """Let nodes drain what is due; return events/s."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "lines"
        spec = Spec(database.store, database.url, namespace, handler, str(file))
        with running(spec, nodes) as started:
            started.ready()
            started.go()
            first, last = started.settled(count)
            started.end()
        if handler == "append":
            assert file.read_bytes().count(b"\n") == count
        return count / (last - first)


def _limit(database: Database, refill: Callable[[], None]) -> Figures:
    refill()
    return {"": drain(database.connect, _nothing, now(), 1000)}


def _nothing(event: Event) -> None:
    pass


def _of_peer(stand: Stand, peer: Peer) -> Entry:
    count = stand.count(50, peer.drained)

    def measure() -> Figures:
        with tempfile.TemporaryDirectory() as folder:
            url, file = stand.url_for(peer), Path(folder) / "lines"
            peer.ask("prepare", url, file)
            overdue = {"first": now() - 60 * SECOND, "span": 60 * SECOND}
            peer.ask("fill", url, file, **overdue, count=count)
            with peer.doing("work", url, file):
                ran = [ran for _, ran in peer.lines(file, count)]
            return {"": count / ((max(ran) - min(ran)) / SECOND)}

    settings = {**peer.settings, "events": count}
    return Entry("drain append", peer.name, peer.store, measure, settings)
