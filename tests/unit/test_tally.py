"""The histogram of lateness counts every value once, and its quantiles are near the truth."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from duetime.tally import Lateness

values = st.lists(
    st.one_of(st.integers(0, 40), st.integers(0, 10_000), st.integers(0, 10**13)), min_size=1
)


@given(values, st.integers(0, 100))
def test_every_value_counts_once(late: list[int], cut: int) -> None:
    """Count, least and greatest are exact, however the values came in."""
    lateness = Lateness()
    for some in (late[:cut], late[cut:]):
        lateness.add(some)
        assert lateness.count >= len(some)
    assert (lateness.count, lateness.minimum, lateness.maximum) == (
        len(late),
        min(late),
        max(late),
    )


@given(values, st.floats(0, 1))
def test_quantiles_are_near_the_truth(late: list[int], share: float) -> None:
    """A quantile is at least the true one, and at most 7 per cent above it."""
    lateness = Lateness()
    lateness.add(late)
    true = sorted(late)[max(0, -int(-share * len(late) // 1) - 1)]
    assert true <= lateness.quantile(share) <= max(true * 1.07, true + 1)


@given(st.integers(0, 10**14))
def test_a_value_alone_is_every_quantile(value: int) -> None:
    """One value, up to three years, is its own median and maximum."""
    lateness = Lateness()
    lateness.add([value])
    assert lateness.quantile(0.5) == lateness.quantile(1.0) == lateness.maximum == value


def test_nothing_is_no_lateness() -> None:
    """Where nothing was fired, every figure is 0."""
    lateness = Lateness()
    lateness.add([])
    assert (lateness.count, lateness.maximum, lateness.minimum, lateness.quantile(0.99)) == (
        0,
        0,
        0,
        0,
    )
