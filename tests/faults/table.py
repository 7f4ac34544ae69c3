"""What each fault did, as a table to read and as JSON to keep."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

__all__ = ["Record", "as_json", "rendered"]

_HEAD = ("row", "fault", "store", "seen", "lost", "doubled", "refused", "take-over", "")


@dataclass
class Record:
    """One fault on one store."""

    row: int  # of the list of faults; 0 is a run without one
    fault: str
    store: str
    seen: int = 0  # how often the fault really happened
    lost: int | None = None  # events that were acknowledged and neither ran nor are listed
    doubled: int | None = None  # events that were started more than once
    refused: int | None = None  # late results, or calls, that were refused
    take_over: float | None = None  # s from the fault to the last start that waited for its end
    seconds: float = 0.0  # of the whole test
    note: str = ""
    passed: bool = False

    @property
    def verdict(self) -> str:
        """What is to be read at the end of the line."""
        if not self.passed:
            return "FAILED"
        return "ok" if self.seen else "NOT SEEN"


def rendered(records: Sequence[Record]) -> list[str]:
    """Return the lines of the table, in the order of the rows, notes below."""
    ordered = sorted(records, key=lambda record: (record.row, record.store))
    rows = [_HEAD, *map(_cells, ordered)]
    widths = [max(len(row[i]) for row in rows) for i in range(len(_HEAD))]
    lines = []
    for row in rows:
        cells = [
            cell.ljust(width) if i in (1, 2) else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row[:-1], widths, strict=False))
        ]
        lines.append("  ".join([*cells, row[-1]]).rstrip())
    lines.insert(1, "─" * max(map(len, lines)))
    bad = [record for record in ordered if record.verdict != "ok"]
    lines.append(f"{len(ordered)} faults, {len(bad)} of them failed or not seen.")
    noted = [record for record in ordered if record.note]
    lines += [f"{record.row:>3} {record.store}: {record.note}" for record in noted]
    return lines


def as_json(records: Sequence[Record]) -> str:
    """Return all records, in the order of the rows."""
    ordered = sorted(records, key=lambda record: (record.row, record.store))
    return json.dumps([asdict(record) for record in ordered], indent=1) + "\n"


def _cells(record: Record) -> tuple[str, ...]:
    counts = (record.lost, record.doubled, record.refused)
    return (
        str(record.row),
        record.fault,
        record.store,
        f"{record.seen:,}",
        *("-" if count is None else f"{count:,}" for count in counts),
        "-" if record.take_over is None else f"{record.take_over:.2f} s",
        record.verdict,
    )
