"""The table of faults: what it shows, and that no fault is missing from it."""

from __future__ import annotations

import json
import re
from pathlib import Path

from tests.faults.table import Record, as_json, rendered

ROWS = {1, 2, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 20, 21, 23, 27, 29, 35, 36, 37, 40, 41, 42, 43, 44}


def test_every_fault_has_its_test() -> None:
    """Each fault that real processes are put through on servers has a test, and 0 is none."""
    text = "".join(path.read_text("utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    assert {int(row) for row in re.findall(r"mark\.fault\(\s*(\d+)", text)} == ROWS | {0}


def test_the_table_tells_what_failed() -> None:
    """A fault that was not seen, and one whose test failed, are told apart and counted."""
    good = Record(1, "killed", "mariadb", seen=1_200, lost=0, take_over=2.5, passed=True)
    blind = Record(1, "killed", "postgresql", passed=True)
    bad = Record(12, "crashed", "mariadb", seen=1, lost=3, note="three of four")
    lines = rendered([bad, blind, good])
    assert re.fullmatch(r" +1 +killed +mariadb +1,200 +0 +- +- +2.50 s +ok", lines[2])
    assert lines[3].endswith("NOT SEEN")
    assert lines[4].endswith("FAILED")
    assert lines[5] == "3 faults, 2 of them failed or not seen."
    assert lines[6].endswith("mariadb: three of four")
    assert [each["store"] for each in json.loads(as_json([bad, blind, good]))] == [
        "mariadb",
        "postgresql",
        "mariadb",
    ]
