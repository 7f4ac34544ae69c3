"""A shell steps a stage in a thread until told to stop, and a waker loses no wake."""

from __future__ import annotations

import threading
from collections.abc import Callable

from duetime.clock import MICROS, StoreClock, SystemClock
from duetime.node.shell import Shell, Waker
from tests.unit.node.stand import DEADLINE, wait_until


class Steps:
    """A stage that counts its steps."""

    wake: Callable[[], None]

    def __init__(self, again: int | None = None, error: BaseException | None = None) -> None:
        self.again = again
        self.error = error
        self.count = 0

    def step(self, now: int) -> int | None:
        self.count += 1
        if self.error is not None:
            raise self.error
        return None if self.again is None else now + self.again


def shell_of(stage: Steps, failures: list[tuple[str, BaseException]] | None = None) -> Shell:
    def failed(name: str, error: BaseException) -> None:
        if failures is not None:
            failures.append((name, error))

    return Shell(stage, "steps", StoreClock(SystemClock()), failed)


def test_a_stage_sleeps_until_woken() -> None:
    """A stage that answers None is stepped again when it is woken, and only then."""
    stage = Steps()
    shell = shell_of(stage)
    shell.start()
    wait_until(lambda: stage.count == 1)
    stage.wake()
    wait_until(lambda: stage.count == 2)
    shell.stop()
    assert shell.join(DEADLINE)
    assert stage.count == 2


def test_a_stage_is_called_when_it_asked_to_be() -> None:
    """A stage that names a time is stepped again then."""
    stage = Steps(again=1000)
    shell = shell_of(stage)
    shell.start()
    wait_until(lambda: stage.count >= 5)
    assert shell.alive
    shell.stop()
    assert shell.join(DEADLINE)
    assert not shell.alive


def test_a_stage_outlives_its_faults() -> None:
    """An exception is told with the stage's name, and the stage is stepped again."""
    failures: list[tuple[str, BaseException]] = []
    stage = Steps(error=KeyError("x"))
    shell = shell_of(stage, failures)
    shell.start()
    wait_until(lambda: stage.count >= 2)
    shell.stop()
    assert shell.join(DEADLINE)
    assert failures[0] == ("steps", stage.error)


def test_a_wake_before_the_wait_is_kept() -> None:
    """Who wakes before anyone waits wakes the next who does; many wakes are one."""
    waker = Waker()
    waker.wake()
    waker.wake()
    assert waker.wait(None)
    assert not waker.wait(0)
    assert not waker.wait(-5)


def test_a_wait_ends_by_itself() -> None:
    """A wait without a wake ends after its time and says so."""
    assert not Waker().wait(MICROS // 1000)


def test_waking_from_another_thread() -> None:
    """A waiting thread goes on when another wakes it."""
    waker = Waker()
    threading.Thread(target=waker.wake).start()
    assert waker.wait(int(DEADLINE * MICROS))
