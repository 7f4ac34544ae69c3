"""Handlers that write down when they begin and end, and some that misbehave on purpose."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from typing import Any, NoReturn

from duetime import Dead, Event, Scheduler
from tests.processes.oracle import Log

__all__ = ["HUGE", "register"]

HUGE = 10_000_000  # characters of an exception's text
_KARATSUBA = 1.585  # twice the digits take 2 ** this as long


def register(scheduler: Scheduler, log: Log, plan: dict[str, Any]) -> None:
    """Give the scheduler all handlers of this module, but those that the plan leaves out."""
    without = plan.get("without", ())

    def note(event: Event) -> None:
        log.write("began", event)
        _nap(event)
        log.write("ended", event)

    def clock(event: Event) -> None:
        """Write down what this process's own clock shows, too."""
        note(event)
        log.write("clock", event, time.time_ns() // 1000)

    def mark(event: Event) -> Dead:
        """Leave in the store who ran it, and which attempt that was."""
        log.write("began", event)
        _nap(event)
        log.write("ended", event)
        return Dead(f"{os.getpid()} {event.attempt}")

    def batch(events: list[Event]) -> None:
        assert [event.payload for event in events]
        for event in events:
            log.write("began", event)
        for event in events:
            log.write("ended", event)

    async def asynchronous(event: Event) -> None:
        log.write("began", event)
        await asyncio.sleep(_nap_of(event))
        log.write("ended", event)

    def kill(event: Event) -> None:
        """End the process, each time in another way."""
        log.write("began", event)
        _die(event.attempt)

    def misbehave(event: Event) -> None:
        log.write("began", event)
        _misbehave(event.payload["how"], log)
        log.write("ended", event)

    async def misbehave_async(event: Event) -> None:
        log.write("began", event)
        _misbehave(event.payload["how"], log)
        log.write("ended", event)

    def spin(event: Event) -> Dead:
        """Hold the interpreter, the first time, in one call that computes."""
        log.write("began", event)
        if event.attempt == 1:
            _spin(event.payload["seconds"])
        log.write("ended", event)
        return Dead(f"{os.getpid()} {event.attempt}")

    for kind, function in {
        "note": note,
        "clock": clock,
        "mark": mark,
        "async": asynchronous,
        "kill": kill,
        "misbehave": misbehave,
        "misbehave.async": misbehave_async,
        "spin": spin,
    }.items():
        if kind not in without:
            scheduler.on(kind)(function)
    scheduler.on("batch", batch=100)(batch)


def _nap(event: Event) -> None:
    if nap := _nap_of(event):
        time.sleep(nap)


def _nap_of(event: Event) -> float:
    payload = event.payload if isinstance(event.payload, dict) else {}
    nap: float = payload.get("nap", 0.0)
    again: float = payload.get("nap_again", nap)
    return again if event.attempt == 2 else nap


def _die(attempt: int) -> NoReturn:
    if attempt == 1:
        os.abort()
    if attempt == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    os._exit(3)


class _BaseError(BaseException):
    pass


class _MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


def _misbehave(how: str, log: Log) -> None:
    if how == "recursion":
        _misbehave(how, log)
    elif how == "fork":
        _fork(log)
    elif how == "mask":
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    elif how == "sys.exit":
        sys.exit(5)
    elif how == "huge":
        raise ValueError("x" * HUGE)
    elif how == "surrogate":
        raise ValueError("\ud800 \x1b[31m \n second line")
    else:
        raise {
            "base": _BaseError("neither an error nor an exit"),
            "interrupt": KeyboardInterrupt(),
            "mute": _MuteError(),
            "memory": MemoryError(),
            "stop": StopIteration(),
            "cancelled": asyncio.CancelledError(),
            "group": BaseExceptionGroup("two", [ValueError("a"), KeyboardInterrupt()]),
        }[how]


def _fork(log: Log) -> None:
    """Fork, and let the child come back from the handler: the careless case."""
    if os.fork() == 0:
        log.write("forked")


def _spin(seconds: float) -> None:
    """Compute one large power: a single call that lets no other thread run.

    Its size is found by processor time, so that a busy machine makes it no shorter.
    """
    digits, took = 20_000, 0.0
    while took < 0.1:
        digits *= 2
        began = time.thread_time()
        pow(3, digits)
        took = time.thread_time() - began
    pow(3, int(digits * (seconds / took) ** (1 / _KARATSUBA)))
