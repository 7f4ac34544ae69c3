"""A node beside a store that has a bell: it rings for others only, and needs no answer."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from duetime import Event, Scheduler
from duetime.errors import StoreUnavailable
from duetime.node.listener import Listener
from duetime.observer import Level, Observers
from duetime.stores.memory import MemoryStore
from tests.unit.node.stand import MS, Stand, Watch, wait_until


class Chime:
    """A bell in the process."""

    def __init__(self) -> None:
        self.rung: list[int] = []
        self.closed = False
        self.broken = False
        self._changed = threading.Condition()
        self._waiting: list[int] = []

    def ring(self, due_at: int) -> bool:
        self.rung.append(due_at)
        return True

    def hear(self, seconds: float) -> int | None:
        if self.broken:
            raise StoreUnavailable("broken on purpose")
        with self._changed:
            if not self._waiting:
                self._changed.wait(seconds)
            return self._waiting.pop(0) if self._waiting else None

    def say(self, due_at: int) -> None:
        with self._changed:
            self._waiting.append(due_at)
            self._changed.notify_all()

    def close(self) -> None:
        self.closed = True


class Belfry(MemoryStore):
    """A store with a bell."""

    def __init__(self) -> None:
        super().__init__(4)
        self.bell = Chime()


@pytest.fixture
def store() -> Belfry:
    return Belfry()


def quick(store: Belfry, **settings: Any) -> Scheduler:
    return Scheduler(store, stats_every=0.0, **settings)


def test_only_what_is_due_soon_is_rung(store: Belfry) -> None:
    """Events due before a node would look are rung, once a write, by the soonest of them."""
    with quick(store) as scheduler:
        scheduler.schedule("k", after=10)
        assert store.bell.rung == []
        events = scheduler.schedule_many([{"kind": "k", "after": n / 100} for n in (500, 3, 2)])
        assert store.bell.rung == [events[2].row[0]]


def test_moves_and_redrives_are_rung(store: Belfry) -> None:
    """An event that is moved to now is rung; one that is moved far away is not."""
    with quick(store) as scheduler:
        event = scheduler.schedule("k", after=10)
        scheduler.reschedule(event.id, after=20)
        assert store.bell.rung == []
        scheduler.fire_now(event.id)
        assert len(store.bell.rung) == 1


def test_a_node_rings_for_others_only(store: Belfry) -> None:
    """What a node holds itself, or looks for in its own shards, is not rung."""
    with quick(store) as scheduler:
        scheduler.on("k")(lambda _event: None)
        node = scheduler.start()
        wait_until(lambda: len(node.keeper.shards) == 4)
        for kind in ("k", "unknown"):
            scheduler.schedule(kind)
        assert store.bell.rung == []
        node.keeper.shards = ()
        scheduler.schedule("unknown")
        assert len(store.bell.rung) == 1


def test_what_is_heard_wakes_the_claimer(store: Belfry) -> None:
    """A node that hears a ring looks at once, not at its next poll."""
    fired: list[Event] = []
    with quick(store, poll=30) as scheduler, quick(store) as other:
        scheduler.on("k")(fired.append)
        node = scheduler.start()
        wait_until(lambda: node.keeper.shards)
        wait_until(lambda: node.claimer._next_tick)
        event = other.schedule("k")
        store.bell.say(event.row[0])
        wait_until(lambda: fired)
    assert store.bell.closed


def test_a_bell_that_fails_is_told_once_and_tried_again() -> None:
    """While nothing can be heard the node goes on; the first failure is told, the next are not."""
    stand, watch, chime = Stand(), Watch(), Chime()
    tries: list[int] = []
    heard: list[int] = []
    hear = chime.hear

    def failing(seconds: float) -> int | None:
        tries.append(1)
        if len(tries) < 3:
            raise StoreUnavailable("broken on purpose")
        return hear(seconds)

    setattr(chime, "hear", failing)  # noqa: B010 - mypy knows that methods are not set
    listener = Listener(
        chime, lambda due_at, _now: heard.append(due_at), stand.clock, Observers([watch])
    )
    listener.start()
    chime.say(5 * MS)
    wait_until(lambda: heard)
    listener.stop(10)
    assert heard == [5 * MS]
    assert [one.level for one in watch.errors] == [Level.INFO]
    assert chime.closed


def test_a_node_without_an_ear_works(store: Belfry) -> None:
    """Where nothing can ever be heard, events fire all the same, and a stop is quick."""
    store.bell.broken = True
    fired: list[Event] = []
    with quick(store) as scheduler:
        scheduler.on("k")(fired.append)
        scheduler.start()
        scheduler.schedule("k", after=0.1)
        wait_until(lambda: fired)
