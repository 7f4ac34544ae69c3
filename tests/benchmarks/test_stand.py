"""How contenders take turns, and what becomes of their figures."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks import keeping
from benchmarks.databases import Database
from benchmarks.load import quantiles, rows
from benchmarks.raw import coalesced, coalesced_tasks, drain
from benchmarks.raw_sqlite import RawSqlite
from benchmarks.result import Machine, Result
from benchmarks.stand import Entry, Stand
from duetime.event import Row


def result(name: str, value: float = 1.0, **other: object) -> Result:
    """Return a result as a run leaves it."""
    given: dict[str, object] = {"system": "duetime", "store": "sqlite", "limit": None, **other}
    limit = given["limit"]
    return Result(
        name=name,
        system=str(given["system"]),
        store=str(given["store"]),
        value=value,
        unit="events/s",
        low=value,
        high=value,
        runs=1,
        limit=limit if isinstance(limit, float) else None,
        ratio=value / limit if isinstance(limit, float) else None,
        machine=Machine(2, "a processor", 4.0, "an operating system", 0.5),
        python="CPython",
        versions={},
        settings={"level": "quick"},
        commit=str(given.get("commit", "0123456789ab")),
    )


@pytest.fixture
def database(tmp_path: Path) -> Database:
    return Database("sqlite", f"sqlite:///{tmp_path}/bench.db")


def noting(said: list[str], word: str, *values: float) -> Callable[[], dict[str, float]]:
    left = list(values)

    def run() -> dict[str, float]:
        said.append(word)
        return {"": left.pop(0)}

    return run


def test_contenders_take_turns(database: Database) -> None:
    """All run once before any runs again, and the median stands beside the limit's."""
    said: list[str] = []
    stand = Stand([database], runs=3)
    entries = [
        Entry("a", "duetime", "sqlite", noting(said, "A", 1.0, 9.0, 3.0)),
        Entry("", "limit", "sqlite", noting(said, "B", 6.0, 5.0, 7.0)),
        Entry("a", "pgqueuer", "sqlite", noting(said, "C")),
    ]
    stand.compare("a", "events/s", entries)
    assert said == list("ABABAB")  # nobody asked for the peer
    (found,) = stand.results
    assert (found.low, found.value, found.high) == (1.0, 3.0, 9.0)
    assert (found.limit, found.ratio) == (6.0, 0.5)


def test_one_that_fails_costs_only_itself(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    """A contender that fails is told and left out; the others' figures are kept."""

    def fail() -> dict[str, float]:
        raise RuntimeError("gone")

    kept: list[list[Result]] = []
    stand = Stand([database], runs=2, keep=kept.append)
    entries = [
        Entry("bad", "duetime", "sqlite", fail),
        Entry("good", "duetime", "sqlite", lambda: {"p50": 1.0}),
    ]
    stand.compare("some", {"p50": "ms"}, entries)
    assert [found.name for found in stand.results] == ["good p50"]
    assert kept == [stand.results]
    assert stand.failed == ["bad: duetime on sqlite"]
    assert "gone" in capsys.readouterr().err


def test_what_is_known_is_left_out(database: Database) -> None:
    """A figure that is there already is not measured again, nor a limit that nobody needs."""
    said: list[str] = []
    stand = Stand([database], runs=1, known=lambda name, *_: name == "a")
    entries = [
        Entry("a", "duetime", "sqlite", noting(said, "A", 1.0)),
        Entry("a", "limit", "sqlite", noting(said, "B", 1.0)),
    ]
    stand.compare("a", "ms", entries)
    assert said == []


def test_results_are_merged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A result replaces the one of its name, system and store; all others stay."""
    monkeypatch.setattr(keeping, "RESULTS", tmp_path)
    keeping.publish([result("drain", 1.0), result("drain", 2.0, system="huey")])
    keeping.publish([result("drain", 3.0), result("drain", 4.0, store="mariadb")])
    found = [(r.store, r.system, r.value) for r in keeping.committed()]
    assert found == [
        ("mariadb", "duetime", 4.0),
        ("sqlite", "duetime", 3.0),
        ("sqlite", "huey", 2.0),
    ]


def test_figures_belong_to_their_case() -> None:
    """A figure's name is its case's, or that and the name of a quantile or cost."""
    assert keeping.belongs("lateness 200/s p99", "lateness 200/s")
    assert keeping.belongs("create in bulk", "create in bulk")
    assert not keeping.belongs("lateness 200/s, busy handler p99", "lateness 200/s")


def test_rows_follow_their_seed() -> None:
    """The same seed makes the same places; another one makes others."""

    def places(seed: int) -> list[tuple[int, int, int]]:
        return [row[:3] for row in rows(10, 0, 100, seed=seed)]

    assert places(1) == places(1) != places(2)
    assert [due for due, _, _ in places(1)] == list(range(0, 100, 10))


def test_quantiles_are_of_the_sorted() -> None:
    """The share that was at most so late is told in ms, whatever the order."""
    late = [1000 * (n % 100) for n in range(37, 137)]
    assert quantiles(late)["p50"] == 50
    assert quantiles(late)["max"] == 99
    assert quantiles([-5])["earliest"] == -0.005


@pytest.mark.parametrize("share", [coalesced, coalesced_tasks])
def test_bare_callers_share_commits(
    database: Database,
    share: Callable[[Callable[[object], None], list[Row], int, float], float],
) -> None:
    """Bare callers that wait store every row once, several by one commit."""
    database.raw().close()
    raw = database.connect()
    assert isinstance(raw, RawSqlite)
    batches: list[int] = []

    def write(some: object) -> None:
        assert isinstance(some, list)
        batches.append(len(some))
        raw.insert(some)

    rate = share(write, rows(320, 10**15, 320), 16, 30.0)
    assert rate > 0
    assert raw.count() == sum(batches) == 320
    assert max(batches) > 1
    raw.close()


def test_the_bare_drain_leaves_what_waits(database: Database) -> None:
    """The bare loop handles each due row once, batch by batch, and no row of the future."""
    raw = database.raw()
    now = 10**15
    raw.insert(rows(3_000, now - 3_000, 3_000))
    raw.insert(rows(500, now + 10**9, 500))
    seen: list[int] = []
    assert drain(database.connect, lambda event: seen.append(event.row[1]), now, 50) > 0
    assert len(seen) == len(set(seen)) == 3_000
    assert raw.count() == 500
    raw.close()


def test_a_run_goes_on_where_it_ended(tmp_path: Path) -> None:
    """With --missing nothing is measured again that the file holds of this commit."""
    from benchmarks.__main__ import main

    path = tmp_path / "results.json"
    words = ["imports", "--quick", "--store", "sqlite", "--json", str(path)]
    assert main(words) == 0
    (first,) = keeping.load(path)
    assert main([*words, "--missing"]) == 0
    assert keeping.load(path) == [first]
    assert main(words) == 0
    (again,) = keeping.load(path)
    assert again.value != first.value
