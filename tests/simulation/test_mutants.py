"""The simulation is only as good as the bugs it finds: each planted one must be found."""

from __future__ import annotations

import pytest

from duetime.testing.simulation import simulate
from tests.simulation.mutants import MUTANTS, Mutant

WORLDS = 1000  # within so many a bug must be found


def broken(seed: int) -> bool:
    """Tell whether a world breaks a promise, or falls apart."""
    try:
        return bool(simulate(seed).failures)
    except (ArithmeticError, AssertionError, LookupError, TypeError, ValueError):
        return True  # the bug broke the store itself


@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_bug_is_found(mutant: Mutant) -> None:
    """A planted bug is found within a thousand worlds."""
    with mutant.planted():
        assert any(broken(seed) for seed in range(WORLDS))


def test_enough_bugs_are_planted() -> None:
    """The list holds the bugs that others made, and those that were made here."""
    names = {mutant.name for mutant in MUTANTS}
    assert len(names) == len(MUTANTS) >= 30


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_a_planted_bug_can_be_pulled_out(mutant: Mutant) -> None:
    """Planting changes the code, and leaves no trace behind."""
    before = [getattr(owner, attribute) for owner, attribute, _ in mutant.patches]
    with mutant.planted():
        now = [getattr(owner, attribute) for owner, attribute, _ in mutant.patches]
        assert all(one is not other for one, other in zip(before, now, strict=True))
    after = [getattr(owner, attribute) for owner, attribute, _ in mutant.patches]
    assert before == after
