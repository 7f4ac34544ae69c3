"""A graceful stop loses no outcome."""

from __future__ import annotations

import threading

from duetime import Backoff, ErrorReport, Event, Observer, Scheduler, State


class Slow(Observer):
    """Holds a worker between the end of its handler and the report of its outcome."""

    def __init__(self) -> None:
        self.telling = threading.Event()
        self.stopped = threading.Event()

    def error(self, report: ErrorReport) -> None:
        self.telling.set()
        self.stopped.wait(0.3)  # set only if the stop does not wait for us


def test_an_outcome_in_a_workers_hands_is_settled() -> None:
    """A stop waits for handlers until their outcomes are reported, not only until they return."""
    slow = Slow()
    with Scheduler("memory://", observers=[slow]) as scheduler:

        @scheduler.on("fails", retry=Backoff(retries=0))
        def fails(event: Event) -> None:
            raise OSError

        scheduler.start()
        event = scheduler.schedule("fails")
        assert slow.telling.wait(10)
        scheduler.stop()
        slow.stopped.set()
        found = scheduler.get(event.id)
        assert found is not None
        assert found.state is State.DEAD
