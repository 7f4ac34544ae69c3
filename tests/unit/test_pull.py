"""Pull: claims of one kind at the caller's pace, confirmed or rolled back, and nothing hoarded."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest

from duetime.clock import MICROS
from duetime.config import Settings
from duetime.errors import LifecycleError
from duetime.event import Event, Row
from duetime.pull import Claim, Claims
from duetime.retry import Backoff
from duetime.scheduler import Scheduler
from duetime.stores.memory import MemoryStore
from tests.unit.node.stand import DEADLINE, QUICK, wait_until


class Consumer:
    """A scheduler on a memory store, and the claims of kind "k"."""

    def __init__(self, **settings: Any) -> None:
        self.memory = MemoryStore(4)
        self.scheduler = Scheduler(self.memory, settings=Settings(**{**QUICK, **settings}))
        self.claims: Claims = self.scheduler.claims("k", retry=Backoff(first=100, maximum=100))
        self.node = self.scheduler.start()

    def schedule(self, count: int, after: float = 0) -> list[str]:
        wishes = [{"kind": "k", "payload": n, "after": after} for n in range(count)]
        return [event.id for event in self.scheduler.schedule_many(wishes)]

    def take(self, most: int = 1) -> list[Claim]:
        taken = self.claims.take(most, DEADLINE)
        assert taken, "no claim came"
        return taken

    def take_all(self, count: int) -> list[Claim]:
        taken: list[Claim] = []
        while len(taken) < count:
            taken += self.take(count - len(taken))
        return taken

    def rows(self) -> list[Row]:
        return sorted(self.memory._rows.values())

    def free(self) -> int:
        return sum(1 for row in self.rows() if not row[9])


@contextmanager
def consumer(**settings: Any) -> Iterator[Consumer]:
    one = Consumer(**settings)
    try:
        yield one
    finally:
        one.scheduler.close()


def in_thread(call: Callable[[], Any]) -> tuple[threading.Thread, list[Any]]:
    got: list[Any] = []

    def run() -> None:
        try:
            got.append(call())
        except BaseException as error:  # noqa: BLE001 - what is looked at
            got.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    return thread, got


def test_a_block_that_ends_well_confirms() -> None:
    """The event of a claim whose block ended is done."""
    with consumer() as one:
        [name] = one.schedule(1)
        [claim] = one.take()
        with claim as event:
            assert event.id == name
            assert event.attempt == 1
            assert len(one.rows()) == 1
        wait_until(lambda: not one.rows())
        assert one.scheduler.tally.done == 1


def test_a_block_that_raises_rolls_back() -> None:
    """An exception in the block passes on; the event is tried again, and says why."""
    with consumer() as one:
        [name] = one.schedule(1)
        [claim] = one.take()
        with pytest.raises(KeyError), claim:
            raise KeyError("no stock")
        wait_until(lambda: one.free() == 1)
        event = one.scheduler.get(name)
        assert event is not None
        assert event.failures == 1
        assert event.last_error == "KeyError: 'no stock'"


def test_the_first_answer_counts() -> None:
    """After a confirm or rollback every further one is ignored, and says so."""
    with consumer() as one:
        one.schedule(2)
        first, second = one.take_all(2)
        assert first.confirm()
        assert not first.confirm()
        assert not first.rollback()
        assert not first.give_up("late")
        assert second.rollback(0.0)
        assert not second.confirm()
        wait_until(lambda: len(one.rows()) == 1 and one.free() == 1)


def test_answering_inside_the_block_is_enough() -> None:
    """What was said inside the block is not said again at its end."""
    with consumer() as one:
        one.schedule(1)
        [claim] = one.take()
        with claim:
            claim.rollback(timedelta(seconds=50))
        wait_until(lambda: one.free() == 1)
        assert one.scheduler.tally.done == 0


@pytest.mark.parametrize("after", [timedelta(seconds=50), 50, 50.0])
def test_a_rollback_takes_a_delay(after: Any) -> None:
    """Rolled back with a delay, the event is due that much later."""
    with consumer() as one:
        one.schedule(1)
        [claim] = one.take()
        before = one.memory.time()
        claim.rollback(after)
        wait_until(lambda: one.free() == 1)
        [row] = one.rows()
        assert before + 50 * MICROS <= row[0] <= one.memory.time() + 50 * MICROS


def test_a_rolled_back_event_comes_again() -> None:
    """An event that was rolled back is handed out once more, as its second attempt."""
    with consumer() as one:
        [name] = one.schedule(1)
        one.take()[0].rollback(0.0)
        [claim] = one.take()
        assert (claim.event.id, claim.event.attempt) == (name, 2)
        claim.confirm()


def test_giving_up_is_dead() -> None:
    """A consumer may say that an event is hopeless."""
    with consumer() as one:
        [name] = one.schedule(1)
        one.take()[0].give_up("hopeless")
        wait_until(one.scheduler.dead)
        [dead] = one.scheduler.dead()
        assert (dead.id, dead.reason) == (name, "hopeless")


def test_several_are_taken_at_once() -> None:
    """A batch takes what is there up to its size, soonest first."""
    with consumer() as one:
        ids = one.schedule(10)
        claims = one.take_all(10)
        assert sorted(claim.event.id for claim in claims) == sorted(ids)
        for claim in claims:
            claim.confirm()
        wait_until(lambda: not one.rows())


def test_a_wait_ends_without_an_event() -> None:
    """When nothing comes within the wait, nothing is taken, and nobody waits any more."""
    with consumer() as one:
        assert one.claims.take(1, 0) == []
        assert one.claims.take(3, 0.02) == []
        lane = one.node.lanes.get("k")
        assert lane is not None
        assert lane.demand == 0


def test_a_waiting_consumer_hears_at_once() -> None:
    """A consumer that waits gets an event as soon as it is due."""
    with consumer() as one:
        thread, got = in_thread(lambda: one.claims.take(1, DEADLINE))
        lane = one.node.lanes.get("k")
        wait_until(lambda: lane is not None and lane.demand == 1)
        one.schedule(1, after=0.05)
        thread.join(DEADLINE)
        [[claim]] = got
        assert claim.event.row[0] <= one.memory.time()
        claim.confirm()


def test_nobody_waits_nothing_is_claimed() -> None:
    """Without a consumer that waits, events of a pulled kind stay free for other nodes."""
    with consumer() as one:
        one.schedule(5)
        tick = one.node.claimer._next_tick
        wait_until(lambda: one.node.claimer._next_tick > tick + MICROS // 10)
        assert one.free() == 5


def test_what_a_consumer_left_behind_goes_back() -> None:
    """Events claimed for a consumer that has left are given back within a second or two."""
    with consumer() as one:
        one.schedule(6)
        lane = one.node.lanes.get("k")
        assert lane is not None
        with one.node.lanes.lock:
            lane.demand += 6
        one.node.claimer.want()
        wait_until(lambda: len(lane.rows) == 6)
        with one.node.lanes.lock:
            lane.demand -= 6
        wait_until(lambda: one.free() == 6)
        assert {row[6] for row in one.rows()} == {0}
        assert lane.held == 0
        for claim in one.take_all(6):
            claim.confirm()
        wait_until(lambda: not one.rows())


def test_iterating_yields_claims_until_closed() -> None:
    """The claims of a kind are an endless iteration that ends when it is closed."""
    with consumer() as one:
        one.schedule(5)
        seen: list[int] = []
        for claim in one.claims:
            with claim as event:
                seen.append(event.payload)
                if len(seen) == 5:
                    one.claims.close()
        assert sorted(seen) == list(range(5))
        assert one.claims.closed
        assert list(one.claims) == []


def test_leaving_the_loop_puts_back_what_was_prefetched() -> None:
    """Claims that were prefetched and not yielded are as if never handed out."""
    with consumer() as one:
        one.scheduler.stop()
        claims = one.scheduler.claims("k", prefetch=10)
        one.schedule(10)
        for claim in claims:
            claim.confirm()
            break
        wait_until(lambda: len(one.rows()) == 9 and one.free() == 9)
        assert {row[6] for row in one.rows()} == {0}


def test_two_consumers_share() -> None:
    """Several threads may pull the same kind; each event goes to one of them."""
    with consumer() as one:
        seen: list[str] = []

        def consume() -> None:
            for claim in one.claims:
                with claim as event:
                    seen.append(event.id)

        threads = [threading.Thread(target=consume) for _ in range(3)]
        for thread in threads:
            thread.start()
        ids = one.schedule(60)
        wait_until(lambda: len(seen) >= 60)
        one.claims.close()
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive()
        assert sorted(seen) == sorted(ids)


def test_stopping_ends_the_waiting() -> None:
    """When the scheduler stops, waiting consumers end, and what they hold is waited for."""
    with consumer() as one:
        one.schedule(1)
        [claim] = one.take()
        thread, got = in_thread(lambda: one.claims.take(1))
        lane = one.node.lanes.get("k")
        wait_until(lambda: lane is not None and lane.demand == 1)
        stopping = threading.Thread(target=one.scheduler.stop)
        stopping.start()
        thread.join(DEADLINE)
        assert got == [[]]
        assert stopping.is_alive()
        assert claim.confirm()
        stopping.join(DEADLINE)
        assert one.rows() == []


def test_a_stopped_node_hands_out_nothing() -> None:
    """Whoever takes from a node that was stopped underneath hears that it was."""
    with consumer() as one:
        one.node.stop(0)
        with pytest.raises(LifecycleError) as caught:
            one.claims.take(1)
        assert caught.value.code == "stopped"


def test_what_outlasts_the_grace_is_given_back() -> None:
    """A claim that is neither confirmed nor rolled back when the grace ends runs elsewhere."""
    with consumer() as one:
        one.schedule(1)
        [claim] = one.take()
        one.scheduler.stop(0)
        [row] = one.rows()
        assert (row[6], row[7], row[9]) == (1, 0, 0)
        claim.confirm()
        assert len(one.rows()) == 1


def test_claims_can_be_had_again_after_a_stop() -> None:
    """After a stop the same scheduler may pull again."""
    with consumer() as one:
        one.scheduler.stop()
        one.schedule(1)
        claims = one.scheduler.claims("k")
        assert claims is not one.claims
        [claim] = claims.take(1, DEADLINE)
        claim.confirm()


def test_the_same_claims_for_the_same_kind() -> None:
    """Asked twice, the same claims are handed out by the same object."""
    with consumer() as one:
        assert one.scheduler.claims("k") is one.claims


def test_pulled_and_handled_kinds_live_side_by_side() -> None:
    """A scheduler may handle one kind and pull another."""
    ran: list[Event] = []
    with consumer() as one:
        one.scheduler.on("h")(ran.append)
        one.scheduler.schedule("h")
        one.schedule(1)
        one.take()[0].confirm()
        wait_until(lambda: len(ran) == 1)
        wait_until(lambda: not one.rows())
