"""Commands that change and show events: their answers, their exit codes, their lines."""

from __future__ import annotations

import json
from typing import Any

import pytest

from duetime import Scheduler, State
from duetime.event import Row
from duetime.stores.contract import Death, Settlement
from tests.cli.conftest import Call

FAR = "2099-01-31T09:00:00Z"


def events(duetime: Call, *arguments: str) -> list[dict[str, Any]]:
    result = duetime("list", "--json", *arguments)
    assert result.exit_code == 0
    return [json.loads(line) for line in result.stdout.splitlines()]


def kill(*ids: str, history: bytes | None = b"[]", payload: bytes | None = None) -> None:
    """Let events die, as a node would after their last attempt."""
    with Scheduler() as scheduler:
        store = scheduler.store
        high = 2**60
        rows = store.claim(1 << 32 | 1, range(store.shards), 0, high, 1000)
        chosen = [row for row in rows if row[3] in ids]
        if payload is not None:
            chosen = [(*row[:5], payload, *row[6:]) for row in chosen]
        deaths = [Death(row, store.time(), "no \x1b[31mway", 3, history) for row in chosen]
        assert store.settle(Settlement(deaths=deaths)).deaths == len(ids)
        store.rescue(range(store.shards), 1, high, 0)


def test_schedule_prints_the_id(duetime: Call) -> None:
    """The only line on stdout is the id; what else is to say is said on stderr."""
    result = duetime("schedule", "order.expire", '{"order": 42}', "--after", "15m")
    assert result.exit_code == 0
    (event,) = events(duetime)
    assert result.stdout == f"{event['id']}\n"
    assert "due in 15m" in result.stderr
    assert (event["kind"], event["payload"]) == ("order.expire", {"order": 42})


def test_schedule_as_json(duetime: Call) -> None:
    """With --json the whole event is one document, and nothing is said beside it."""
    result = duetime("schedule", "k", "--at", FAR, "--id", "a", "--json")
    event = json.loads(result.stdout)
    assert (event["id"], event["due_at"], event["created"]) == ("a", FAR, True)
    assert result.stderr == ""


def test_the_same_id_is_the_same_event(duetime: Call) -> None:
    """A second schedule of an id changes nothing, says so, and is no failure."""
    duetime("schedule", "k", "1", "--at", FAR, "--id", "a")
    result = duetime("schedule", "k", "2", "--id", "a")
    assert (result.exit_code, result.stdout) == (0, "a\n")
    assert "nothing was changed" in result.stderr
    assert [event["payload"] for event in events(duetime)] == [1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["k", "x"], "json_invalid"),
        (["k", "NaN"], "payload_nan"),
        (["k", '{"a": 1, "a": 2}'], "json_duplicate_key"),
        (["k", "[" * 100_000], "payload_depth"),
        (["k", "1" * 5000], "payload_number"),
        (["k", '"' + "x" * 70_000 + '"'], "payload_too_large"),
        (["../k"], "kind_invalid"),
        (["k", "--id", "a b"], "id_invalid"),
        (["k", "--id", "e" + "0" * 33], "id_reserved"),
        (["k", "--at", "2027-01-31T09:00:00"], "due_naive"),
        (["k", "--at", "tomorrow"], "due_invalid"),
        (["k", "--after", "soon"], "due_type"),
        (["k", "--after", "-5"], "delay_range"),
        (["k", "--after", "40000d"], "due_out_of_range"),
        (["k", "--at", FAR, "--after", "5"], "usage"),
        (["k", "1", "--payload-file", "-"], "usage"),
        (["k", "--lines", "-"], "usage"),
        ([], "usage"),
        (["k", "1", "2"], "usage"),
        (["k", "--frobnicate"], "usage"),
    ],
)
def test_bad_arguments_write_nothing(duetime: Call, arguments: list[str], code: str) -> None:
    """A wrong argument ends with code 2 and one line that names the error; nothing is written."""
    result = duetime("schedule", *arguments)
    assert result.exit_code == 2
    assert result.stdout == ""
    *usage, line = result.stderr.splitlines()
    assert line.startswith(f"error [{code}]: ")
    assert len(usage) <= 1
    assert len(line) < 400
    assert events(duetime) == []


def test_the_payload_can_come_from_a_file(duetime: Call) -> None:
    """A payload is read from a file or from stdin."""
    assert duetime("schedule", "k", "--payload-file", "-", feed='{"a": "ä"}').exit_code == 0
    assert events(duetime)[0]["payload"] == {"a": "ä"}
    result = duetime("schedule", "k", "--payload-file", "nowhere.json")
    assert result.exit_code == 1
    assert "error [enoent]: nowhere.json" in result.stderr


def test_lines_schedule_many(duetime: Call) -> None:
    """Lines of JSON are scheduled together, in their order; empty ones do not count."""
    lines = [
        {"kind": "a", "payload": [1], "at": FAR, "id": "x"},
        {"kind": "b", "after": "2h"},
        {"kind": "c", "after": 1.5},
        {"kind": "d", "payload": None, "id": None, "at": None},
    ]
    feed = "\ufeff" + "\n\n".join(map(json.dumps, lines)) + "\n"
    result = duetime("schedule", "--lines", "-", feed=feed)
    assert result.exit_code == 0
    ids = result.stdout.split()
    kinds = {event["id"]: event["kind"] for event in events(duetime)}
    assert [kinds[one] for one in ids] == ["a", "b", "c", "d"]
    assert ids[0] == "x"
    again = duetime("schedule", "--lines", "-", "--json", feed=json.dumps(lines[0]))
    assert json.loads(again.stdout)["created"] is False


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("nonsense", "json_invalid"),
        ('{"kind": "a"', "json_invalid"),
        ('{"kind": "a"} x', "json_invalid"),
        ("[]", "body_type"),
        ("null", "body_type"),
        ("{}", "kind_invalid"),
        ('{"kind": 5}', "kind_invalid"),
        ('{"kind": "a", "dueat": 1}', "field_unknown"),
        ('{"kind": "a", "kind": "b"}', "json_duplicate_key"),
        ('{"kind": "a", "at": 5}', "due_type"),
        ('{"kind": "a", "at": "2027-01-01T00:00:00"}', "due_naive"),
        ('{"kind": "a", "at": "2027-01-01T00:00:00Z", "after": 5}', "due_both"),
        ('{"kind": "a", "after": true}', "due_type"),
        ('{"kind": "a", "after": -1}', "delay_range"),
        ('{"kind": "a", "id": "a b"}', "id_invalid"),
        ('{"kind": "a", "payload": NaN}', "payload_nan"),
        ('{"kind": "a", "payload": "\\ud800"}', "payload_unicode"),
    ],
)
def test_one_bad_line_schedules_none(duetime: Call, line: str, code: str) -> None:
    """A bad line is named by its number, the exit code is 1, and no other line is scheduled."""
    feed = '{"kind": "a"}\n\n' + line + '\n{"kind": "b"}\n'
    result = duetime("schedule", "--lines", "-", feed=feed)
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.startswith(f"error [{code}]: stdin:3: ")
    assert len(result.stderr.splitlines()) == 1
    assert events(duetime) == []


def test_lines_must_be_utf8(duetime: Call) -> None:
    """Bytes that are no UTF-8 are refused with their line."""
    result = duetime("schedule", "--lines", "-", feed=b'{"kind": "a"}\n{"kind": "\xff"}\n')
    assert result.exit_code == 1
    assert "stdin:2" in result.stderr
    assert events(duetime) == []


def test_list_filters(duetime: Call) -> None:
    """Events are found by kind, state and due time, soonest first."""
    for kind, hours in (("a", 3), ("b", 2), ("a", 1)):
        duetime("schedule", kind, "--after", f"{hours}h", "--id", f"{kind}{hours}")
    assert [event["id"] for event in events(duetime)] == ["a1", "b2", "a3"]
    assert [event["id"] for event in events(duetime, "--kind", "a")] == ["a1", "a3"]
    assert [event["id"] for event in events(duetime, "--due-until", "150m")] == ["a1", "b2"]
    assert [event["id"] for event in events(duetime, "--due-from", "90m")] == ["b2", "a3"]
    assert events(duetime, "--due-from", FAR) == []
    assert events(duetime, "--state", "parked") == []
    assert len(events(duetime, "--state", "scheduled")) == 3


def test_list_goes_on(duetime: Call) -> None:
    """A page ends with a hint; --from goes on behind an event, even one that is gone."""
    made = [duetime("schedule", "k", "--after", f"{n}h").stdout.strip() for n in range(1, 5)]
    result = duetime("list", "--limit", "2")
    assert [line.split("\t")[0] for line in result.stdout.splitlines()] == made[:2]
    assert f"--from {made[1]}" in result.stderr
    duetime("cancel", made[1])
    assert [event["id"] for event in events(duetime, "--from", made[1])] == made[2:]
    assert len(events(duetime, "--limit", "1", "--all")) == 3
    result = duetime("list", "--from", "nobody")
    assert (result.exit_code, result.stdout) == (1, "")
    assert duetime("list", "--limit", "0").exit_code == 2


def test_lines_are_for_programs(duetime: Call) -> None:
    """Into a pipe go tab-separated lines with absolute times, no colour and no header."""
    duetime("schedule", "k", '{"a": 1}', "--at", FAR, "--id", "a")
    assert duetime("list").stdout == f'a\tk\t{FAR}\tscheduled\t0\t{{"a": 1}}\n'


def test_nothing_to_list(duetime: Call) -> None:
    """An empty list is no error and prints nothing on stdout."""
    for command in ("list", "dead"):
        result = duetime(command)
        assert (result.exit_code, result.stdout) == (0, "")
        assert "No events" in result.stderr


def test_show(duetime: Call) -> None:
    """One event is shown with all that is known of it; an unknown one is refused."""
    duetime("schedule", "k", '"ä"', "--at", FAR, "--id", "a")
    result = duetime("show", "a")
    assert f"due\t{FAR} (in " in result.stdout
    assert 'payload\t"ä"' in result.stdout
    assert json.loads(duetime("show", "a", "--json").stdout)["payload"] == "ä"
    result = duetime("show", "b")
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith("error [event_unknown]: ")


def test_control_characters_are_escaped(duetime: Call) -> None:
    """Nothing that moves the cursor or turns the reading direction gets to a terminal."""
    duetime(
        "schedule", "k", '"\\u001b[31m\\u202e\\u009b2J\\r\\u2028"', "--id", "a", "--after", "1h"
    )
    shown = (
        duetime("list").stdout + duetime("show", "a").stdout + duetime("show", "a", "--json").stdout
    )
    kill("a")
    shown += duetime("dead").stdout + duetime("show", "a").stdout + duetime("dead", "--json").stdout
    assert "no \\x1b[31mway" in shown
    assert all(c.isprintable() or c in "\t\n" for c in shown)
    result = duetime("cancel", "\x1b[2J")
    assert "\x1b" not in result.stderr


def test_cancel(duetime: Call) -> None:
    """Each id gets its answer; the exit code is 1 as soon as one was not cancelled."""
    duetime("schedule", "k", "--after", "1h", "--id", "a")
    duetime("schedule", "k", "--after", "1h", "--id", "b")
    assert duetime("cancel", "a").exit_code == 0
    result = duetime("cancel", "b", "nobody")
    assert (result.exit_code, result.stdout) == (1, "b\tcancelled\nnobody\tunknown\n")
    assert "no such event" in result.stderr
    result = duetime("cancel", "a", "--json")
    assert json.loads(result.stdout) == {"id": "a", "answer": "unknown"}


def test_cancel_reads_what_list_prints(duetime: Call) -> None:
    """The output of list can be piped into cancel; a bad line is named and stops all."""
    for name in ("a", "b"):
        duetime("schedule", "k", "--after", "1h", "--id", name)
    listed = duetime("list").stdout
    result = duetime("cancel", "-", feed=listed + "\n/\n")
    assert result.exit_code == 1
    assert "stdin:4" in result.stderr
    result = duetime("cancel", "-", feed=listed)
    assert (result.exit_code, result.stdout) == (0, "a\tcancelled\nb\tcancelled\n")


def test_cancel_by_filter_asks(duetime: Call) -> None:
    """Without a terminal a filter needs --yes; with it, the answers are counted."""
    for kind in ("a", "a", "b"):
        duetime("schedule", kind, "--after", "1h")
    result = duetime("cancel", "--kind", "a")
    assert result.exit_code == 2
    assert "Cancel 2 events?" in result.stderr
    assert "--yes" in result.stderr
    assert len(events(duetime)) == 3
    result = duetime("cancel", "--kind", "a", "--yes")
    assert (result.exit_code, result.stdout) == (0, "cancelled\t2\n")
    assert [event["kind"] for event in events(duetime)] == ["b"]
    result = duetime("cancel", "--kind", "a", "--yes", "--json")
    assert json.loads(result.stdout) == {"matched": 0}


def test_cancel_by_filter_tells_what_was_too_late(duetime: Call) -> None:
    """When a filter finds events that are claimed, the exit code is 1 and both counts are told."""
    for name in ("a", "b", "c"):
        duetime("schedule", "k", "--id", name)
    with Scheduler() as scheduler:
        store = scheduler.store
        assert len(store.claim(1 << 32 | 1, range(store.shards), 0, 2**60, 1)) == 1
    result = duetime("cancel", "--kind", "k", "--yes")
    assert (result.exit_code, result.stdout) == (1, "cancelled\t2\nin_flight\t1\n")


def test_many_events_take_several_pages(duetime: Call) -> None:
    """Listing and cancelling go on to the last event, however many there are."""
    with Scheduler() as scheduler:
        scheduler.schedule_many({"kind": "k", "after": 3600 + n} for n in range(2500))
    listed = duetime("list", "--all").stdout.splitlines()
    assert len({line.split("\t")[0] for line in listed}) == 2500
    assert duetime("cancel", "--kind", "k", "--yes").stdout == "cancelled\t2500\n"


@pytest.mark.parametrize("command", ["cancel", "redrive"])
def test_ids_or_a_filter(duetime: Call, command: str) -> None:
    """Neither ids nor a filter, or both, is a usage error."""
    assert duetime(command).exit_code == 2
    assert duetime(command, "a", "--kind", "k").exit_code == 2
    assert duetime(command, "--kind", "../k").exit_code == 2


def test_reschedule_and_fire_now(duetime: Call) -> None:
    """An event is moved to a time, by a delay, or to now; an unknown one is refused."""
    duetime("schedule", "k", "--after", "1h", "--id", "a")
    result = duetime("reschedule", "a", "--at", FAR)
    assert (result.exit_code, result.stdout) == (0, "a\trescheduled\n")
    assert events(duetime)[0]["due_at"] == FAR
    assert duetime("fire-now", "a").exit_code == 0
    assert events(duetime, "--due-from", "1m") == []
    assert duetime("reschedule", "a").exit_code == 2
    assert duetime("reschedule", "b", "--after", "5").exit_code == 1
    assert duetime("fire-now", "b").stdout == "b\tunknown\n"


def test_dead_and_redrive(duetime: Call) -> None:
    """Dead events are listed with their reason and sent round again, by id or all at once."""
    for name in ("a", "b", "c"):
        duetime("schedule", "k", "--id", name)
    history = b'[{"at":"2027-01-01T00:00:00+00:00","attempt":1,"outcome":"failed","error":"x"}]'
    kill("a", "b", history=history)
    listed = [line.split("\t") for line in duetime("dead").stdout.splitlines()]
    assert [(line[0], line[3], line[5]) for line in listed] == [
        ("a", "3", "no \\x1b[31mway"),
        ("b", "3", "no \\x1b[31mway"),
    ]
    assert "history\t1\t2027-01-01T00:00:00Z\tfailed\tx" in duetime("show", "a").stdout
    assert duetime("cancel", "a").stdout == "a\tdead\n"
    result = duetime("redrive", "a", "c")
    assert (result.exit_code, result.stdout) == (1, "a\tredriven\nc\tscheduled\n")
    assert duetime("redrive", "--all").exit_code == 2
    assert duetime("redrive", "--all", "--yes").stdout == "redriven\t1\n"
    assert duetime("dead").stdout == ""
    with Scheduler() as scheduler:
        assert {event.state for event in scheduler.find()} == {State.SCHEDULED}


def test_a_payload_that_is_no_json_is_shown(duetime: Call) -> None:
    """An event with a damaged payload and history can still be listed and shown."""
    with Scheduler() as scheduler:
        now = scheduler.store.time()
        row: Row = (now, 1, 0, "a", "k", b"\x80\x04.", 0, 0, 0, 0, now, b"nonsense")
        scheduler.store.insert([row])
    for command in (["list"], ["show", "a"], ["list", "--json"], ["show", "a", "--json"]):
        result = duetime(*command)
        assert result.exit_code == 0
        assert "no JSON" in result.stdout
