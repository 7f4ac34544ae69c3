"""The reporter turns counters into rates and tells the observers, period by period."""

from __future__ import annotations

from duetime.clock import MICROS
from tests.unit.node.stand import NOW, Stand, rows


def test_each_period_is_reported() -> None:
    """Every `stats_every` the figures of that period are told, and not before the first is over."""
    stand = Stand(stats_every=10).join()
    reporter = stand.node.reporter
    assert reporter.step(stand.now) == NOW + 10 * MICROS
    assert stand.watch.figures == []
    stand.tally.scheduled, stand.tally.fired, stand.tally.done = 50, 30, 20
    stand.ticker.go_on(10 * MICROS)
    assert reporter.step(stand.now) == NOW + 20 * MICROS
    stand.ticker.go_on(10 * MICROS)
    reporter.step(stand.now)
    first, second = stand.watch.figures
    assert (first.creating_rate, first.firing_rate, first.settling_rate) == (5.0, 3.0, 2.0)
    assert (second.creating_rate, second.firing_rate, second.settling_rate) == (0.0, 0.0, 0.0)
    assert (first.at, second.at) == (NOW + 10 * MICROS, NOW + 20 * MICROS)


def test_figures_show_what_is_held_queued_and_settling() -> None:
    """The figures tell where events are at that moment."""
    stand = Stand()
    stand.answer("k", lambda _event: None)
    stand.join()
    stand.insert([*rows(3, NOW), *rows(2, NOW + 1000, first=10)])
    stand.claim()
    stand.fire()
    job = stand.node.runner.next_job(stand.now)
    assert job is not None
    stand.node.runner.run(job)
    figures = stand.node.reporter.figures(stand.now)
    assert (figures.held, figures.queued, figures.settling) == (2, 2, 1)
    assert figures.tally.claimed == 5


def test_figures_are_a_snapshot() -> None:
    """Counters that go on counting do not change figures that were told."""
    stand = Stand().join()
    figures = stand.node.reporter.figures(stand.now)
    stand.tally.fired += 7
    assert figures.tally.fired == 0


def test_lateness_is_among_the_figures() -> None:
    """The figures give median, 99th percentile and maximum of lateness in µs."""
    stand = Stand().join()
    stand.lateness.add(range(1, 101))
    figures = stand.node.reporter.figures(stand.now)
    assert 47 <= figures.lateness_p50 <= 54
    assert 96 <= figures.lateness_p99 <= 100
    assert figures.lateness_max == 100


def test_without_a_period_nothing_is_told_but_rates_are_right() -> None:
    """With `stats_every` 0 nobody is told, and figures asked for count since the start."""
    stand = Stand(stats_every=0).join()
    assert stand.node.reporter.step(stand.now) is None
    stand.tally.fired = 40
    stand.ticker.go_on(4 * MICROS)
    assert stand.node.reporter.step(stand.now) is None
    assert stand.watch.figures == []
    assert stand.node.reporter.figures(stand.now).firing_rate == 10.0
