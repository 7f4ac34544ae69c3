"""The suite itself: a test that cannot fail proves nothing."""

from __future__ import annotations

import inspect
import re

import pytest

from duetime.stores.memory import MemoryStore
from duetime.testing.store_suite import StoreSuite
from tests.stores.broken import BROKEN

pytest_plugins = ["pytester"]

PROMISES = {name: test for name, test in inspect.getmembers(StoreSuite) if name.startswith("test_")}
SUITE = """
    import pytest
    from tests.stores.broken import {store}
    from duetime.testing.store_suite import StoreSuite

    class TestBroken(StoreSuite):
        @pytest.fixture
        def store(self):
            return {store}()
"""


@pytest.mark.parametrize("broken", BROKEN, ids=lambda broken: broken.__name__)
def test_a_broken_store_is_refused(broken: type[MemoryStore], pytester: pytest.Pytester) -> None:
    """The suite refuses a store that breaks one promise, by the test of that promise."""
    pytester.makepyfile(SUITE.format(store=broken.__name__))
    result = pytester.runpytest_inprocess("-q", "-p", "no:cacheprovider", "-k", BROKEN[broken])
    outcomes = result.parseoutcomes()
    assert outcomes.get("failed", 0) > 0
    assert outcomes.get("errors", 0) == 0


def test_each_promise_is_one_sentence() -> None:
    """Every test of the suite says in one sentence what a store promises."""
    assert len(PROMISES) > 60
    wrong = [
        name
        for name, test in PROMISES.items()
        if re.fullmatch(r"[A-Z0-9][^.]*\.", (test.__doc__ or "").strip()) is None
    ]
    assert not wrong, "\n".join(wrong)
