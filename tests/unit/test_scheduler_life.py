"""Settings, opening, closing and forking: the life of a scheduler."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from duetime.config import Settings
from duetime.errors import ConfigError, LifecycleError
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.memory import MemoryStore
from tests.forked import forked
from tests.unit.node.stand import (
    DEADLINE,
    QUICK,
    Ticker,
    replace,
    wait_until,
)


def still(**settings: Any) -> tuple[Scheduler, MemoryStore, Ticker]:
    """Return a scheduler whose clock stands still."""
    ticker = Ticker()
    store = MemoryStore(4, ticker)
    return Scheduler(store, settings=Settings(**{**QUICK, **settings}), clock=ticker), store, ticker


def test_settings_come_by_name_or_as_a_whole() -> None:
    """A setting by keyword overrules the Settings object, and is checked like any other."""
    base = Settings(workers=3, shards=8)
    one = Scheduler("memory://", settings=base, workers=5)
    assert (one.settings.workers, one.settings.shards) == (5, 8)
    assert one.settings.store == "memory://"
    assert base.workers == 3
    assert Scheduler("memory://", workers=7).settings.workers == 7


@pytest.mark.parametrize("base", [None, Settings()])
@pytest.mark.parametrize("wrong", [{"workers": 0}, {"workerz": 5}, {"lead": "soon"}])
def test_wrong_settings_are_refused(base: Settings | None, wrong: dict[str, Any]) -> None:
    """A setting out of range or of a name that does not exist is a ConfigError, however given."""
    with pytest.raises(ConfigError):
        Scheduler("memory://", settings=base, **wrong)


def test_settings_of_retries_are_the_default_of_kinds() -> None:
    """A kind without a backoff of its own has that of the settings."""
    one = Scheduler("memory://", retries=2, backoff_first=3, backoff_factor=4, backoff_max=50)
    one.on("k")(print)
    handler = one.handlers.get("k")
    assert handler is not None
    assert handler.backoff == Backoff(retries=2, first=3, factor=4, maximum=50)


def test_nothing_is_opened_before_it_is_needed(tmp_path: Path) -> None:
    """Making a scheduler and registering handlers touches no file."""
    path = tmp_path / "events.db"
    one = Scheduler(f"sqlite:///{path}")
    one.on("k")(print)
    assert not path.exists()
    assert not one.opened
    one.schedule("k", after=60)
    assert path.exists()
    assert one.opened
    one.close()


def test_a_store_that_is_empty_is_a_store() -> None:
    """A store object counts as given even when it has a length of nothing."""

    class Sized(MemoryStore):
        def __len__(self) -> int:
            return len(self._rows)

    store = Sized(4)
    one = Scheduler(store, settings=Settings(**QUICK))
    assert one.store is store


def test_after_close_every_call_says_so() -> None:
    """A closed scheduler refuses each call by its name; closing twice is once."""
    one, _, _ = still()
    one.schedule("k", after=60)
    one.close()
    one.close()
    calls: dict[str, Callable[[], object]] = {
        "schedule": lambda: one.schedule("k"),
        "schedule_many": lambda: one.schedule_many([]),
        "cancel": lambda: one.cancel("a"),
        "cancel_many": lambda: one.cancel_many([]),
        "reschedule": lambda: one.reschedule("a"),
        "redrive_many": lambda: one.redrive_many([]),
        "get": lambda: one.get("a"),
        "find": one.find,
        "counts": one.counts,
        "start": one.start,
    }
    for name, call in calls.items():
        with pytest.raises(LifecycleError, match=f"^{name}\\(") as caught:
            call()
        assert caught.value.code == "closed"
    one.stop()


def test_a_forked_child_is_refused() -> None:
    """In a forked child each call says that a new scheduler is needed; the parent's goes on."""
    store = MemoryStore(4)
    one = Scheduler(store, settings=Settings(**QUICK))
    one.on("k")(lambda _event: None)
    one.start()
    read, write = os.pipe()

    def child() -> int:
        codes = []
        for call in (lambda: one.schedule("k"), lambda: one.get("a"), one.start, one.stop):
            try:
                call()
                codes.append("none")
            except LifecycleError as error:
                codes.append(error.code)
        one.close()
        os.write(write, " ".join(codes).encode())
        return 0

    assert forked(child) == 0
    os.close(write)
    with os.fdopen(read) as pipe:
        assert pipe.read() == "forked forked forked forked"
    one.schedule("k")
    wait_until(lambda: one.tally.done == 1)
    one.close()


def test_close_stops_the_node(scheduler: Scheduler) -> None:
    """Closing a scheduler that is a node stops the node first."""
    node = scheduler.start()
    wait_until(lambda: node.fence.number)
    scheduler.close()
    assert not node.running


def test_an_event_made_during_a_stop_is_not_lost() -> None:
    """What is scheduled while the node stops is stored, and run by the next node."""
    store = MemoryStore(4)
    hold, go = threading.Event(), threading.Event()
    one = Scheduler(store, settings=Settings(**QUICK))
    one.on("k")(lambda _event: None)
    one.start()
    insert = store.insert

    def slow(rows: Any) -> Any:
        hold.set()
        assert go.wait(DEADLINE)
        return insert(rows)

    replace(store, insert=slow)
    thread = threading.Thread(target=lambda: one.schedule("k"))
    thread.start()
    assert hold.wait(DEADLINE)
    one.stop()
    go.set()
    thread.join(DEADLINE)
    assert len(store._rows) == 1
    one.start()
    wait_until(lambda: not store._rows)
    one.close()
