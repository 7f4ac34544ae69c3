"""Handlers that write down when they begin and end, and some that misbehave on purpose."""

from __future__ import annotations

import os
import random
import re
import signal
import sys
import time
from typing import Any, NoReturn

from duetime import Dead, Event, Scheduler
from tests.processes.oracle import Log

__all__ = ["HUGE", "register"]

HUGE = 10_000_000  # characters of an exception's text
_NEVER = re.compile(r"(a+)+$")


def register(scheduler: Scheduler, log: Log, plan: dict[str, Any]) -> None:
    """Give the scheduler all handlers of this module, but those that the plan leaves out."""
    without = plan.get("without", ())

    def note(event: Event) -> None:
        log.write("began", event)
        _nap(event)
        log.write("ended", event)

    def mark(event: Event) -> Dead:
        """Leave in the store who ran it, and which attempt that was."""
        log.write("began", event)
        _nap(event)
        log.write("ended", event)
        return Dead(f"{os.getpid()} {event.attempt}")

    def batch(events: list[Event]) -> None:
        for event in events:
            log.write("began", event)
        for event in events:
            log.write("ended", event)

    async def asynchronous(event: Event) -> None:
        log.write("began", event)
        log.write("ended", event)

    def kill(event: Event) -> None:
        """End the process in the way that the payload names."""
        log.write("began", event)
        _die(event.payload["how"])

    def misbehave(event: Event) -> None:
        log.write("began", event)
        _misbehave(event.payload["how"], log)
        log.write("ended", event)

    def spin(event: Event) -> None:
        """Hold the interpreter for so many seconds in one call of a regular expression."""
        log.write("began", event)
        _spin(event.payload["seconds"])
        log.write("ended", event)

    for kind, function in {
        "note": note,
        "mark": mark,
        "async": asynchronous,
        "kill": kill,
        "misbehave": misbehave,
        "spin": spin,
    }.items():
        if kind not in without:
            scheduler.on(kind)(function)
    scheduler.on("batch", batch=100)(batch)


def _nap(event: Event) -> None:
    payload = event.payload if isinstance(event.payload, dict) else {}
    nap = payload.get("nap", 0)
    if event.attempt == 2:
        nap = payload.get("nap_again", nap)
    if nap:
        time.sleep(nap)


def _die(how: str) -> NoReturn:
    if how == "exit":
        os._exit(3)
    if how == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()
    os.abort()


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
            "group": BaseExceptionGroup("two", [ValueError("a"), KeyboardInterrupt()]),
        }[how]


def _fork(log: Log) -> None:
    """Fork, and let the child come back from the handler: the careless case."""
    if os.fork() == 0:
        log.write("forked")


def _spin(seconds: float) -> None:
    """Find a text that the pattern takes so long to refuse; each letter more doubles it."""
    length, took = 18, 0.0
    while took < 0.05:
        length += 1
        began = time.perf_counter()
        _NEVER.match("a" * length + "b")
        took = time.perf_counter() - began
    while took < seconds:
        length, took = length + 1, took * 2
    _NEVER.match("a" * length + "b")


def jitter(spread: float) -> float:
    """Return a number of seconds within ± spread."""
    return random.uniform(-spread, spread)
