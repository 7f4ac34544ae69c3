"""The life of an SQLite store: close, fork, clock."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from duetime.clock import SystemClock
from duetime.errors import (
    LifecycleError,
)
from duetime.stores.contract import Filter, Settlement
from duetime.stores.sqlite import SqliteStore
from duetime.testing.promises.given import T, claim_all, number, row
from tests.forked import forked


def every_call(store: SqliteStore) -> list[str]:
    """Return the calls that do not answer with a LifecycleError."""
    calls: dict[str, Callable[[], object]] = {
        "migrate": store.migrate,
        "check": store.check,
        "insert": lambda: store.insert([row()]),
        "cancel": lambda: store.cancel(["x"]),
        "reschedule": lambda: store.reschedule([("x", T)]),
        "redrive": lambda: store.redrive(["x"], T, b"{}"),
        "peek": lambda: store.peek([0], 0, T, 1),
        "claim": lambda: store.claim(number(), [0], 0, T, 1),
        "settle": lambda: store.settle(Settlement()),
        "beat": lambda: store.beat("a", 0, b""),
        "strike": lambda: store.strike(1, None),
        "owners": lambda: store.owners([0], T),
        "rescue": lambda: store.rescue([0], 1, T, T),
        "get": lambda: store.get(["x"]),
        "find": lambda: store.find(Filter(), 1),
        "counts": lambda: store.counts(T),
    }
    wrong = []
    for name, call in calls.items():
        try:
            call()
        except LifecycleError:
            continue
        wrong.append(name)
    return wrong


def test_after_close(store: SqliteStore) -> None:
    """After close every call says that the store is closed."""
    store.insert([row()])
    store.close()
    assert every_call(store) == []


def test_a_forked_child_is_refused(store: SqliteStore, path: str) -> None:
    """In a forked child every call is refused, and neither close nor exit harms the parent."""
    store.insert([row(name="a")])
    store.peek([0], 0, T, 1)

    def child() -> int:
        wrong = every_call(store)
        store.close()
        return len(wrong)

    assert forked(child) == 0
    assert store.insert([row(name="b")]) == [None]
    assert len(claim_all(store)) == 2
    assert [each.level for each in store.check() if each.name == "integrity"] == ["ok"]
    assert Path(path + "-wal").exists()


def test_the_stores_clock_is_the_machines(path: str, library: str) -> None:
    """The store's time is the wall clock that it was given."""

    class Stopped(SystemClock):
        def wall(self) -> int:
            return T

    store = SqliteStore(path, library=library, clock=Stopped())
    store.migrate()
    assert store.time() == T
    assert store.beat("a", 0, b"").now == T
    store.close()


def test_only_what_must_outlast_a_power_cut_waits_for_the_disk(store: SqliteStore) -> None:
    """Claims and beats are not flushed; schedules, settlements and numbers given are."""
    database = store._database

    def level() -> object:
        assert database._writer is not None
        return database._writer.rows("PRAGMA synchronous")[0][0]

    full, normal = 2, 1
    roll = store.beat("node", 0, b"{}")
    assert level() == full
    store.insert([row(T)])
    assert level() == full
    claimed = store.claim(roll.number << 32 | 1, range(32), 0, T, 10)
    assert len(claimed) == 1
    assert level() == normal
    store.get(["-"])  # a reader that is opened meanwhile must not confuse the writer's state
    store.beat("node", roll.number, b"{}")
    assert level() == normal
    store.settle(Settlement(done=claimed))
    assert level() == full
    store.beat("node", roll.number, b"{}")
    store.insert([row(T)])
    assert level() == full
