"""The settler writes outcomes: ranges where a claim is done, exceptions before them, each once."""

from __future__ import annotations

from typing import Any

import pytest

from duetime.event import PARKING, Row, id_of
from duetime.node.judge import give_back, park
from duetime.node.settler import Settler
from duetime.observer import Level, Observers
from duetime.stores.contract import Death, Move, Settled, Settlement
from duetime.stores.memory import MemoryStore
from duetime.tally import Tally
from duetime.testing.faulty_store import Fault, FaultyStore
from tests.unit.node.stand import MS, NOW, Plan, Ticker, Watch, row, rows

NUMBER = 1 << 32 | 7
EVERY = 10 * MS


class Spy(MemoryStore):
    """Remembers what was to be settled."""

    def __init__(self) -> None:
        super().__init__(4, Ticker())
        self.settlements: list[Settlement] = []

    def settle(self, settlement: Settlement) -> Settled:
        self.settlements.append(settlement)
        return super().settle(settlement)


class Desk:
    """A settler, and a store whose events it holds."""

    def __init__(self, most: int = 100) -> None:
        self.store = Spy()
        self.plan = Plan()
        self.watch = Watch()
        self.tally = Tally()
        self.now = NOW
        self.settler = Settler(
            FaultyStore(self.store, self.plan), Observers([self.watch]), self.tally, EVERY, most
        )

    def claim(self, events: list[Row], number: int = NUMBER) -> list[Row]:
        """Store events, claim all that are due, and let the settler expect them."""
        self.store.insert(events)
        claimed = self.store.claim(number, (0, 1, 2, 3, PARKING), 0, NOW + 10**9, 10**6)
        self.settler.expect(number, claimed)
        return claimed

    def step(self, *, flush: bool = False, later: int = EVERY) -> int | None:
        self.now += later
        return self.settler.step(self.now, flush=flush)

    @property
    def sent(self) -> list[Settlement]:
        return self.store.settlements

    def left(self) -> set[int]:
        return {one[1] for one in self.store._rows.values()}


def retry_of(one: Row, due_at: int = NOW + 10**6) -> Move:
    return Move(one, one[2], due_at, one[5], one[6], one[7] + 1, 0, None)


def death_of(one: Row) -> Death:
    return Death(one, NOW, "hopeless", 1, None)


def test_a_claim_that_is_done_is_one_range() -> None:
    """When every row of a claim is done, one range takes them all, and nothing else is sent."""
    desk = Desk()
    held = desk.claim(rows(9))
    desk.settler.report(held, [])
    assert desk.step() is None
    [settlement] = desk.sent
    assert [(r.claim, r.low, r.high) for r in settlement.ranges] == [(NUMBER, NOW, NOW)]
    assert not settlement.done
    assert desk.left() == set()
    assert desk.tally.done == 9
    assert desk.watch.heard == [("settled", 9, 0, 0)]


def test_a_range_waits_for_the_last_row() -> None:
    """While one row of a claim has no outcome, no range is sent: it would take that row too."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.settler.report(held[:2], [])
    again = desk.step()
    assert desk.sent == []
    assert again is not None
    desk.settler.report(held[2:], [])
    desk.step()
    assert len(desk.sent) == 1
    assert desk.left() == set()


def test_a_slow_row_does_not_hold_up_the_others_for_long() -> None:
    """Done rows of a claim that is held up are settled one by one after a short while."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.settler.report(held[:2], [])
    again = desk.step()
    assert again is not None
    assert again - desk.now <= 100 * MS
    desk.step(later=again - desk.now)
    assert [len(s.done) for s in desk.sent] == [2]
    assert not any(s.ranges for s in desk.sent)
    assert desk.left() == {held[2][1]}
    desk.settler.report(held[2:], [])
    desk.step()
    assert desk.left() == set()
    assert desk.tally.done == 3


def test_exceptions_are_written_before_the_range() -> None:
    """A retried row has left its claim before the range of that claim is deleted."""
    desk = Desk()
    held = desk.claim(rows(4))
    desk.settler.report(held[:2], [retry_of(held[2]), death_of(held[3])])
    desk.step()
    kept = list(desk.store._rows.values())
    assert [(one[1], one[0], one[9]) for one in kept] == [(held[2][1], NOW + 10**6, 0)]
    assert list(desk.store._dead) == [id_of(held[3])]
    assert (desk.tally.done, desk.tally.retried, desk.tally.dead) == (2, 1, 1)
    assert desk.watch.heard == [("settled", 2, 1, 1), ("died", id_of(held[3]))]


def test_exceptions_that_could_not_be_written_hold_up_the_range() -> None:
    """While the store refuses the exceptions of a claim, its range is not sent either."""
    desk = Desk(most=1)
    held = desk.claim(rows(3))
    desk.plan.next("settle", Fault.REFUSED, Fault.REFUSED)
    desk.settler.report(held[:2], [retry_of(held[2])])
    desk.step()
    desk.step(later=10**6)
    assert desk.sent == []
    desk.step(later=10**7)
    assert [bool(s.moves) for s in desk.sent] == [True, False]
    assert desk.left() == {held[2][1]}


def test_named_rows_are_settled_singly() -> None:
    """A row with a name also has a row of its own elsewhere, so no range takes it."""
    desk = Desk()
    held = desk.claim([row(tail=1, name="a"), row(tail=2), row(tail=3)])
    desk.settler.report(held, [])
    desk.step()
    [settlement] = desk.sent
    assert [one[3] for one in settlement.done] == ["a"]
    assert len(settlement.ranges) == 1
    assert desk.left() == set()
    assert desk.store._names == {}


def test_a_claim_of_named_rows_alone_needs_no_range() -> None:
    """A claim without unnamed rows is forgotten when they are settled."""
    desk = Desk()
    held = desk.claim([row(tail=1, name="a")])
    desk.settler.report(held, [])
    desk.step()
    assert not desk.sent[0].ranges
    assert desk.settler._batches == {}


def test_a_claim_of_exceptions_alone_needs_no_range() -> None:
    """Where every row was retried or died there is nothing left for a range."""
    desk = Desk()
    held = desk.claim(rows(2))
    desk.settler.report([], [retry_of(held[0]), death_of(held[1])])
    desk.step()
    assert not any(s.ranges for s in desk.sent)
    assert desk.settler._batches == {}


def test_late_arrivals_are_not_taken_by_a_range() -> None:
    """An event stored inside the range of a claim after it was made survives the range."""
    desk = Desk()
    held = desk.claim([row(NOW, 1), row(NOW + 10, 2)])
    desk.store.insert([row(NOW + 5, 3)])
    desk.settler.report(held, [])
    desk.step()
    assert desk.left() == {3}


def test_a_lost_answer_is_asked_for_again() -> None:
    """After a lost answer the same settlement is sent again; nothing is lost or counted twice."""
    for fault in (Fault.LOST_BEFORE, Fault.LOST_AFTER):
        desk = Desk()
        held = desk.claim(rows(5))
        desk.plan.next("settle", fault)
        desk.settler.report(held[:4], [retry_of(held[4])])
        again = desk.step()
        assert again is not None
        assert again > desk.now
        assert desk.settler.waiting() == 5
        desk.step(later=again - desk.now)
        assert desk.settler.waiting() == 0
        assert desk.left() == {held[4][1]}
        assert (desk.tally.resent, desk.tally.stale) == (1, 0)
        assert (desk.tally.done, desk.tally.retried) == (4, 1)


def test_stale_results_are_refused_and_counted() -> None:
    """Results of a claim that was freed meanwhile change nothing, and are counted."""
    desk = Desk()
    held = desk.claim([*rows(4), row(tail=50, name="n")])
    assert desk.store.rescue((0, 1, 2, 3), 1, NOW, NOW) == 5
    by_name = {one[3]: one for one in held}
    plain = [one for one in held if one[3] is None]
    done = [*plain[:2], by_name["n"]]
    desk.settler.report(done, [retry_of(plain[2]), death_of(plain[3])])
    desk.step()
    assert len(desk.left()) == 5
    assert desk.store._dead == {}
    assert desk.tally.stale == 5
    assert (desk.tally.done, desk.tally.retried, desk.tally.dead) == (0, 0, 0)


@pytest.mark.parametrize("change", [give_back, park])
def test_what_is_stale_is_not_counted_as_anything_else(change: Any) -> None:
    """Claims given back or parked in vain count as stale, and no count falls below nothing."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.store.rescue((0, 1, 2, 3), 1, NOW, 0)
    desk.settler.report([], [change(one) for one in held])
    desk.step()
    tally = desk.tally
    assert tally.stale == 3
    assert (tally.retried, tally.given_back, tally.parked) == (0, 0, 0)
    assert ("settled", 0, 0, 0) in desk.watch.heard


def test_given_back_and_parked_are_told_apart_from_retried() -> None:
    """A claim given back, an event parked and a retry are three counts."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.settler.report([], [give_back(held[0]), park(held[1]), retry_of(held[2])])
    desk.step()
    assert (desk.tally.given_back, desk.tally.parked, desk.tally.retried) == (1, 1, 1)


def test_a_settlement_is_split_at_its_limit() -> None:
    """No transaction writes more outcomes than `settle_batch`, except a claim larger than that."""
    desk = Desk(most=10)
    for number in range(6):
        claimed = desk.claim(rows(4, NOW + number, first=1 + number * 4), NUMBER + number)
        desk.settler.report(claimed, [])
    named = desk.claim([row(NOW + 50, 100 + i, name=f"n{i}") for i in range(25)], NUMBER + 50)
    desk.settler.report(named, [])
    desk.step()
    weights = [len(s.done) + 4 * len(s.ranges) + len(s.moves) + len(s.deaths) for s in desk.sent]
    assert sum(weights) == 24 + 25
    assert max(weights) <= 10
    assert desk.left() == set()


def test_many_claims_share_a_transaction() -> None:
    """Several claims that are done are written in one transaction."""
    desk = Desk()
    for number in range(6):
        claimed = desk.claim(rows(4, NOW + number, first=1 + number * 4), NUMBER + number)
        desk.settler.report(claimed, [])
    desk.step()
    assert len(desk.sent) == 1
    assert desk.left() == set()


def test_it_writes_at_most_every_so_often() -> None:
    """Outcomes gather for `settle_every` before they are written."""
    desk = Desk()
    first = desk.claim(rows(1))
    desk.settler.report(first, [])
    desk.step()
    second = desk.claim(rows(1, first=9), NUMBER + 1)
    desk.settler.report(second, [])
    again = desk.step(later=1 * MS)
    assert again == desk.now + 9 * MS
    assert len(desk.sent) == 1
    desk.step(later=9 * MS)
    assert len(desk.sent) == 2


def test_a_full_batch_does_not_wait() -> None:
    """As soon as a whole batch of outcomes has gathered it is written, and the stage is woken."""
    desk = Desk(most=5)
    woken: list[int] = []
    desk.settler.wake = lambda: woken.append(1)
    desk.settler.step(desk.now)
    held = desk.claim(rows(5))
    desk.settler.report(held, [])
    desk.step(later=1)
    assert woken
    assert len(desk.sent) == 1


def test_a_store_that_is_away_is_tried_with_growing_pauses() -> None:
    """Nothing is lost while the store is away; the pauses grow to two seconds, and each is told."""
    desk = Desk(most=3)
    held = [one for i in range(9) for one in desk.claim([row(NOW, i + 1)], NUMBER + i)]
    desk.plan.always["settle"] = Fault.REFUSED
    desk.settler.report(held[:3], [])
    pauses = []
    again = desk.step()
    for one in held[3:]:
        assert again is not None
        pauses.append(again - desk.now)
        desk.settler.report([one], [])
        assert desk.step(later=1) == again
        again = desk.step(later=again - desk.now)
    assert pauses == sorted(pauses)
    assert pauses[0] == 20 * MS
    assert pauses[-1] >= 16 * pauses[0]
    assert {error.level for error in desk.watch.errors} == {Level.ERROR}
    assert desk.settler.waiting() == 9
    desk.plan.always.clear()
    desk.step(later=2 * 10**6)
    desk.step()
    assert desk.left() == set()


def test_forgetting_settles_singly() -> None:
    """After a new number nothing is settled by range: what is done goes row by row."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.settler.report(held[:1], [])
    desk.settler.forget()
    desk.step()
    desk.settler.report(held[1:], [])
    desk.step()
    assert not any(s.ranges for s in desk.sent)
    assert sum(len(s.done) for s in desk.sent) == 3
    assert desk.left() == set()
    assert desk.settler._batches == {}


def test_a_flush_waits_for_nobody() -> None:
    """A flush writes done rows at once, whatever their claims wait for."""
    desk = Desk()
    held = desk.claim(rows(3))
    desk.settler.step(desk.now)
    desk.settler.report(held[:2], [])
    assert desk.settler.waiting() == 2
    desk.step(flush=True, later=0)
    assert desk.settler.waiting() == 0
    assert desk.left() == {held[2][1]}


def test_rows_of_an_unexpected_claim_are_settled_singly() -> None:
    """Outcomes of rows that were never expected are written one by one."""
    desk = Desk()
    desk.store.insert(rows(2))
    held = desk.store.claim(NUMBER, (0, 1, 2, 3), 0, NOW, 10)
    desk.settler.report(held, [])
    desk.step()
    assert [len(s.done) for s in desk.sent] == [2]
    assert desk.left() == set()


def test_the_claimer_hears_where_events_went() -> None:
    """The soonest due time of what was moved is told, because it may lie below what was claimed."""
    desk = Desk()
    told: list[tuple[int, int]] = []
    desk.settler.moved = lambda due_at, now: told.append((due_at, now))
    held = desk.claim(rows(3))
    desk.settler.report(held[:1], [retry_of(held[1], NOW + 9), retry_of(held[2], NOW + 4)])
    desk.step()
    assert told == [(NOW + 4, desk.now)]


def test_an_idle_settler_sleeps() -> None:
    """Without outcomes it waits until it is woken."""
    desk = Desk()
    assert desk.step() is None
    assert desk.sent == []


# --- what the store cannot take ------------------------------------------------------------------


class Choking(Spy):
    """Raises what no store should, over certain tails."""

    bad: frozenset[int] = frozenset()

    def settle(self, settlement: Settlement) -> Settled:
        tails = {one[1] for one in settlement.done}
        tails |= {one.row[1] for one in settlement.moves}
        if self.bad & tails:
            raise ZeroDivisionError("over a row")
        if 99 in self.bad and settlement.ranges:
            raise ZeroDivisionError("over a range")
        return super().settle(settlement)


def choking(*bad: int) -> Desk:
    desk = Desk()
    desk.store = Choking()
    desk.store.bad = frozenset(bad)
    desk.settler._store = desk.store
    return desk


def step_until_quiet(desk: Desk) -> None:
    for _ in range(50):
        desk.step(later=3_000 * MS)
        if not desk.settler.waiting():
            return
    raise AssertionError("never done")


def test_an_outcome_that_cannot_be_written_holds_up_no_other() -> None:
    """An error of the store's own over one outcome is told; all others are written."""
    desk = choking(3, 6)
    held = desk.claim([row(NOW, tail, name=f"n{tail}") for tail in range(1, 10)])
    desk.settler.report(held[:5], [retry_of(one) for one in held[5:]])
    desk.step()
    desk.step(later=25 * MS)
    desk.step(later=45 * MS)
    assert desk.left() & {1, 2, 4, 5} == set()  # long before the bad ones are given up
    assert desk.watch.errors == []
    step_until_quiet(desk)
    assert {one[1] for one in desk.store._rows.values() if one[9]} == {3, 6}
    assert desk.tally.done == 4
    assert desk.tally.retried == 3
    told = [(one.level, one.event_id) for one in desk.watch.errors]
    assert sorted(told) == [(Level.CRITICAL, "n3"), (Level.CRITICAL, "n6")]
    assert "ZeroDivisionError: over a row" in desk.watch.errors[0].text


def test_a_store_that_chokes_for_a_moment_loses_no_outcome() -> None:
    """An outcome is let go only after several tries, some time apart."""
    desk = choking(2)
    held = desk.claim([row(NOW, tail, name=f"n{tail}") for tail in (1, 2)])
    desk.settler.report(held, [])
    desk.step()
    again = desk.step()
    assert again is not None
    assert again > desk.now
    assert isinstance(desk.store, Choking)
    desk.store.bad = frozenset()
    step_until_quiet(desk)
    assert desk.left() == set()
    assert desk.watch.errors == []


def test_a_range_that_cannot_be_written_holds_up_no_other() -> None:
    """A whole claim that the store cannot settle is let go, and the number of events is told."""
    desk = choking(99)
    held = desk.claim(rows(4))
    named = desk.claim([row(NOW, 50, name="n")], NUMBER + 1)
    desk.settler.report([*held, *named], [])
    step_until_quiet(desk)
    assert desk.left() == {1, 2, 3, 4}
    assert "4 event(s) stay claimed" in desk.watch.errors[0].text


def test_suspects_are_let_go_with_their_outcome() -> None:
    """An outcome that cannot be written makes room for the next suspect all the same."""
    desk = choking(1)
    gone: list[Row] = []
    desk.settler.settled = gone.extend
    desk.store.insert([row(NOW, 1, crashes=1)])
    [held] = desk.store.claim(NUMBER, (0,), 0, NOW, 9, crashes=(1, 1))
    desk.settler.expect(NUMBER, [held])
    desk.settler.report([held], [])
    step_until_quiet(desk)
    assert gone == [held]
