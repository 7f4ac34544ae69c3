"""Collects what each fault did and prints one table at the end; `--faults` runs all in full size.

A test of a fault says with `@pytest.mark.fault(row, title)` which one it is, and counts in the
record that the fixture `fault` gives it how often the fault happened. None seen is a failure.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.faults.table import Record, as_json, rendered

__all__ = ["fault", "size"]

_RECORDS = pytest.StashKey[list[Record]]()
_RECORD = pytest.StashKey[Record]()


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the two options."""
    group = parser.getgroup("faults")
    group.addoption("--faults", action="store_true", help="run faults in full size")
    group.addoption("--faults-json", metavar="PATH", help="write the table of faults there")


def pytest_configure(config: pytest.Config) -> None:
    """Begin with an empty table."""
    config.stash[_RECORDS] = []


@pytest.fixture
def size(request: pytest.FixtureRequest) -> Callable[[int, int], int]:
    """Return a function that picks the small or the full size of this run."""
    full = request.config.getoption("--faults")
    return lambda small, large: large if full else small


@pytest.fixture
def fault(request: pytest.FixtureRequest) -> Iterator[Record]:
    """Return the record of this test's fault; a fault that was not seen fails the test."""
    marker = request.node.get_closest_marker("fault")
    row, title = marker.args
    record = Record(row, title, _store_of(request.node) or "-")
    request.node.stash[_RECORD] = record
    request.config.stash[_RECORDS].append(record)
    began = time.monotonic()
    yield record
    record.seconds = round(time.monotonic() - began, 1)
    assert record.seen or not record.passed, "the fault was not seen: this test was blind"


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Note whether the test passed."""
    report = yield
    record = item.stash.get(_RECORD, None)
    if record is not None and call.when == "call":
        record.passed = call.excinfo is None
    return report


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table."""
    config = terminalreporter.config
    records = config.stash[_RECORDS]
    if not records:
        return
    terminalreporter.section("faults")
    for line in rendered(records):
        terminalreporter.write_line(line)
    if path := config.getoption("--faults-json"):
        Path(path).write_text(as_json(records), encoding="utf-8")


def _store_of(item: pytest.Item) -> str | None:
    callspec = getattr(item, "callspec", None)
    store: str | None = callspec.params.get("server_kind") if callspec else None
    return store
