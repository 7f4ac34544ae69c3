"""Every example runs to its end and prints what it promises."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house.blocks import blocks_of
from tests.house.source import ROOT

EXAMPLES = ROOT / "examples"

# What each prints, in order; anything may stand between.
PRINTED = {
    "async_app.py": ["page 3 cancelled", "page 1 fetched in attempt 1", "page 5 fetched"],
    "debounce.py": ["manual indexed after 20 changes"],
    "memory_store.py": ["hello world"],
    "observer.py": [
        "WARNING from runner: OSError: gate 7 is stuck",
        "settled: 0 done, 1 retried, 0 dead",
        "ALARM: gate-7 given up",
        "fired so far: 2",
    ],
    "pull.py": ["sales is given back", "consumer built sales", "taxes confirmed in attempt 2"],
    "transaction.py": ["scheduled: [1]", "order 1 expires; orders in the table: [1]"],
}
# Run by tests of their own: the demo by test_demo.py, the shop by README.md's blocks.
ELSEWHERE = {"demo.py", "demo_audit.py", "demo_plan.py", "demo_screen.py", "shop.py"}


@pytest.mark.processes
@pytest.mark.parametrize("name", PRINTED)
def test_an_example_runs(name: str, tmp_path: Path) -> None:
    """An example ends by itself, in good order, and shows what it is about."""
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    pattern = ".*".join(map(re.escape, PRINTED[name]))
    assert re.search(pattern, done.stdout, re.DOTALL), done.stdout
    assert list(tmp_path.iterdir()) == []


def test_no_example_is_forgotten() -> None:
    """Each file of the folder is run by some test."""
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(PRINTED) | ELSEWHERE


def test_the_shop_is_the_one_of_the_documents() -> None:
    """README.md and the tutorial show examples/shop.py as it is."""
    shop = (EXAMPLES / "shop.py").read_text("utf-8")
    for document in (ROOT / "README.md", ROOT / "docs" / "tutorial.md"):
        blocks = blocks_of(document.read_text("utf-8"))
        assert [block.body for block in blocks if block.title == "shop.py"] == [shop], document
