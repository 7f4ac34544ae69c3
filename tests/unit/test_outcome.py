"""What a handler may return."""

from __future__ import annotations

import pytest

from duetime.outcome import UNCHANGED, Dead, Done, Retry


def test_outcomes_cannot_be_changed() -> None:
    """An outcome is a value: equal to its like, and frozen."""
    assert Retry(after=1) == Retry(after=1) != Retry(after=2)
    assert Done() == Done()
    outcome = Dead("why")
    with pytest.raises(AttributeError):
        outcome.reason = "other"  # type: ignore[misc] # what is tested


def test_retry_takes_words_only() -> None:
    """What a Retry is told must be named."""
    with pytest.raises(TypeError):
        Retry(5)  # type: ignore[arg-type, call-arg] # what is tested


def test_silence_is_not_none() -> None:
    """A Retry that says nothing of the payload is not one that says None."""
    assert Retry().payload is UNCHANGED
    assert Retry(payload=None).payload is None
    assert Retry() != Retry(payload=None)


def test_a_death_has_a_reason() -> None:
    """Even a Dead without words has a reason that can be listed."""
    assert Dead().reason
