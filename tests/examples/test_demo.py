"""The demo ends well, adds up to the last event, and would notice if it did not."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from duetime import Answer, Counts, Event, Scheduler
from duetime.tally import Tally
from examples.demo_audit import Audit, Call, Move, Record, audit
from examples.demo_plan import SORTS, make_plan

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
DUE = datetime(2030, 1, 1, tzinfo=UTC)
PUNCTUAL, LATER = DUE + timedelta(milliseconds=1), DUE + timedelta(seconds=5)


def demo(*options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-u", str(DEMO), *options]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, encoding="utf-8"
    )


@pytest.mark.processes
def test_the_demo_adds_up() -> None:
    """A small demo into a pipe prints plain lines, a sum that is right, and exits 0."""
    process = demo("--events", "400", "--seconds", "1.5")
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 0, output
    assert "\x1b" not in output
    found = re.search(r"✓ (\d+) scheduled = (\d+) done \+ (\d+) cancelled \+ (\d+) dead", output)
    assert found is not None, output
    scheduled, *ends = map(int, found.groups())
    assert scheduled == 400 == sum(ends)
    assert all(ends)
    assert re.search(r"^ +1\.\d s  scheduled \d+  held .* lateness p50", output, re.MULTILINE)


@pytest.mark.processes
def test_the_demo_refuses_a_store_in_use(tmp_path: Path) -> None:
    """Events that lie in the chosen store already are left alone: exit code 2."""
    url = f"sqlite:///{tmp_path}/used.db"
    with Scheduler(url) as scheduler:
        scheduler.schedule("order.expire", after=3600)
    process = demo("--store", url)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 2
    assert "holds 1 events already" in output
    with Scheduler(url) as scheduler:
        assert scheduler.counts().scheduled == {"order.expire": 1}


@pytest.mark.processes
def test_the_demo_can_be_interrupted() -> None:
    """After Ctrl-C the sums still add up, with what is left, and the exit code is 130."""
    process = demo("--events", "2000", "--seconds", "20")
    assert process.stdout is not None
    while not process.stdout.readline().startswith("  1."):
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    output, _ = process.communicate(timeout=40)
    assert process.returncode == 130, output
    assert re.search(r"✓ [\d,]+ scheduled = .* dead \+ [1-9][\d,]+ left", output), output


def test_the_plan_is_what_was_asked_for() -> None:
    """So many events of every kind, cancels and moves too; the same seed is the same plan."""
    plan = make_plan(1000, 10, 7)
    live = [action.wish for action in plan.actions if action.wish]
    assert {wish.kind for wish in [*plan.bulk, *live]} == set(SORTS)
    assert len(plan.bulk) + len(live) == 1000
    assert sum(1 for a in plan.actions if a.wish is None and a.due is None) == 100
    assert sum(1 for a in plan.actions if a.wish is None and a.due is not None) == 50
    assert plan == make_plan(1000, 10, 7)
    assert plan != make_plan(1000, 10, 8)


def story() -> tuple[Record, Tally]:
    """One event done after a retry, one cancelled, one dead, one moved and done."""
    record = Record()
    record.kinds = dict.fromkeys("abcd", "k")
    record.calls = [
        Call("a", "k", DUE, PUNCTUAL, well=False),
        Call("a", "k", LATER, LATER, well=True),
        Call("c", "k", DUE, PUNCTUAL, well=False),
        Call("d", "k", LATER, LATER, well=True),
    ]
    record.cancels = {"b": Answer.CANCELLED, "a": Answer.IN_FLIGHT}
    record.moves = {"d": Move(Answer.RESCHEDULED, DUE, LATER)}
    return record, Tally(scheduled=4, done=2, cancelled=1, dead=1, retried=1)


def judged(record: Record, tally: Tally, counts: Counts | None = None) -> Audit:
    return audit(record, tally, counts or Counts(dead={"k": 1}), {"c"})


def test_a_right_story_passes() -> None:
    """Done, cancelled, dead and moved events that all came to one end add up."""
    result = judged(*story())
    assert result.holds, result.checks
    assert result.sums == (4, 2, 1, 1, 0)


Fault = Callable[[Record, Tally], object]
FAULTS: dict[str, tuple[Fault, str]] = {  # what goes wrong, and what the failing check says
    "lost": (lambda r, _: r.calls.pop(), "1 nowhere"),
    "run twice": (lambda r, _: r.calls.append(r.calls[1]), "1 ended twice"),
    "never scheduled": (lambda r, _: r.kinds.pop("d"), "1 were never scheduled"),
    "cancelled, and ran": (
        lambda r, _: r.calls.append(Call("b", "k", DUE, PUNCTUAL, well=False)),
        "1 of 1 cancelled events ran",
    ),
    "at its old time": (
        lambda r, _: r.calls.append(Call("d", "k", DUE, PUNCTUAL, well=False)),
        "1 of 1 moved events ran at their old time",
    ),
    "early": (
        lambda r, _: r.calls.append(Call("a", "k", LATER, PUNCTUAL, well=False)),
        "1 handlers started early",
    ),
    "not counted": (lambda _, t: setattr(t, "done", 1), "done: 2, not 1"),
    "retried unnoticed": (lambda _, t: setattr(t, "retried", 0), "the counters say 0 again"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_noticed(name: str) -> None:
    """What goes wrong in a story is noticed by the check whose business it is."""
    fault, words = FAULTS[name]
    record, tally = story()
    fault(record, tally)
    failed = [check.text for check in judged(record, tally).checks if not check.holds]
    assert any(words in text for text in failed), failed


def test_a_store_that_disagrees_is_noticed() -> None:
    """A store that still holds an event, or one dead event too many, does not add up."""
    assert not judged(*story(), Counts(dead={"k": 1}, scheduled={"k": 1})).holds
    assert not judged(*story(), Counts(dead={"k": 2})).holds


def test_a_record_notes_calls_as_they_are() -> None:
    """What a handler notes is the event's own id, kind and due time."""
    record = Record()
    row = (1_000_000, 1, 0, "n", "k", b"null", 1, 0, 0, 0, 0, None)
    record.failed(Event(row))
    assert record.calls[0][:3] == ("n", "k", datetime.fromtimestamp(1, UTC))
    assert not record.calls[0].well
