"""Backoff: exponential with full jitter, bounded."""

from __future__ import annotations

from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS
from duetime.errors import InvalidInput
from duetime.retry import Backoff


def test_the_default_is_18_retries_up_to_ten_minutes() -> None:
    """By default there are 18 retries after the first attempt, and no pause is above 10 minutes."""
    backoff = Backoff()
    assert not backoff.exhausted(18)
    assert backoff.exhausted(19)
    bounds = [backoff.delay(n, lambda: 1.0) for n in range(1, 19)]
    assert bounds[:4] == [MICROS, 2 * MICROS, 4 * MICROS, 8 * MICROS]
    assert max(bounds) == 600 * MICROS
    assert list(accumulate(bounds, max)) == bounds


def test_no_retries_means_one_attempt() -> None:
    """With `retries=0` the first failure is the last."""
    assert Backoff(retries=0).exhausted(1)
    assert not Backoff(retries=0).exhausted(0)


def test_without_a_limit_it_never_ends() -> None:
    """With `retries=None` nothing is ever exhausted."""
    assert not Backoff(retries=None).exhausted(10**9)


@given(
    st.integers(0, 10**6),
    st.floats(0, 1, exclude_max=True),
    st.floats(0, 1000),
    st.floats(1, 1000),
    st.floats(0, 10**6),
)
def test_a_delay_is_within_its_bound(
    failures: int, chance: float, first: float, factor: float, more: float
) -> None:
    """However often it failed, the delay is between 0 and the maximum, also with huge numbers."""
    backoff = Backoff(first=first, factor=factor, maximum=first + more)
    assert 0 <= backoff.delay(failures, lambda: chance) <= (first + more) * MICROS


def test_full_jitter_spreads_over_the_whole_bound() -> None:
    """The delay is the bound times a number drawn from 0 to 1."""
    backoff = Backoff(first=10)
    assert backoff.delay(1, lambda: 0.0) == 0
    assert backoff.delay(1, lambda: 0.5) == 5 * MICROS
    assert backoff.delay(2, lambda: 0.25) == 5 * MICROS


def test_without_jitter_it_is_the_bound() -> None:
    """With `jitter=False` the delay is the bound, and chance is not asked."""

    def never() -> float:
        raise AssertionError

    assert Backoff(first=3, jitter=False).delay(2, never) == 6 * MICROS


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"retries": -1}, "retries_range"),
        ({"retries": 1.5}, "retries_range"),
        ({"first": -1}, "backoff_range"),
        ({"first": float("nan")}, "backoff_range"),
        ({"factor": 0.5}, "backoff_range"),
        ({"factor": 1e308}, "backoff_range"),
        ({"first": 10, "maximum": 5}, "backoff_range"),
        ({"maximum": float("inf")}, "backoff_range"),
    ],
)
def test_numbers_that_make_no_sense_are_refused(wrong: dict[str, float], code: str) -> None:
    """A backoff that could not be kept is refused when it is made."""
    with pytest.raises(InvalidInput) as caught:
        Backoff(**wrong)  # type: ignore[arg-type] # what is tested
    assert caught.value.code == code
