"""Every benchmark runs at a tiny size, so that none rots; the page shows the committed results."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from benchmarks import page
from benchmarks.__main__ import main
from benchmarks.result import Machine, Result
from benchmarks.suite import BENCHMARKS


def result(name: str, value: float, limit: float | None = None) -> Result:
    return Result(
        name=name,
        system="duetime",
        store="sqlite",
        value=value,
        unit="events/s",
        low=value,
        high=value,
        runs=1,
        limit=limit,
        ratio=None if limit is None else value / limit,
        machine=Machine(2, "a processor", 4.0, "an operating system", 0.5),
        python="CPython",
        versions={},
        settings={},
        commit="0123456789ab",
    )


@pytest.mark.bench
@pytest.mark.parametrize("name", BENCHMARKS)
def test_benchmark_runs(name: str, tmp_path: Path) -> None:
    """A benchmark runs to its end and leaves figures that make sense, each with its origin."""
    path = tmp_path / "results.json"
    code = main([name, "--quick", "--store", f"sqlite:///{tmp_path}/bench.db", "--json", str(path)])
    results = msgspec.json.decode(path.read_bytes(), type=list[Result])
    assert code == 0
    assert results
    for found in results:
        assert found.low <= found.value <= found.high
        assert found.runs == 1
        assert found.ratio is None or found.limit
        assert found.machine.cores > 0
        assert found.versions["sqlite"]
        assert found.commit
    if name == "lateness":
        earliest = [found.value for found in results if found.name.endswith("earliest")]
        assert min(earliest) >= 0
    if name in {"drain", "schedule", "cancel", "handover"}:
        assert all(found.limit and found.value > 0 for found in results)


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no benchmark is refused before anything is measured."""
    assert main(["drian"]) == 2
    assert "drian" in capsys.readouterr().err


def test_publishing_replaces_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A published result replaces the one with its name; others stay; the page follows."""
    monkeypatch.setattr(page, "RESULTS", tmp_path)
    monkeypatch.setattr(page, "PAGE", tmp_path / "page.md")
    page.PAGE.write_text("before\n<!-- tables: begin -->\nold\n<!-- tables: end -->\nafter\n")
    page.publish([result("drain sync", 1.0), result("drain batch", 2.0, 4.0)])
    page.publish([result("drain sync", 3_000.0)])
    assert [(r.name, r.value) for r in page.committed()] == [
        ("drain sync", 3_000.0),
        ("drain batch", 2.0),
    ]
    text = page.PAGE.read_text()
    assert text.startswith("before\n")
    assert text.endswith("\nafter\n")
    assert "old" not in text
    assert "| drain sync | 3,000 | 3,000 to 3,000 | events/s |  |  |" in text
    assert "| drain batch | 2 | 2 to 2 | events/s | 4 | 0.50 |" in text


def test_the_page_shows_the_committed_results() -> None:
    """The page holds the tables of benchmarks/results/, and nothing typed by hand."""
    text = page.PAGE.read_text("utf-8")
    assert page.committed()
    assert page.filled(text, page.committed()) == text
