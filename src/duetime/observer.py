"""The moments that others may watch, and the errors that they are told of."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from duetime.event import Event
    from duetime.tally import Tally

__all__ = ["ErrorReport", "Level", "LogObserver", "Observer", "Observers", "Statistics"]

_log = logging.getLogger("duetime")


class Level(IntEnum):
    """How bad an error is, as in the logging module."""

    INFO = logging.INFO
    WARNING = logging.WARNING
    ERROR = logging.ERROR
    CRITICAL = logging.CRITICAL


class ErrorReport(msgspec.Struct, frozen=True):
    """Something went wrong; the node goes on."""

    level: Level
    where: str  # the stage: "claimer", "settler", "handler", …
    text: str  # one line, control characters escaped
    event_id: str | None = None
    error: BaseException | None = None


class Statistics(msgspec.Struct, frozen=True):
    """The nine figures at one moment; rates are per second since the moment before.

    Every one counts this process only, except `waiting`, which the store counts.
    """

    at: int  # µs since 1970 UTC
    waiting: int | None  # events in the store; None where it was not asked
    creating_rate: float
    cancelling_rate: float
    firing_rate: float
    held: int  # claimed and in memory, not yet fired
    claiming_rate: float
    queued: int  # due, waiting for a handler
    settling: int  # fired, waiting to be settled
    settling_rate: float
    lateness_p50: int  # µs, over the life of the process
    lateness_p99: int
    lateness_max: int
    tally: Tally  # the counters behind the rates


class Observer:
    """Override what you want to watch; each method is called once per batch, never per event.

    Called from the stages' own threads: be quick, and do not call the scheduler back. An
    exception is caught and reported once.
    """

    def scheduled(self, events: Sequence[Event]) -> None:
        """Events were stored."""

    def cancelled(self, ids: Sequence[str]) -> None:
        """Events were taken back."""

    def fired(self, count: int) -> None:
        """So many events were handed to handlers."""

    def settled(self, done: int, retried: int, dead: int) -> None:
        """Outcomes were written."""

    def died(self, ids: Sequence[str]) -> None:
        """Events were given up."""

    def rescued(self, node: int, count: int) -> None:
        """The claims of a dead node were freed."""

    def error(self, report: ErrorReport) -> None:
        """Something went wrong."""

    def statistics(self, figures: Statistics) -> None:
        """The figures of the last period, every `stats_every` seconds."""


class LogObserver(Observer):
    """Writes errors and statistics to the logger `duetime`."""

    def error(self, report: ErrorReport) -> None:
        """Log an error with its level."""
        known = f" (event {report.event_id})" if report.event_id else ""
        _log.log(report.level, "%s: %s%s", report.where, report.text, known)

    def statistics(self, figures: Statistics) -> None:
        """Log the figures as one line."""
        _log.info(
            "created %.0f/s, cancelled %.0f/s, fired %.0f/s, settled %.0f/s, held %d, queued %d, "
            "settling %d, lateness p50 %.1f ms p99 %.1f ms max %.1f ms",
            figures.creating_rate,
            figures.cancelling_rate,
            figures.firing_rate,
            figures.settling_rate,
            figures.held,
            figures.queued,
            figures.settling,
            figures.lateness_p50 / 1000,
            figures.lateness_p99 / 1000,
            figures.lateness_max / 1000,
        )


class Observers(Observer):
    """Several observers as one; a failing one harms neither the others nor the node."""

    def __init__(self, observers: Iterable[Observer] = ()) -> None:
        self._all = list(observers)
        self._failed: set[int] = set()

    def add(self, observer: Observer) -> None:
        """Watch with one more."""
        self._all.append(observer)

    def _tell(self, moment: str, *arguments: object) -> None:
        for observer in self._all:
            try:
                watch = getattr(observer, moment, None)  # whoever is no Observer may lack some
                if watch is not None:
                    watch(*arguments)
            except Exception:  # noqa: BLE001 - an observer must not stop a node
                if id(observer) not in self._failed:
                    self._failed.add(id(observer))
                    _log.exception("The observer %r failed at %s", observer, moment)

    def watches(self, moment: str) -> bool:
        """Tell whether anyone overrides this moment, so that its data need not be made."""
        ignored = getattr(Observer, moment)
        return any(getattr(type(o), moment, ignored) is not ignored for o in self._all)

    def scheduled(self, events: Sequence[Event]) -> None:
        """Pass on."""
        self._tell("scheduled", events)

    def cancelled(self, ids: Sequence[str]) -> None:
        """Pass on."""
        self._tell("cancelled", ids)

    def fired(self, count: int) -> None:
        """Pass on."""
        self._tell("fired", count)

    def settled(self, done: int, retried: int, dead: int) -> None:
        """Pass on."""
        self._tell("settled", done, retried, dead)

    def died(self, ids: Sequence[str]) -> None:
        """Pass on."""
        self._tell("died", ids)

    def rescued(self, node: int, count: int) -> None:
        """Pass on."""
        self._tell("rescued", node, count)

    def error(self, report: ErrorReport) -> None:
        """Pass on, as one line of printable text."""
        if not report.text.isprintable():
            report = msgspec.structs.replace(report, text=_one_line(report.text))
        self._tell("error", report)

    def statistics(self, figures: Statistics) -> None:
        """Pass on."""
        self._tell("statistics", figures)


def _one_line(text: str) -> str:
    """Return a text with control characters and line ends escaped: it may come from anyone."""
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
