"""The page shows the committed results, and its verdicts follow from them."""

from __future__ import annotations

from benchmarks import aims, keeping, page
from benchmarks.aims import AIMS
from benchmarks.suite import BENCHMARKS
from tests.benchmarks.test_stand import result


def test_the_page_shows_the_committed_results() -> None:
    """The page holds the tables of benchmarks/results/, and nothing typed by hand."""
    text = page.PAGE.read_text("utf-8")
    assert keeping.committed()
    assert page.filled(text, keeping.committed()) == text


def test_plots_are_of_the_committed_results() -> None:
    """Each plot of the page carries the digest of the results that are committed."""
    text = page.PAGE.read_text("utf-8")
    drawn = sorted(page.PLOTS.glob("*.svg"))
    assert drawn
    for plot in drawn:
        assert f"results {page.digest()}" in plot.read_text("utf-8"), plot.name
        assert f"plots/{plot.name}" in text


def test_tables_are_filled() -> None:
    """A row is a name, a column a system and store; peers stand in a table of their own."""
    empty = "".join(
        f"<!-- {m}: begin -->old<!-- {m}: end -->" for m in ("origins", "aims", "tables")
    )
    found = [
        result("drain append", 3_000.0, limit=4_000.0),
        result("drain append", 30.0, system="pgqueuer", store="postgresql"),
        result("drain sync", 2.0, store="mariadb"),
    ]
    text = page.filled(f"before {empty} after", found)
    assert text.startswith("before ")
    assert text.endswith(" after")
    assert "old" not in text
    assert "| drain append, events/s | **3,000** (3,000 to 3,000) [0.75] |  |" in text
    assert "| | duetime, sqlite | pgqueuer, postgresql |" in text


def test_verdicts_follow_from_figures() -> None:
    """An aim is met or missed by its figure, its limit, or its place beside another result."""
    text = aims.table(
        [
            result("drain sync", 70.0, limit=100.0),
            result("create 1 threads", 90.0, limit=100.0),
            result("drain append", 50.0, store="postgresql", limit=100.0),
            result("drain append", 5.0, system="pgqueuer", store="postgresql"),
            result("create 64 threads", 10.0, limit=10.0),
            result("create 64 tasks", 9.0, limit=10.0),
            result("growth drain sync, 100,000 pending", 10.0),
            result("growth drain sync, 1,000,000 pending", 8.5),
            result("growth lateness 1,000/s, 100,000 pending p99", 1.0),
            result("growth lateness 1,000/s, 1,000,000 pending p99", 1.3),
        ]
    )
    verdicts = [line.split(" | ")[-1].strip(" |*") for line in text.splitlines()[2:]]
    assert verdicts == ["missed", "met", "met", "missed", "met", "met", "missed"]


def test_every_aim_is_measured() -> None:
    """An aim names a figure that some benchmark measures."""
    known = {*BENCHMARKS}
    assert {aim.name.split()[0] for aim in AIMS} <= known
    assert {name for name, _ in aims.WHY} <= {aim.name for aim in AIMS}
