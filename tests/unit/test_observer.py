"""Observers hear of each moment, and a failing one harms nobody."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from duetime.observer import ErrorReport, Level, LogObserver, Observer, Observers, Statistics
from duetime.tally import Tally
from tests.unit.node.stand import NOW, Watch

MOMENTS: dict[str, tuple[Any, ...]] = {
    "scheduled": ([],),
    "cancelled": (["a"],),
    "fired": (3,),
    "settled": (1, 2, 3),
    "died": (["b"],),
    "rescued": (4, 5),
}
FIGURES = Statistics(NOW, None, 1.0, 0.0, 2.0, 3, 0.0, 4, 5, 6.0, 1_500, 2_500, 3_500, Tally())


class Broken(Observer):
    """Fails at whatever it is told."""

    def fired(self, count: int) -> None:
        raise ValueError(count)

    def error(self, report: ErrorReport) -> None:
        raise ValueError(report)


def test_every_observer_hears_every_moment() -> None:
    """Each moment is passed on to all, with what belongs to it."""
    watches = [Watch(), Watch()]
    observers = Observers(watches)
    for moment, arguments in MOMENTS.items():
        getattr(observers, moment)(*arguments)
    report = ErrorReport(Level.ERROR, "here", "text")
    observers.error(report)
    observers.statistics(FIGURES)
    for watch in watches:
        assert [heard[0] for heard in watch.heard] == list(MOMENTS)
        assert watch.errors == [report]
        assert watch.figures == [FIGURES]


def test_an_observer_may_watch_nothing() -> None:
    """Every moment has a default that does nothing."""
    observers = Observers([Observer()])
    for moment, arguments in MOMENTS.items():
        getattr(observers, moment)(*arguments)
    observers.statistics(FIGURES)
    observers.error(ErrorReport(Level.INFO, "here", "text"))


def test_a_failing_observer_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    """The others still hear, the caller goes on, and the failure is logged once."""
    watch = Watch()
    observers = Observers([Broken(), watch])
    for _ in range(3):
        observers.fired(7)
        observers.error(ErrorReport(Level.ERROR, "here", "text"))
    assert watch.heard == [("fired", 7)] * 3
    assert len(caplog.records) == 1
    assert "Broken" in caplog.text


def test_an_observer_may_come_later() -> None:
    """An observer that is added hears from then on."""
    observers = Observers()
    observers.fired(1)
    watch = Watch()
    observers.add(watch)
    observers.fired(2)
    assert watch.heard == [("fired", 2)]


def test_what_nobody_watches_need_not_be_made() -> None:
    """Whether anyone overrides a moment can be asked."""
    assert not Observers([Observer(), LogObserver()]).watches("scheduled")
    assert Observers([Watch()]).watches("scheduled")


def test_an_observer_need_not_be_one_by_class() -> None:
    """An object that knows only some moments is asked for those alone."""

    class Some:
        def __init__(self) -> None:
            self.count = 0

        def fired(self, count: int) -> None:
            self.count += count

    some: Any = Some()
    observers = Observers([some])
    assert observers.watches("fired")
    assert not observers.watches("scheduled")
    observers.fired(5)
    assert some.count == 5


def test_errors_are_logged_with_level_and_event(caplog: pytest.LogCaptureFixture) -> None:
    """The log observer writes an error at its level, with where it was and of which event."""
    LogObserver().error(ErrorReport(Level.CRITICAL, "settler", "it broke", "order-7"))
    [record] = caplog.records
    assert record.levelno == logging.CRITICAL
    assert record.name == "duetime"
    assert all(part in record.getMessage() for part in ("settler", "it broke", "order-7"))


def test_an_error_is_one_line_of_plain_text() -> None:
    """Control characters of an error text are escaped before anyone is told of them."""
    watch = Watch()
    observers = Observers([watch])
    observers.error(ErrorReport(Level.ERROR, "runner", "a\nb\rc\x1b[31md\u2028e\x00ü"))
    text = watch.errors[0].text
    assert text.isprintable()
    assert text.startswith("a\\nb\\rc\\x1b[31md")
    assert "ü" in text


def test_statistics_are_logged_as_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """The figures of a period are one line, lateness in milliseconds."""
    with caplog.at_level(logging.INFO, "duetime"):
        LogObserver().statistics(FIGURES)
    [record] = caplog.records
    assert "p50 1.5 ms p99 2.5 ms max 3.5 ms" in record.getMessage()
    assert "\n" not in record.getMessage()
