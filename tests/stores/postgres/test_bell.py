"""Notifications are only hints: with them events of others fire sooner, without them by looking."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import Any, Self

import pytest

from duetime import ErrorReport, Event, Level, Observer, Scheduler
from duetime.errors import StoreUnavailable
from duetime.stores.postgres import PostgresStore
from duetime.stores.postgres.bell import PostgresBell
from tests.stores.postgres.conftest import Admin, empty
from tests.unit.node.stand import wait_until

POLL = 3.0  # s: nothing that fires long before that was found by looking
LISTENERS = "SELECT pid FROM pg_stat_activity WHERE query LIKE 'LISTEN%' AND datname = "


@pytest.fixture
def bell(store: PostgresStore) -> Iterator[PostgresBell]:
    assert store.bell is not None
    store.bell.hear(0)  # from here on it listens
    yield store.bell
    store.bell.close()


class Errors(Observer):
    def __init__(self) -> None:
        self.heard: list[ErrorReport] = []

    def error(self, report: ErrorReport) -> None:
        self.heard.append(report)


class Pair:
    """A node, and a scheduler elsewhere that is none."""

    def __init__(self, url: str, **settings: bool) -> None:
        options: dict[str, Any] = {"stats_every": 0.0, "poll": POLL, **settings}
        self.errors = Errors()
        self.node = Scheduler(url, observers=[self.errors], **options)
        self.other = Scheduler(url, **options)
        self.fired: list[float] = []
        self.came = threading.Event()
        self.node.on("k")(self._note)
        self.node.start()

    def _note(self, _event: Event) -> None:
        self.fired.append(time.perf_counter())
        self.came.set()

    def latency(self) -> float:
        """Create one elsewhere, due at once; return the seconds until it fired."""
        self.came.clear()
        self.other.schedule("k")
        stored = time.perf_counter()
        assert self.came.wait(30)
        return self.fired[-1] - stored

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.node.close()
        self.other.close()


@pytest.fixture
def url(admin: Admin) -> str:
    empty(admin)
    return admin.url


def listeners(admin: Admin) -> list[int]:
    return [pid for (pid,) in admin(f"{LISTENERS}'{admin.database}'")]


def test_a_ring_is_heard(make: Callable[..., PostgresStore], bell: PostgresBell) -> None:
    """What one process rings another hears, with the due time; where nothing rings, nothing."""
    other = make().bell
    assert other is not None
    assert bell.hear(0.01) is None
    assert other.ring(1_234_567)
    assert bell.hear(10) == 1_234_567


def test_a_storm_of_rings_is_rate_limited(
    make: Callable[..., PostgresStore], bell: PostgresBell
) -> None:
    """However often a process rings, it sends one notification in ten milliseconds."""
    other = make().bell
    assert other is not None
    began = time.perf_counter()
    sent = sum(other.ring(number) for number in range(20_000))
    assert 1 <= sent <= (time.perf_counter() - began) / 0.01 + 1
    heard = [bell.hear(10)]
    while (due := bell.hear(0.3)) is not None:
        heard.append(due)
    assert len(heard) <= sent


def test_namespaces_do_not_hear_one_another(
    make: Callable[..., PostgresStore], bell: PostgresBell
) -> None:
    """A ring for the tables of another prefix is not heard."""
    other = make(prefix="few_", shards=3).bell
    assert other is not None
    assert other.ring(1)
    assert bell.hear(0.3) is None


@pytest.mark.parametrize("payload", ["", "soon", "-5", "٣", "9" * 300])
def test_rubbish_is_not_heard(admin: Admin, bell: PostgresBell, payload: str) -> None:
    """What is no time in a notification is passed over: anyone may send one."""
    admin(f"SELECT pg_notify('duetime_due', '{payload}')")
    assert bell.hear(0.5) is None


def test_a_bell_that_cannot_ring_harms_nothing(make: Callable[..., PostgresStore]) -> None:
    """A ring that fails is not sent, and raises nothing; to hear raises a store's error."""
    gone = make("postgresql://nobody@127.0.0.1:9/none").bell
    assert gone is not None
    with pytest.raises(StoreUnavailable):
        gone.hear(0.01)
    gone._database.close()
    other = make()
    assert other.bell is not None
    other.bell._ring = b"SELECT no_such_function()"
    assert not other.bell.ring(1)


def test_what_is_created_elsewhere_fires_before_the_next_look(url: str) -> None:
    """An event due at once that another process creates is fired long before a node would look."""
    with Pair(url) as pair:
        pair.latency()  # opens what there is to open
        late = sorted(pair.latency() for _ in range(20))
    print(f"\nms with hints: p50 {1000 * median(late):.1f}, max {1000 * late[-1]:.1f}")
    assert median(late) < POLL / 10
    assert not pair.errors.heard


def test_a_moved_event_is_told_too(url: str) -> None:
    """An event that another process fires now is fired long before a node would look."""
    with Pair(url) as pair:
        pair.latency()
        event = pair.other.schedule("k", after=3600)
        pair.came.clear()
        began = time.perf_counter()
        pair.other.fire_now(event.id)
        assert pair.came.wait(30)
        assert pair.fired[-1] - began < POLL / 2


def test_without_hints_a_node_looks(url: str, admin: Admin) -> None:
    """With notifications turned off nobody listens, and events fire within a poll all the same."""
    with Pair(url, notify=False) as pair:
        assert listeners(admin) == []
        assert pair.node.store.bell is None  # type: ignore[attr-defined] # not of the contract
        pair.latency()
        assert pair.latency() < POLL + 2


def test_a_lost_connection_heals(url: str, admin: Admin) -> None:
    """A listener whose connection is ended is told of once, and hears again soon."""
    with Pair(url) as pair:
        wait_until(lambda: listeners(admin), "it listens")
        pair.latency()
        [lost] = listeners(admin)
        admin(f"SELECT pg_terminate_backend({lost})")
        wait_until(lambda: listeners(admin) and listeners(admin) != [lost], "it listens again")
        assert min(pair.latency() for _ in range(3)) < POLL / 10
    told = [one.level for one in pair.errors.heard if one.where == "listener"]
    assert told == [Level.INFO]
    wait_until(lambda: not listeners(admin), "nobody listens after the end")
