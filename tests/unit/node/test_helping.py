"""What a node does beside its own shards, how often it asks, and how it adapts to a slow store."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from duetime.clock import MICROS
from duetime.event import PARKING, Row
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault
from tests.unit.node.stand import MS, NOW, Stand, Ticker, ready, replace, row, slow

LEAD, POLL = 50 * MS, 70 * MS


def with_neighbour(*kinds: str, **settings: Any) -> Stand:
    """Return a node on the roll that owns only some of the shards: another owns the rest."""
    stand = ready(*(kinds or ("k",)), **settings)
    stand.memory.beat("other", 0, b"{}")
    stand.beat()
    assert 0 < len(stand.node.keeper.shards) < stand.memory.shards
    return stand


def elsewhere(stand: Stand) -> int:
    """Return a shard of the other node."""
    return min(set(range(stand.memory.shards)) - set(stand.node.keeper.shards))


def claims_for(stand: Stand, micros: int) -> None:
    """Step the claimer alone, beside a node that goes on beating."""
    end = stand.now + micros
    while stand.now < end:
        again = stand.claim()
        assert again is not None
        stand.ticker.go_on(max(again - stand.now, 1))
        stand.node.fence.until = stand.ticker.boot() + MICROS


# --- the shards of others ------------------------------------------------------------------------


@pytest.mark.parametrize("pace", [0, 200 * MS])
def test_what_nobody_claims_is_claimed_by_anyone(pace: int) -> None:
    """An overdue event in a shard of a node that does not claim starts elsewhere within 1.5 s."""
    stand = with_neighbour()
    slow(stand, "k", pace)
    stand.insert([row(NOW + 100 * MS, shard=elsewhere(stand))])
    claims_for(stand, 1_500 * MS)
    assert len(stand.held()) == 1


def test_what_is_only_just_due_is_left_to_its_owner() -> None:
    """An event in a shard of another node is not touched before it is overdue by 250 ms."""
    stand = with_neighbour()
    overdue: list[int] = []
    claim = stand.memory.claim

    def spy(*arguments: Any) -> list[Row]:
        rows = claim(*arguments)
        overdue.extend(stand.now - one[0] for one in rows)
        return rows

    replace(stand.memory, claim=spy)
    shard = elsewhere(stand)
    stand.insert([row(NOW + tail * 50 * MS, tail, shard) for tail in range(1, 100)])
    claims_for(stand, 5 * MICROS)
    assert len(overdue) > 50
    assert min(overdue) >= 250 * MS


def test_unknown_kinds_in_the_shards_of_others_are_left_alone() -> None:
    """A node does not take, and then park, what it does not know from a shard of another."""
    stand = with_neighbour()
    stand.insert([row(NOW - MICROS, shard=elsewhere(stand), kind="unknown")])
    claims_for(stand, 3 * MICROS)
    stand.settle(flush=True)
    assert [(one[2], one[9]) for one in stand.kept()] == [(elsewhere(stand), 0)]


def test_a_helper_takes_no_more_than_it_can_start() -> None:
    """Of a slow kind in the shards of others it claims as many as it has room for."""
    stand = with_neighbour("s", "q")
    slow(stand, "s", 200 * MS)
    shard = elsewhere(stand)
    stand.insert([row(NOW - MICROS, tail, shard, kind="s") for tail in range(1, 200)])
    stand.insert([row(NOW - MICROS, tail, shard, kind="q") for tail in range(200, 210)])
    lane = stand.node.lanes.get("s")
    assert lane is not None
    room = lane.room(stand.now, LEAD)
    assert 0 < room < 100
    stand.claim()
    held = Counter(one[4] for one in stand.held())
    assert held == {"s": room}  # they fill the first look
    stand.memory.cancel([f"e{one[0]:015x}{one[2]:03x}{one[1]:015x}" for one in stand.kept()[room:]])
    stand.insert([row(NOW - MICROS, tail, shard, kind="q") for tail in range(300, 310)])
    claims_for(stand, 1_100 * MS)
    assert Counter(one[4] for one in stand.held()) == {"s": room, "q": 10}


def test_a_node_that_is_alone_looks_at_no_other_shard() -> None:
    """Where one node owns all shards, looking after others costs nothing."""
    stand = ready()
    seen: list[Any] = []
    peek = stand.memory.peek

    def spy(shards: Any, *arguments: Any) -> Any:
        seen.append(tuple(shards))
        return peek(shards, *arguments)

    replace(stand.memory, peek=spy)
    claims_for(stand, 3 * MICROS)
    assert {shard for shards in seen for shard in shards} == {PARKING, *range(stand.memory.shards)}
    assert all(shards for shards in seen)


# --- how often the store is asked ----------------------------------------------------------------


def calls_in(stand: Stand, micros: int) -> Counter[str]:
    """Live for so long; return what was asked of the store."""
    stand.plan.calls.clear()
    end = stand.now + micros
    beat_at = stand.now
    while stand.now < end:
        if stand.now >= beat_at:
            beat_at = stand.beat() or 0
        again = stand.claim()
        assert again is not None
        stand.ticker.go_on(max(1, min(again, beat_at) - stand.now))
    return Counter(stand.plan.calls)


def test_an_idle_node_asks_twenty_times_a_second() -> None:
    """An idle node calls its store about twenty times a second: looks, and two beats."""
    calls = calls_in(ready("k"), 10 * MICROS)
    assert calls.total() <= 225
    assert calls["claim"] == calls["insert"] == calls["settle"] == 0
    assert calls["beat"] == 20
    assert calls["time"] <= 2
    assert calls["peek"] >= 10 * MICROS // POLL


def test_many_slow_kinds_cost_one_look() -> None:
    """However many kinds are slow, an idle node asks once for all of them."""
    kinds = [f"s{number}" for number in range(20)]
    stand = ready("k", *kinds)
    for kind in kinds:
        slow(stand, kind, 200 * MS)
    assert calls_in(stand, 10 * MICROS).total() <= 225 + 150


def test_slow_kinds_do_not_hide_one_another() -> None:
    """A slow kind with a single event is claimed though another fills the look."""
    stand = ready("many", "one")
    for kind in ("many", "one"):
        slow(stand, kind, 200 * MS)
    stand.insert([row(NOW - MICROS, tail, tail % 4, kind="many") for tail in range(1, 500)])
    stand.insert([row(NOW, 999, 1, kind="one")])
    stand.claim()
    assert "one" in {one[4] for one in stand.held()}


def test_after_a_hint_it_looks_twice() -> None:
    """What is stored right behind the event that was told of is found at the next tick."""
    stand = ready(poll=10)
    stand.claim()
    stand.ticker.go_on(MICROS)
    stand.insert([row(stand.now, 1)])
    stand.node.claimer.hint(stand.now, stand.now)
    assert stand.claim() == stand.now + 25 * MS
    stand.insert([row(stand.now, 2)])  # without a hint
    stand.ticker.go_on(25 * MS)
    again = stand.claim()
    assert {one[1] for one in stand.held()} == {1, 2}
    assert again is not None
    stand.ticker.go_on(again - stand.now)
    assert stand.claim() == stand.now + 10 * MICROS  # and then it waits again


# --- a slow store --------------------------------------------------------------------------------


def test_slow_claims_are_begun_sooner() -> None:
    """A store that takes long for a claim is asked that much further ahead; a quick one is not."""
    stand = ready()
    claim = stand.memory.claim
    took = [300 * MS]

    def delayed(*arguments: Any) -> list[Row]:
        stand.ticker.go_on(took[0])
        return claim(*arguments)

    replace(stand.memory, claim=delayed)
    stand.insert([row(NOW, 1), row(NOW + 600 * MS, 2)])
    stand.claim()  # learns it
    claims_for(stand, 300 * MS)
    assert [one[1] for one in stand.held()] == [1, 2]
    assert stand.now < NOW + 610 * MS
    took[0] = 0
    for tail in range(3, 63):
        stand.insert([row(stand.now, tail)])
        claims_for(stand, 30 * MS)
    stand.insert([row(stand.now + 200 * MS, 99)])
    claims_for(stand, 100 * MS)
    assert 99 not in {one[1] for one in stand.held()}


# --- the clock -----------------------------------------------------------------------------------


def test_a_clock_that_was_set_is_seen_at_the_next_beat() -> None:
    """The store's clock is read by itself now and then, and at once when a beat shows a set one."""
    stand = Stand(store=MemoryStore(4, Ticker())).join()
    clock = stand.memory._clock
    assert isinstance(clock, Ticker)

    def beat() -> int:
        for ticker in (stand.ticker, clock):
            ticker.go_on(MICROS // 2)
        stand.plan.calls.clear()
        stand.beat()
        return stand.plan.calls.count("time")

    assert [beat() for _ in range(5)] == [0] * 5
    clock.wall_at += 2 * MICROS
    assert beat() == 1
    assert stand.now == clock.wall()
    assert sum(beat() for _ in range(30)) == 3


def test_a_clock_that_could_not_be_read_is_asked_for_again() -> None:
    """Where the store does not tell its time, the next beat asks once more."""
    stand = Stand().join()
    stand.ticker.go_on(6 * MICROS)
    stand.plan.next("time", Fault.REFUSED)
    stand.beat()
    stand.plan.calls.clear()
    stand.beat()
    assert stand.plan.calls.count("time") == 1
