"""Wishes become rows, and a lost answer is neither a lost event nor a guess."""

from __future__ import annotations

from datetime import timedelta
from random import Random
from typing import Any

import pytest

from duetime.chance import Tails
from duetime.clock import MICROS, StoreClock
from duetime.errors import AnswerLost, InvalidInput, StoreFull, StoreUnavailable
from duetime.event import CLAIM, Event, Row
from duetime.intake import Intake
from duetime.observer import Observers
from duetime.stores.contract import Answer, Death, Settlement
from duetime.testing.faulty_store import Fault
from tests.unit.node.stand import BOOT, MS, NOW, Stand, replace, row

LOST, GONE, AWAY = Fault.LOST_AFTER, Fault.LOST_BEFORE, Fault.REFUSED


class Door:
    """An intake, with or without a node in its process."""

    def __init__(self, *, node: bool = False, **settings: Any) -> None:
        self.stand = Stand(**settings)
        self.stand.answer("k", lambda _event: None)
        self.clock = self.stand.clock if node else StoreClock(self.stand.ticker)
        self.intake = Intake(
            self.stand.store,
            self.stand.settings,
            self.clock,
            Tails(Random(3)),
            Observers([self.stand.watch]),
            self.stand.tally,
        )
        self.plan = self.stand.plan
        self.tally = self.stand.tally
        if node:
            self.intake.node = self.stand.join().node

    def row(self, event_id: str | None = None, after: float = 10, kind: str = "k") -> Row:
        return self.intake.row(kind, None, None, after, event_id)

    def schedule(self, event_id: str | None = None, after: float = 10, kind: str = "k") -> Event:
        return self.intake.insert([self.row(event_id, after, kind)])[0]

    def bury(self, event_id: str) -> None:
        """Store an event and make it die."""
        stand = self.stand
        stand.insert([row(NOW - MICROS, 900, name=event_id)])
        stand.memory.claim(99 << 32, range(4), 0, NOW - MICROS, 10)
        found = stand.memory.get([event_id])[0]
        assert found is not None
        stand.memory.settle(Settlement(deaths=[Death(found.row, NOW, "why", 1, None)]))


def test_a_wish_becomes_a_row() -> None:
    """A row is due by the store's clock, unclaimed, and lies in a shard of the store."""
    door = Door()
    made = door.intake.row("k", {"a": 1}, None, timedelta(seconds=5), None)
    assert made[0] == NOW + 5 * MICROS
    assert made[2] in range(4)
    assert made[3:] == (None, "k", b'{"a":1}', 0, 0, 0, 0, NOW, None)


def test_rows_of_one_instant_keep_their_order() -> None:
    """Events scheduled one after the other for the same instant lie in that order."""
    door = Door()
    tails = [door.row()[1] for _ in range(20)]
    assert tails == sorted(tails)


def test_the_shard_of_a_name_is_always_the_same() -> None:
    """An id given twice leads to the same shard; ids spread over the shards."""
    door = Door()
    assert door.row("a")[2] == door.row("a")[2]
    assert {door.row(f"n{i}")[2] for i in range(40)} == {0, 1, 2, 3}


@pytest.mark.parametrize(
    ("wish", "code"),
    [
        (("", None, None, None, None), "kind_invalid"),
        (("k", {1}, None, None, None), "payload_type"),
        (("k", None, None, -1, None), "delay_range"),
        (("k", None, None, None, "a b"), "id_invalid"),
    ],
)
def test_a_bad_wish_is_refused(wish: tuple[Any, ...], code: str) -> None:
    """What cannot be stored is refused before anything is written."""
    door = Door()
    with pytest.raises(InvalidInput) as caught:
        door.intake.row(*wish)
    assert caught.value.code == code
    assert "insert" not in door.plan.calls


def test_the_clock_is_measured_before_its_first_use_and_then_now_and_then() -> None:
    """Where no node beats, the store's clock is read at first and again after a second."""
    door = Door()
    assert not door.intake.is_measured
    assert door.intake.now() == NOW
    assert door.intake.is_measured
    door.intake.now()
    assert door.plan.calls.count("time") == 1
    door.stand.ticker.wall_at += 60 * MICROS
    door.stand.ticker.boot_at += MICROS + 1
    assert door.intake.now() == NOW + 60 * MICROS
    assert door.plan.calls.count("time") == 2


def test_a_new_event_is_told_and_counted() -> None:
    """A stored event is an event of the caller's, counted and told to observers."""
    door = Door()
    event = door.schedule()
    assert event.created
    assert door.stand.memory.get([event.id])[0] is not None
    assert (door.tally.scheduled, door.tally.existed, door.tally.saves) == (1, 0, 1)
    assert door.stand.watch.heard == [("scheduled", 1)]


def test_the_same_id_is_the_same_event() -> None:
    """With an id that is kept already, the kept event comes back and says so."""
    door = Door()
    first = door.schedule("a", after=10)
    again = door.schedule("a", after=99)
    assert (first.created, again.created) == (True, False)
    assert again.due_at == first.due_at
    assert (door.tally.scheduled, door.tally.existed) == (1, 1)
    assert len(door.stand.kept()) == 1
    assert sum(count for _, count in door.stand.watch.heard) == 1


@pytest.mark.parametrize("fault", [LOST, GONE])
@pytest.mark.parametrize("event_id", [None, "a"])
def test_a_lost_insert_is_sent_again(fault: Fault, event_id: str | None) -> None:
    """An insert whose answer was lost is sent again, and one event is there, created by us."""
    door = Door()
    door.plan.next("insert", fault, fault)
    event = door.schedule(event_id)
    assert event.created
    assert len(door.stand.kept()) == 1
    assert (door.tally.scheduled, door.tally.existed, door.tally.resent) == (1, 0, 2)


def test_an_answer_that_stays_lost_is_told() -> None:
    """After some tries the caller hears that it may or may not have happened."""
    door = Door()
    door.plan.always["insert"] = LOST
    with pytest.raises(AnswerLost):
        door.schedule()
    assert door.tally.resent == 4


@pytest.mark.parametrize("call", ["insert", "cancel", "reschedule", "redrive"])
def test_lost_and_then_away_is_not_surely_nothing(call: str) -> None:
    """When the second try is refused, the first one may have happened: nobody says it did not."""
    door = Door()
    event = door.schedule("a")
    door.bury("d")
    door.plan.next(call, LOST, AWAY)
    calls: dict[str, Any] = {
        "insert": lambda: door.schedule("b"),
        "cancel": lambda: door.intake.cancel([event.id]),
        "reschedule": lambda: door.intake.reschedule([(event.id, NOW)]),
        "redrive": lambda: door.intake.redrive(["d"], NOW, b"{}"),
    }
    with pytest.raises(AnswerLost):
        calls[call]()


def test_a_refused_insert_is_told_as_such() -> None:
    """A store that is away surely stored nothing, and the caller hears just that."""
    door = Door()
    door.plan.next("insert", AWAY)
    with pytest.raises(StoreUnavailable):
        door.schedule()
    assert door.stand.kept() == []
    assert door.tally.scheduled == 0


# --- cancel, reschedule, redrive ------------------------------------------------------------------


def test_cancel_answers_for_each() -> None:
    """Each id gets its own answer: taken back, claimed, unknown or dead."""
    door = Door()
    event, claimed = door.schedule(), row(NOW, 5, claim=7 << 32)
    door.stand.insert([claimed])
    door.bury("d")
    ids = [event.id, Event(claimed).id, "none", "d"]
    answers = door.intake.cancel(ids)
    assert answers == [Answer.CANCELLED, Answer.IN_FLIGHT, Answer.UNKNOWN, Answer.DEAD]
    assert door.tally.cancelled == 1
    assert ("cancelled", event.id) in door.stand.watch.heard


def test_a_lost_cancel_is_never_guessed() -> None:
    """After a lost answer "unknown" may mean that our own cancel did it: it is told as lost."""
    door = Door()
    event, other = door.schedule(), door.schedule()
    door.plan.next("cancel", LOST)
    answers = door.intake.cancel([event.id])
    assert isinstance(answers[0], AnswerLost)
    door.plan.next("cancel", GONE)
    assert door.intake.cancel([other.id]) == [Answer.CANCELLED]


def test_a_lost_cancel_of_many_is_told_for_those_in_doubt_alone() -> None:
    """Of many ids only those whose answer cannot be told apart are in doubt."""
    door = Door()
    events = [door.schedule() for _ in range(3)]
    cancel = door.stand.memory.cancel
    tries: list[int] = []

    def lose_half(ids: list[str]) -> list[Answer]:
        tries.append(1)
        if len(tries) == 1:
            cancel(ids[:1])
            raise AnswerLost("half way")
        return cancel(ids)

    replace(door.stand.memory, cancel=lose_half)
    answers = door.intake.cancel([event.id for event in events])
    assert isinstance(answers[0], AnswerLost)
    assert answers[1:] == [Answer.CANCELLED, Answer.CANCELLED]


def test_a_lost_reschedule_is_done_again() -> None:
    """Moving twice is moving once, so a lost answer is no doubt, unless the event has gone."""
    door = Door()
    event = door.schedule()
    door.plan.next("reschedule", LOST)
    assert door.intake.reschedule([(event.id, NOW + MICROS)]) == [Answer.RESCHEDULED]
    assert [one[0] for one in door.stand.kept()] == [NOW + MICROS]
    door.plan.next("reschedule", LOST)
    assert isinstance(door.intake.reschedule([("none", NOW)])[0], AnswerLost)
    assert door.tally.rescheduled == 1


def test_a_lost_redrive_is_never_guessed() -> None:
    """After a lost answer "scheduled" may be our own doing: it is told as lost."""
    door = Door()
    door.bury("a")
    door.plan.next("redrive", LOST)
    assert isinstance(door.intake.redrive(["a"], NOW, b"{}")[0], AnswerLost)
    door.bury("b")
    assert door.intake.redrive(["b"], NOW, b"{}") == [Answer.REDRIVEN]
    assert door.tally.redriven == 1


# --- in a node ------------------------------------------------------------------------------------


def test_what_is_due_at_once_is_stored_as_claimed() -> None:
    """A node holds what it schedules for the next moment without claiming it again."""
    door = Door(node=True)
    event = door.schedule(after=0.02)
    [kept] = door.stand.kept()
    assert kept[CLAIM] >> 32 == door.stand.number
    assert event.attempt == 1
    assert door.stand.held() == [kept]
    door.stand.ticker.go_on(20 * MS)
    door.stand.fire()
    door.stand.work()
    door.stand.settle()
    assert door.stand.kept() == []
    assert door.tally.done == 1


@pytest.mark.parametrize("after", [0.06, 10])
def test_what_is_due_later_is_stored_unclaimed(after: float) -> None:
    """Beyond the lead an event is left to whoever claims it, so that a cancel works."""
    door = Door(node=True)
    door.schedule(after=after)
    assert [one[CLAIM] for one in door.stand.kept()] == [0]
    assert door.stand.held() == []


def test_what_a_node_cannot_run_is_stored_unclaimed() -> None:
    """Unknown kinds, pulled kinds, slow kinds, a closed fence, a full node: left in the store."""
    for number in range(5):
        door = Door(node=True, claim_batch=10, max_held=10)
        stand = door.stand
        kind = "k"
        if number == 0:
            kind = "unknown"
        elif number == 1:
            kind = "pulled"
            stand.handlers.pull("pulled")
        elif number == 2:
            lane = stand.node.lanes.get("k")
            assert lane is not None
            lane.low = 0
        elif number == 3:
            stand.ticker.go_on(3 * MICROS)
        else:
            lane = stand.node.lanes.get("k")
            assert lane is not None
            lane.held = 10
        door.schedule(after=0, kind=kind)
        assert [one[CLAIM] for one in stand.kept()] == [0], number


def test_one_write_does_not_claim_more_than_a_node_may_hold() -> None:
    """Of ten events due at once in one write, a node that may hold four claims four."""
    door = Door(node=True, claim_batch=4, max_held=4)
    events = door.intake.insert([door.row(after=0) for _ in range(10)])
    assert sum(1 for event in events if event.row[CLAIM]) == 4


def test_an_existing_event_is_not_held() -> None:
    """An event that existed already is not taken over by who schedules it again."""
    door = Door(node=True)
    door.stand.insert([row(NOW + MICROS, 5, name="a")])
    assert not door.schedule("a", after=0).created
    assert door.stand.held() == []


@pytest.mark.parametrize("fault", [LOST, GONE])
@pytest.mark.parametrize("event_id", [None, "a"])
def test_a_lost_insert_of_a_node_is_run_all_the_same(fault: Fault, event_id: str | None) -> None:
    """What was stored as claimed under a lost answer is held and run once the answer is there."""
    door = Door(node=True)
    door.plan.next("insert", fault)
    event = door.schedule(event_id, after=0)
    assert event.created
    door.stand.live(300 * MS)
    assert door.stand.kept() == []
    assert door.tally.done == 1


def test_what_was_never_answered_is_not_claimed_for_ever() -> None:
    """When every try was lost, what may be stored as claimed by us is freed for anyone."""
    door = Door(node=True)
    door.plan.next("insert", GONE, GONE, GONE, LOST)
    with pytest.raises(AnswerLost):
        door.schedule(after=0)
    door.stand.live(500 * MS)
    assert door.stand.kept() == []
    assert door.tally.done == 1


def test_an_insert_that_failed_is_not_held() -> None:
    """A node holds nothing that was not stored."""
    door = Door(node=True)

    def full(_rows: list[Row]) -> None:
        raise StoreFull("no room")

    replace(door.stand.memory, insert=full)
    with pytest.raises(StoreFull):
        door.schedule(after=0)
    assert door.stand.held() == []
    door.stand.live(200 * MS)
    assert door.tally.done == 0
    assert door.tally.retried == 0


def test_an_event_moved_near_is_fired_in_time() -> None:
    """A reschedule, fire-now or redrive to a time below what was claimed wakes the claimer."""
    door = Door(node=True)
    event = door.schedule(after=60)
    door.stand.live(200 * MS)
    door.intake.reschedule([(event.id, door.stand.now)])
    door.stand.live(50 * MS)
    assert door.tally.done == 1
    door.bury("d")
    door.intake.redrive(["d"], door.stand.now, b"{}")
    door.stand.live(50 * MS)
    assert door.tally.done == 2


def test_a_node_keeps_the_clock_measured() -> None:
    """In a node the store's clock is not asked at each schedule: its beats do that."""
    door = Door(node=True)
    door.intake.now()
    before = door.plan.calls.count("time")
    door.stand.ticker.go_on(MICROS + MS)
    door.schedule(after=60)
    assert door.plan.calls.count("time") == before
    assert door.clock.boot() > BOOT
