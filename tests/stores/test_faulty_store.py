"""The store behind a bad connection."""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest

from duetime.errors import AnswerLost, StoreUnavailable
from duetime.stores.contract import Filter, Settlement, Store
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore, Fortune
from duetime.testing.promises.given import T, buried, number, row
from duetime.testing.store_suite import StoreSuite

HELD = [row(name="held", claim=number(9), attempt=1)]
CHANGES: dict[str, Callable[[Store], object]] = {
    "insert": lambda store: store.insert([row(name="b")]),
    "cancel": lambda store: store.cancel(["a"]),
    "reschedule": lambda store: store.reschedule([("a", T + 1)]),
    "redrive": lambda store: store.redrive(["dead"], T, b"{}"),
    "claim": lambda store: store.claim(number(), [0], 0, T, 10),
    "settle": lambda store: store.settle(Settlement(done=HELD)),
    "beat": lambda store: store.beat("alpha", 0, b""),
    "strike": lambda store: store.strike(1, None),
    "rescue": lambda store: store.rescue([0], 9, T, T),
}
READS: dict[str, Callable[[Store], object]] = {
    "time": lambda store: store.time(),
    "peek": lambda store: store.peek([0], 0, T, 10),
    "owners": lambda store: store.owners([0], T),
    "get": lambda store: store.get(["a"]),
    "find": lambda store: store.find(Filter(), 10),
    "counts": lambda store: store.counts(T),
}


class TestFaultlessStore(StoreSuite):
    """A faulty store without faults keeps every promise."""

    @pytest.fixture
    def store(self) -> FaultyStore:
        return FaultyStore(MemoryStore(), lambda call: Fortune())


def filled() -> MemoryStore:
    """Return a store with a waiting, a held and a dead event, and a node."""
    store = MemoryStore()
    dying = row(name="dead", claim=number(8), attempt=1)
    store.insert([row(name="a"), dying, *HELD])
    buried(store, dying)
    store.beat("omega", 0, b"")
    return store


def contents(store: MemoryStore) -> object:
    """Return all that a store keeps."""
    return (store._rows, store._names, set(store._dead), store._nodes, store._issued)


def behind(inner: MemoryStore, fault: Fault) -> FaultyStore:
    return FaultyStore(inner, lambda _: Fortune(fault))


@pytest.mark.parametrize("call", CHANGES)
def test_a_refused_change_did_not_happen(call: str) -> None:
    """A refused call says that nothing happened, and nothing did."""
    inner = filled()
    before = copy.deepcopy(contents(inner))
    with pytest.raises(StoreUnavailable):
        CHANGES[call](behind(inner, Fault.REFUSED))
    assert contents(inner) == before


@pytest.mark.parametrize("fault", [Fault.LOST_BEFORE, Fault.LOST_AFTER])
@pytest.mark.parametrize("call", CHANGES)
def test_a_lost_answer_tells_nothing(call: str, fault: Fault) -> None:
    """A lost answer is the same error whether the change was made or not."""
    inner = filled()
    before = copy.deepcopy(contents(inner))
    with pytest.raises(AnswerLost):
        CHANGES[call](behind(inner, fault))
    assert (contents(inner) == before) is (fault is Fault.LOST_BEFORE)


@pytest.mark.parametrize("fault", [Fault.REFUSED, Fault.LOST_BEFORE, Fault.LOST_AFTER])
@pytest.mark.parametrize("call", READS)
def test_a_read_has_no_answer_to_lose(call: str, fault: Fault) -> None:
    """Whatever befalls a read, it is refused: nothing can have happened."""
    with pytest.raises(StoreUnavailable):
        READS[call](behind(filled(), fault))


def test_the_plan_is_asked_for_each_call() -> None:
    """The plan is asked before each call by its name, and its delays are told."""
    asked: list[str] = []
    delays: list[int] = []

    def plan(call: str) -> Fortune:
        asked.append(call)
        return Fortune(Fault.NONE, 10 * len(asked))

    store = FaultyStore(filled(), plan, delays.append)
    for call in (*CHANGES, *READS):
        (CHANGES | READS)[call](store)
    assert asked == [*CHANGES, *READS]
    assert delays == [10 * (i + 1) for i in range(len(asked))]


def test_upkeep_never_fails() -> None:
    """Migrate, check and close reach the store behind whatever the plan."""
    inner = filled()
    store = behind(inner, Fault.REFUSED)
    assert store.migrate() == []
    assert store.check() == inner.check()
    store.close()
