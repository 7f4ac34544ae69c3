"""The claimer takes what falls due soon, as far ahead as needed and no further."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duetime.clock import MICROS
from duetime.errors import AnswerLost
from duetime.event import Row
from duetime.testing.faulty_store import Fault
from tests.unit.node.stand import MS, NOW, Stand, claims_until, ready, replace, row, rows

LEAD, TICK, POLL = 50 * MS, 25 * MS, 70 * MS


def calls_of(stand: Stand, call: str, do: Callable[[], object]) -> int:
    before = stand.plan.calls.count(call)
    do()
    return stand.plan.calls.count(call) - before


def lose_claim(stand: Stand, fault: Fault) -> None:
    """Lose the answer to the next claim that takes ordinary events."""
    claim = stand.memory.claim
    lost: list[int] = []

    def spy(*arguments: Any) -> list[Row]:
        if lost or arguments[-1] != (0, 0):
            return claim(*arguments)
        lost.append(1)
        if fault is Fault.LOST_AFTER:
            assert claim(*arguments)
        raise AnswerLost("planned")

    replace(stand.memory, claim=spy)


def test_it_claims_what_is_due_within_the_lead() -> None:
    """What is due before now + lead is held, what is due later waits in the store."""
    stand = ready()
    stand.insert([row(NOW - 9, 1), row(NOW, 2), row(NOW + LEAD, 3), row(NOW + LEAD + 1, 4)])
    stand.claim()
    assert [one[1] for one in stand.held()] == [1, 2, 3]
    assert [one[9] == 0 for one in stand.kept()] == [False, False, False, True]
    assert stand.tally.claimed == 3
    assert stand.node.lanes.held() == 3


def test_a_claim_counts_the_attempt() -> None:
    """Each claim raises the attempt, and its number bears the node's number."""
    stand = ready()
    stand.insert([row(attempt=4, failures=4)])
    stand.claim()
    [held] = stand.held()
    assert held[6] == 5
    assert held[9] >> 32 == stand.number


def test_claim_numbers_are_never_used_twice() -> None:
    """Each claim has a number of its own, also when several threads ask for one."""
    stand = ready()
    numbers = [stand.node.claimer.next_number() for _ in range(100)]
    assert len(set(numbers)) == 100
    assert numbers == sorted(numbers)


def test_nothing_is_claimed_while_the_fence_is_closed() -> None:
    """A node that cannot beat claims nothing."""
    stand = ready()
    stand.insert(rows(3))
    stand.ticker.go_on(2 * MICROS)
    assert calls_of(stand, "claim", stand.claim) == 0
    stand.beat()
    assert calls_of(stand, "claim", stand.claim) > 0


def test_nothing_is_claimed_without_shards() -> None:
    """A node that owns no shard has nothing to claim from."""
    stand = Stand()
    stand.node.fence.until = 1 << 60
    stand.insert(rows(3))
    again = stand.claim()
    assert again == stand.now + POLL
    assert stand.held() == []


def test_an_empty_store_is_asked_once_per_poll() -> None:
    """With nothing to do the store sees one look per poll."""
    stand = ready()
    stand.claim()
    looks = 0
    began = stand.now
    while stand.now < began + MICROS:
        again = stand.claim()
        assert again is not None
        assert again > stand.now
        stand.ticker.go_on(again - stand.now)
        stand.node.fence.until = 1 << 60
        looks += 1
    assert looks <= 22


def test_it_wakes_when_the_next_event_comes_within_the_lead() -> None:
    """The next look is when the soonest event seen enters the lead, not a whole poll later."""
    stand = ready()
    stand.insert([row(NOW + LEAD + 30 * MS)])
    assert stand.claim() == NOW + 30 * MS


def test_between_two_ticks_nothing_is_asked() -> None:
    """However often it is woken, it looks once per tick."""
    stand = ready()
    stand.insert(rows(3))
    stand.claim()
    stand.ticker.go_on(TICK - 1)
    assert calls_of(stand, "peek", stand.claim) == 0
    assert stand.claim() == stand.now + 1
    stand.ticker.go_on(1)
    assert calls_of(stand, "peek", stand.claim) > 0


def test_a_local_create_is_looked_for_at_once() -> None:
    """A hint of an event due soon leads to a look at once, even below what was claimed."""
    stand = ready()
    woken: list[int] = []
    stand.node.claimer.wake = lambda: woken.append(1)
    stand.claim()
    stand.insert([row(NOW)])
    stand.node.stored(NOW, stand.now)
    assert woken
    stand.claim()
    assert len(stand.held()) == 1


def test_a_distant_create_wakes_nobody() -> None:
    """An event due much later is found by the ordinary look."""
    stand = ready()
    woken: list[int] = []
    stand.node.claimer.wake = lambda: woken.append(1)
    stand.node.stored(NOW + MICROS, stand.now)
    assert not woken


def test_late_arrivals_below_are_found() -> None:
    """An event that another process stores below what was claimed is found within a poll or two."""
    stand = ready()
    stand.insert(rows(3))
    stand.claim()
    stand.insert([row(NOW - MICROS, 99)])
    claims_until(stand, lambda: any(one[1] == 99 for one in stand.held()), 6)
    assert stand.now <= NOW + 3 * POLL


def test_a_backlog_is_claimed_batch_by_batch() -> None:
    """More than one statement takes is claimed shard by shard, all of it, soonest first."""
    stand = ready(claim_batch=100)
    stand.insert(rows(1_000, NOW - MICROS))
    stand.plan.calls.clear()
    claims_until(stand, lambda: len(stand.held()) == 1_000, 60)
    assert stand.now == NOW
    assert stand.plan.calls.count("claim") < 30


def test_a_statement_claims_a_batch_at_most() -> None:
    """No claim of a backlog takes more than `claim_batch` rows."""
    stand = ready(claim_batch=100)
    stand.insert(rows(1_000, NOW - MICROS))
    sizes: list[int] = []
    claim = stand.memory.claim

    def spy(*arguments: Any) -> list[Row]:
        got = claim(*arguments)
        sizes.append(len(got))
        return got

    replace(stand.memory, claim=spy)  # to see what is taken
    claims_until(stand, lambda: len(stand.held()) == 1_000, 60)
    assert max(sizes) == 100


def test_memory_is_bounded_by_settings() -> None:
    """A node never holds more than `max_held`, however much is due, and goes on as room is made."""
    stand = ready(claim_batch=50, max_held=120)
    stand.insert(rows(1_000, NOW - MICROS))
    most, runs = 0, 0
    while stand.tally.done < 1_000:
        stand.claim()
        most = max(most, stand.node.lanes.held())
        if stand.node.lanes.held() >= 100:
            stand.fire()
            stand.work()
        stand.settle()
        stand.ticker.go_on(TICK)
        stand.beat()
        runs += 1
        assert runs < 500, f"stuck at {stand.tally.done}"
        if runs % 7 == 0:
            stand.fire()
            stand.work()
    assert 100 <= most <= 120


@pytest.mark.parametrize("held", [5, 30, 49])
def test_a_nearly_full_node_still_claims(held: int) -> None:
    """With less room than a batch, a node claims as much as it has room for, without delay."""
    stand = ready("busy", "k", claim_batch=50, max_held=50)
    stand.insert(rows(held, kind="busy"))
    stand.claim()
    assert len(stand.held()) == held
    stand.insert(rows(50 - held + 1, first=500))
    stand.ticker.go_on(TICK)
    stand.node.stored(NOW, stand.now)
    claims_until(stand, lambda: len(stand.held()) == 50, 20)
    assert stand.now <= NOW + 3 * TICK


def test_a_lost_answer_to_a_claim_is_asked_for_again() -> None:
    """A claim whose answer was lost is asked for by its number: none is forgotten."""
    for fault in (Fault.LOST_AFTER, Fault.LOST_BEFORE):
        stand = ready()
        stand.insert(rows(6))
        lose_claim(stand, fault)
        stand.claim()
        assert stand.held() == []
        claims_until(stand, lambda: len(stand.held()) == 6, 5)  # noqa: B023 - called in this round
        assert stand.tally.claimed == 6
        stand.live(300 * MS)
        assert stand.tally.done == 6
        assert stand.kept() == []


def test_a_lost_claim_of_an_earlier_life_is_forgotten() -> None:
    """After a rejoin an unanswered claim of the old number is not taken for ours."""
    stand = ready()
    stand.insert(rows(6))
    lose_claim(stand, Fault.LOST_AFTER)
    stand.claim()
    stand.memory.strike(1, None)
    stand.beat()
    stand.beat()
    stand.claim()
    assert {one[9] >> 32 for one in stand.held()} == {2}
    stand.live(300 * MS)
    assert stand.tally.done == 6


def test_what_an_earlier_life_claimed_is_not_held() -> None:
    """Rows claimed under an old number are left to the others, suspects and poison included."""
    stand = ready()
    old = stand.node.claimer.next_number()
    stand.memory.strike(1, None)
    stand.beat()
    stand.beat()
    stand.node.claimer._keep(old, [row(claim=old), row(tail=2, claim=old, crashes=1)])
    assert stand.held() == []
    assert stand.node.runner.suspects == 0


def test_a_refusing_store_is_tried_again() -> None:
    """When the store is away the claimer tells it, and goes on when the store is back."""
    stand = ready()
    stand.insert(rows(3))
    stand.plan.next("peek", Fault.REFUSED)
    again = stand.claim()
    assert again == stand.now + POLL
    assert [error.where for error in stand.watch.errors] == ["claimer"]
    claims_until(stand, lambda: len(stand.held()) == 3, 4)


def test_a_spike_is_claimed_before_it_falls_due() -> None:
    """A spike that could not be claimed within the lead is in memory when it falls due."""
    stand = ready(claim_batch=100)
    stand.node.claimer._rate = 100 / MICROS  # a store that claims 100 events a second
    claim = stand.memory.claim

    def costly(*arguments: Any) -> list[Row]:
        got = claim(*arguments)
        stand.ticker.go_on(len(got) * MICROS // 100_000)
        return got

    replace(stand.memory, claim=costly)  # time passes as it claims
    stand.insert(rows(8_000, NOW + 2 * MICROS))
    while stand.now < NOW + 2 * MICROS - LEAD - 10 * MS:
        again = stand.claim()
        assert again is not None
        stand.ticker.go_on(max(again - stand.now, 0) or 1)
        stand.node.fence.until = 1 << 60
    assert len(stand.held()) == 8_000


def test_an_ordinary_flow_is_not_claimed_early() -> None:
    """Without a spike nothing is claimed before it enters the lead: a cancel still works."""
    stand = ready()
    stand.insert([row(NOW + i * MS, i) for i in range(1, 2_000)])
    while stand.now < NOW + MICROS // 2:
        again = stand.claim()
        assert again is not None
        assert all(one[0] <= stand.now + LEAD for one in stand.held())
        stand.ticker.go_on(max(again - stand.now, 1))
        stand.node.fence.until = 1 << 60


def test_a_spike_beyond_the_limit_is_left() -> None:
    """What lies further than `lead_max` ahead is not looked at."""
    stand = ready(lead_max=0.5)
    stand.node.claimer._rate = 1 / MICROS
    stand.insert(rows(5_000, NOW + MICROS))
    stand.claim()
    assert stand.held() == []


def test_a_stopped_claimer_claims_nothing() -> None:
    """After a stop was asked for, nothing more is claimed."""
    stand = ready()
    stand.insert(rows(3))
    stand.node.claimer.stopped = True
    assert stand.claim() is None
    assert stand.held() == []


def test_a_shard_that_went_to_another_node_is_claimed_no_further() -> None:
    """When shards are divided anew in the middle of a backlog, what is no longer ours is left."""
    stand = ready(claim_batch=50, max_held=5_000)
    stand.insert(rows(800, NOW - MICROS))
    stand.claim()
    stand.node.keeper.shards = (1,)
    before = {one[1] for one in stand.held()}
    for _ in range(30):
        stand.claim()
    assert {one[2] for one in stand.held() if one[1] not in before} == {1}


def test_a_node_off_the_roll_claims_nothing() -> None:
    """Between two numbers a node makes no claim: its number would be anyone's."""
    stand = ready()
    stand.insert(rows(3))
    stand.node.fence.enter(0)
    stand.claim()
    assert [one[9] for one in stand.kept()] == [0, 0, 0]
