"""A graceful stop loses no outcome."""

from __future__ import annotations

import signal
import sys
import threading
from types import FrameType
from typing import Any

from duetime import Backoff, ErrorReport, Event, Observer, Scheduler, State
from duetime.node.node import Node
from duetime.node.shell import Flag


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


class Hasty(Scheduler):
    """Is told to end before its start is over."""

    def start(self, *arguments: Any, **options: Any) -> Node:
        node = super().start(*arguments, **options)
        signal.raise_signal(signal.SIGINT)
        return node


def test_a_signal_during_the_start_ends_well() -> None:
    """Ctrl-C in the moment a node starts is a graceful stop, not an exception."""
    with Hasty("memory://", beater=False) as scheduler:
        before = signal.getsignal(signal.SIGINT)
        scheduler.run()
        assert signal.getsignal(signal.SIGINT) is before
        assert not scheduler.members()


def test_a_second_signal_ends_the_grace_time() -> None:
    """A signal while handlers are waited for gives up on them at once."""
    release = threading.Event()
    with Hasty("memory://", beater=False, grace=60) as scheduler:

        @scheduler.on("long")
        def long(event: Event) -> None:
            signal.raise_signal(signal.SIGINT)  # of the process: handled by the main thread
            release.wait(10)

        scheduler.schedule("long")
        scheduler.run()
        release.set()
        (event,) = scheduler.find(kind="long")
        assert event.state is State.SCHEDULED


def test_the_flag_may_be_set_inside_its_own_wait() -> None:
    """A signal handler that runs in the waiting thread, at whatever line, cannot lock it up."""
    flag = Flag()
    lines = 0

    def on_line(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal lines
        lines += 1
        flag.set()
        return on_line

    assert not flag.wait(0)
    sys.settrace(on_line)
    try:
        ended = flag.wait(10)
    finally:
        sys.settrace(None)
    assert ended
    assert lines > 1
