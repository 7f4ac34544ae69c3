"""The runner hands rows to workers, judges what came of them, and lets nothing hang or get lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from duetime import codec
from duetime.clock import MICROS
from duetime.event import PARKING, Event
from duetime.node.lanes import Job
from duetime.outcome import Dead, Done, Retry
from tests.unit.node.stand import MS, NOW, Stand, row, rows


def stand_of(function: Callable[..., Any], count: int = 0, **options: Any) -> Stand:
    """Return a node that answers kind "k" and has so many of its events due and queued."""
    settings = options.pop("settings", {})
    stand = Stand(**settings)
    stand.answer("k", function, **options)
    stand.join()
    if count:
        queue(stand, count)
    return stand


def queue(stand: Stand, count: int, first: int = 1) -> None:
    stand.insert(rows(count, stand.now, first=first))
    stand.node.stored(stand.now, stand.now)
    stand.claim()
    stand.fire()


def fast(stand: Stand, pace: float = 1.0) -> None:
    """Make the kind so fast that a worker gets many rows at once."""
    stand.node.lanes.all()[0].pace = pace


def job_of(stand: Stand) -> Job:
    job = stand.node.runner.next_job(stand.now)
    assert job is not None
    return job


def dead_reasons(stand: Stand) -> list[str | None]:
    return [event.reason for event in stand.memory._dead.values()]


@pytest.mark.parametrize("value", [None, Done(), True, 0, "anything", {"a": 1}])
def test_returning_is_done(value: Any) -> None:
    """Whatever a handler returns that is no outcome means done."""
    stand = stand_of(lambda _event: value, 3)
    stand.work()
    stand.settle()
    assert stand.tally.done == 3
    assert stand.kept() == []
    assert stand.node.lanes.held() == 0


def test_raising_means_again() -> None:
    """What a handler raises is told, counted, and the event waits for its next attempt."""

    def fail(_event: Event) -> None:
        raise ValueError("no stock")

    stand = stand_of(fail, 1)
    stand.work()
    stand.settle()
    [kept] = stand.kept()
    assert kept[0] > NOW
    assert (kept[7], kept[9]) == (1, 0)
    assert (stand.tally.failed, stand.tally.retried, stand.tally.fired) == (1, 1, 1)
    [report] = stand.watch.errors
    assert "no stock" in report.text
    assert report.event_id is not None
    assert isinstance(report.error, ValueError)


def test_outcomes_decide() -> None:
    """Retry moves the event, Dead buries it, each as the handler said."""
    answers = iter([Retry(after=60), Dead("enough"), None])
    stand = stand_of(lambda _event: next(answers), 3)
    stand.work()
    stand.settle()
    assert [one[0] for one in stand.kept()] == [NOW + 60 * MICROS]
    assert dead_reasons(stand) == ["enough"]
    assert (stand.tally.done, stand.tally.retried, stand.tally.dead) == (1, 1, 1)
    assert stand.tally.failed == 0


def test_an_outcome_of_ones_own_class_counts() -> None:
    """A subclass of Retry or Dead is one."""

    class Later(Retry, frozen=True):
        """A retry of the program's own."""

    stand = stand_of(lambda _event: Later(after=5), 1)
    stand.work()
    stand.settle()
    assert [one[0] for one in stand.kept()] == [NOW + 5 * MICROS]


def test_a_coroutine_is_not_done() -> None:
    """A plain function that returns a coroutine has done nothing: that is no success."""

    async def work(_event: Event) -> None:
        """Never awaited."""

    stand = stand_of(lambda event: work(event), 1)  # noqa: PLW0108 - what hides the coroutine
    stand.work()
    stand.settle()
    assert stand.tally.done == 0
    assert stand.tally.failed == 1
    assert "await" in stand.watch.errors[0].text


def test_one_failure_does_not_touch_the_others() -> None:
    """One bad event of many changes nothing for those beside it."""

    def fail_once(event: Event) -> None:
        if event.row[1] == 5:
            raise SystemExit

    stand = stand_of(fail_once, 20)
    stand.work()
    stand.settle()
    assert stand.tally.done == 19
    assert [one[1] for one in stand.kept()] == [5]


def test_a_corrupt_payload_dies_with_a_reason() -> None:
    """An event whose payload cannot be read is dead at once; the worker lives on."""
    stand = stand_of(lambda event: event.payload)
    stand.insert([row(tail=1, payload=b"{"), row(tail=2)])
    stand.claim()
    stand.fire()
    stand.work()
    stand.settle()
    assert stand.tally.done == 1
    assert "not JSON" in (dead_reasons(stand)[0] or "")


def test_events_start_in_due_order() -> None:
    """One worker begins the events of a kind in the order of their due times."""
    order: list[int] = []
    stand = stand_of(lambda event: order.append(event.row[0]))
    stand.insert([row(NOW + at, at + 1) for at in (5, 1, 4, 2, 3)])
    stand.claim()
    stand.ticker.go_on(1 * MS)
    stand.fire()
    stand.work()
    assert order == sorted(order)
    assert len(order) == 5


def test_kinds_take_turns() -> None:
    """A long queue of one kind does not keep another kind from starting."""
    order: list[str] = []
    stand = Stand()
    stand.answer("a", lambda event: order.append(event.kind))
    stand.answer("b", lambda event: order.append(event.kind))
    stand.join()
    stand.insert([*rows(10, NOW - 1, kind="a"), *rows(2, NOW, first=50, kind="b")])
    stand.claim()
    stand.fire()
    stand.work()
    assert order.index("b") <= 2
    assert len(order) == 12


def test_lateness_is_measured_at_the_start() -> None:
    """Lateness is when the handler was started minus when it was due."""
    stand = stand_of(lambda _event: stand.ticker.go_on(7 * MS))
    stand.insert(rows(1, NOW + 10 * MS))
    stand.claim()
    stand.ticker.go_on(12 * MS)
    stand.fire()
    stand.work()
    assert stand.lateness.count == 1
    assert stand.lateness.maximum == 2 * MS


def test_an_unknown_kind_is_parked() -> None:
    """Events that nobody here knows are parked, told of once per batch, and cost no attempt."""
    stand = stand_of(lambda _event: None)
    stand.insert(rows(4, kind="unknown"))
    stand.claim()
    stand.fire()
    stand.settle()
    assert {one[2] for one in stand.kept()} == {PARKING}
    assert {one[6] for one in stand.kept()} == {0}
    assert len(stand.watch.errors) == 1
    assert "@scheduler.on('unknown')" in stand.watch.errors[0].text


# --- batches --------------------------------------------------------------------------------------


def test_a_batch_handler_gets_a_list() -> None:
    """A batch handler is called with at most so many events, and None means done for all."""
    sizes: list[int] = []
    stand = stand_of(lambda events: sizes.append(len(events)), 25, batch=10)
    stand.work()
    stand.settle()
    assert sizes == [10, 10, 5]
    assert stand.tally.done == 25


def test_one_outcome_may_stand_for_all() -> None:
    """An outcome or an exception of a batch handler counts for each of its events."""
    for answer, kept in ((Retry(after=9), 4), (Done(), 0)):
        stand = stand_of(lambda _events: answer, 4, batch=True)  # noqa: B023 - called in this round
        stand.work()
        stand.settle()
        assert len(stand.kept()) == kept

    def fail(_events: list[Event]) -> None:
        raise ValueError("all of them")

    stand = stand_of(fail, 4, batch=True)
    stand.work()
    assert stand.tally.failed == 4


def test_a_list_of_outcomes_is_one_for_each() -> None:
    """A list answers event by event, in order."""
    stand = stand_of(
        lambda _events: [None, Retry(after=9), Dead("x"), ValueError("y")], 4, batch=True
    )
    stand.work()
    stand.settle()
    assert (stand.tally.done, stand.tally.retried, stand.tally.dead) == (1, 2, 1)
    assert stand.tally.failed == 1


def test_a_dict_of_outcomes_is_by_id() -> None:
    """A dict answers by id; who is not in it is done."""
    stand = stand_of(lambda events: {events[1].id: Dead("x")}, 3, batch=True)
    stand.work()
    stand.settle()
    assert (stand.tally.done, stand.tally.dead) == (2, 1)


@pytest.mark.parametrize("answer", [[None], "text", 7, [None] * 9])
def test_an_answer_that_fits_no_event_is_a_failure(answer: Any) -> None:
    """A result from which no outcome per event can be read fails them all: nothing is lost."""
    stand = stand_of(lambda _events: answer, 3, batch=True)
    stand.work()
    stand.settle()
    assert stand.tally.failed == 3
    assert len(stand.kept()) == 3


# --- the fence ------------------------------------------------------------------------------------


@pytest.mark.parametrize("batch", [False, True])
def test_nothing_begins_behind_a_closed_fence(batch: bool) -> None:  # noqa: FBT001 - a parameter
    """Rows that were queued when the fence closed are not begun."""
    ran: list[object] = []
    stand = stand_of(ran.append, 5, batch=batch)
    stand.ticker.go_on(2 * MICROS)
    stand.work()
    assert ran == []
    assert stand.tally.dropped == 5
    assert stand.node.lanes.held() == 0


def test_the_fence_is_asked_before_each_event() -> None:
    """When the fence closes in the middle of a job, the rest of the job is not begun."""
    ran: list[int] = []

    def work(event: Event) -> None:
        ran.append(event.row[1])
        if len(ran) == 3:
            stand.ticker.go_on(2 * MICROS)

    stand = stand_of(work)
    fast(stand)
    queue(stand, 9)
    stand.work()
    assert len(ran) == 3
    assert stand.tally.dropped == 6


def test_what_the_fence_kept_back_runs_later() -> None:
    """Where nobody held this node for dead, what it dropped is given back and runs after all."""
    ran: list[int] = []
    stand = stand_of(lambda event: ran.append(event.row[1]), 5)
    stand.ticker.go_on(2 * MICROS)
    stand.work()
    stand.settle()
    assert stand.number == 1
    stand.live(3 * MICROS)
    assert sorted(ran) == [1, 2, 3, 4, 5]
    assert stand.kept() == []


def test_claims_of_an_earlier_life_are_not_begun() -> None:
    """Rows claimed under an old number never start, even with an open fence."""
    ran: list[object] = []
    stand = stand_of(ran.append, 3)
    stand.node.fence.enter(9)
    stand.work()
    assert ran == []
    assert stand.tally.dropped == 3


# --- what hangs -----------------------------------------------------------------------------------


def test_what_a_stuck_job_has_not_begun_is_taken_back() -> None:
    """While one handler hangs, the rest of its chunk is run by others, and its past is settled."""
    ran: list[int] = []
    inner: list[int] = []

    def hang(event: Event) -> None:
        ran.append(event.row[1])
        if event.row[1] == 3:
            stand.ticker.go_on(6 * MS)
            stand.fire()
            inner.extend(stand.fed[-1:])
            stand.settle()
            stand.work()
            assert sorted(ran) == list(range(1, 11))
            assert stand.node.lanes.held() == 1

    stand = stand_of(hang)
    fast(stand)
    queue(stand, 10)
    stand.work()
    stand.settle(flush=True)
    assert inner
    assert ran[:3] == [1, 2, 3]
    assert sorted(ran) == list(range(1, 11))
    assert stand.kept() == []
    assert stand.tally.done == 10


def test_a_stuck_job_is_looked_for_in_time() -> None:
    """As long as a job has rows that it has not begun, the firer comes back to look."""
    stand = stand_of(lambda _event: None)
    fast(stand)
    stand.insert(rows(10))
    stand.claim()
    again = stand.fire()
    assert again is not None, "rows wait for a worker, and nobody will look after them"
    assert again <= stand.now + 5 * MS
    job_of(stand)
    stand.ticker.go_on(5 * MS)
    again = stand.fire()
    assert again is not None
    assert again <= stand.now + 5 * MS


def test_hoarded_rows_go_back() -> None:
    """When a kind's queue has not moved for a second, all but a few rows go back to the store."""
    stand = stand_of(lambda _event: None, 100, settings={"workers": 4})
    cap = stand.node.lanes.all()[0].cap
    jobs = [job_of(stand) for _ in range(cap)]
    for job in jobs:
        job.current = job.rows.popleft()
    assert stand.node.runner.next_job(stand.now) is None
    stand.ticker.go_on(MICROS)
    stand.node.firer.step(stand.now)
    stand.settle()
    assert stand.node.lanes.queued() == cap
    assert stand.node.lanes.held() == 2 * cap
    free = [one for one in stand.kept() if not one[9]]
    assert len(free) == 100 - 2 * cap
    assert {one[6] for one in free} == {0}
    assert len(jobs) == cap


def test_abandoned_jobs_are_freed() -> None:
    """What still runs at the end is given back: its attempt counts, no failure does."""
    stand = stand_of(lambda _event: None)
    fast(stand)
    queue(stand, 3)
    job = job_of(stand)
    job.done.append(job.rows.popleft())
    job.current = job.rows.popleft()
    stand.node.runner.return_rows(stand.node.runner.unqueue())
    stand.node.runner.abandon()
    stand.settle(flush=True)
    kept = stand.kept()
    assert [one[9] for one in kept] == [0, 0]
    assert sorted((one[6], one[7]) for one in kept) == [(0, 0), (1, 0)]
    assert stand.tally.done == 1


def test_what_is_unqueued_is_all_that_waits() -> None:
    """Unqueuing returns every row that no worker has begun, once."""
    stand = stand_of(lambda _event: None)
    fast(stand, 500.0)
    queue(stand, 10)
    job = job_of(stand)
    assert len(job.rows) == 2
    job.current = job.rows.popleft()
    out = stand.node.runner.unqueue()
    assert len(out) == 9
    assert job.current not in out
    assert stand.node.runner.unqueue() == []


def test_making_room_wakes_a_hungry_claimer() -> None:
    """When a job ends and a kind had more to claim than room, the claimer is woken."""
    stand = stand_of(lambda _event: None, 2)
    woken: list[int] = []
    stand.node.claimer.wake = lambda: woken.append(1)
    stand.node.claimer.hungry = False
    stand.node.runner.run(job_of(stand))
    assert not woken
    stand.node.claimer.hungry = True
    stand.node.runner.run(job_of(stand))
    assert woken


def test_suspects_are_counted_off() -> None:
    """A suspect makes room for the next once its outcome is written, however it ended."""

    def work(event: Event) -> None:
        if event.row[1] % 2:
            raise ValueError

    stand = stand_of(work)
    stand.insert([row(NOW, i, crashes=1) for i in range(1, 9)])
    stand.claim()
    assert stand.node.runner.suspects == 8
    stand.fire()
    stand.work()
    assert stand.node.runner.suspects == 8
    stand.settle(flush=True)
    assert stand.node.runner.suspects == 0


def test_the_history_grows_with_each_failure() -> None:
    """An event that fails until it dies keeps each error, and runs as often as allowed."""
    attempts: list[int] = []

    def fail(event: Event) -> None:
        attempts.append(event.attempt)
        raise ValueError(f"number {event.attempt}")

    stand = stand_of(fail, 1)
    stand.live(9 * MICROS, 50 * MS)
    assert attempts == [1, 2, 3, 4]
    [dead] = stand.memory._dead.values()
    assert [entry["error"] for entry in codec.decode(dead.row[11] or b"")] == [
        f"ValueError: number {n}" for n in attempts
    ]
    assert "4 attempts" in (dead.reason or "")
