"""Time: µs since 1970 UTC, measured against the store and carried on by the boot clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS, StoreClock, SystemClock, from_micros, to_micros
from tests.unit.node.stand import BOOT, NOW, Ticker

moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30)).map(  # noqa: DTZ001 - zoned below
    lambda moment: moment.replace(tzinfo=UTC)
)


@given(moments, st.integers(-14 * 60, 14 * 60))
def test_moments_come_back_exact(moment: datetime, offset: int) -> None:
    """A datetime becomes µs and the same instant again, in whatever zone it was."""
    there = moment.astimezone(timezone(timedelta(minutes=offset)))
    assert from_micros(to_micros(there)) == moment
    assert to_micros(there) == to_micros(moment)


def test_micros_count_from_1970() -> None:
    """Instants are counted in µs from the first moment of 1970 UTC."""
    assert to_micros(datetime(1970, 1, 1, 0, 0, 1, 5, tzinfo=UTC)) == MICROS + 5
    assert from_micros(0) == datetime(1970, 1, 1, tzinfo=UTC)


def test_the_first_measurement_sets_the_clock() -> None:
    """After one answer of the store, its time is this clock's time."""
    clock = StoreClock(Ticker())
    clock.measure(NOW, BOOT, BOOT)
    assert clock.now() == NOW


def test_the_boot_clock_carries_it_on() -> None:
    """Between two measurements time passes as on the boot clock, however the wall clock steps."""
    ticker = Ticker()
    clock = StoreClock(ticker)
    clock.measure(NOW, BOOT, BOOT)
    ticker.go_on(5 * MICROS)
    ticker.wall_at -= 3600 * MICROS
    assert clock.now() == NOW + 5 * MICROS
    assert clock.boot() == BOOT + 5 * MICROS


def test_a_slow_answer_does_not_make_it_wobble() -> None:
    """A measurement that agrees with what is known changes nothing."""
    clock = StoreClock(Ticker())
    clock.measure(NOW, BOOT, BOOT)
    before = clock.offset
    clock.measure(NOW + 50, BOOT, BOOT + 100)
    clock.measure(NOW + 10, BOOT, BOOT + 100)
    assert clock.offset == before


@given(st.integers(-(10**12), 10**12), st.integers(0, 10**9), st.integers(0, 10**9))
def test_a_correction_never_runs_ahead_of_the_store(offset: int, asked: int, took: int) -> None:
    """What did not fit a measurement is corrected to the latest that the store may surely show.

    What does fit it stays, and both are within the window of the measurement.
    """
    ticker = Ticker()
    clock = StoreClock(ticker, offset)
    sent, received = ticker.boot(), ticker.boot() + asked + took
    moved = clock.measure(NOW, sent, received)
    ticker.boot_at = received
    # The store read NOW at some time from `sent` on: it shows from NOW to NOW + asked + took here.
    assert clock.now() == NOW or moved == 0
    assert NOW <= clock.now() <= NOW + asked + took
    assert moved == clock.offset - offset


def test_a_step_of_the_store_is_followed() -> None:
    """When the store's clock steps, the next measurement follows it, forth and back."""
    clock = StoreClock(Ticker())
    for step in (3600, -7200):
        clock.measure(NOW + step * MICROS, BOOT, BOOT)
        assert clock.now() == NOW + step * MICROS


def test_the_system_clock_runs() -> None:
    """The boot clock does not run backwards, and the wall clock is somewhere after 2024."""
    clock = SystemClock()
    first = clock.boot()
    clock.sleep(1)
    assert clock.boot() > first
    assert clock.wall() > to_micros(datetime(2024, 1, 1, tzinfo=UTC))
