"""From what a handler returned or raised to what is written."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

import pytest

from duetime import codec
from duetime.clock import MICROS, from_micros, to_micros
from duetime.errors import CorruptPayload
from duetime.event import PARKING, Event, Row
from duetime.node.judge import Rules, crashed, describe, give_back, interrupted, judge, note, park
from duetime.outcome import Dead, Retry
from duetime.retry import Backoff
from duetime.stores.contract import Death, Move
from tests.unit.node.stand import NOW, row

RULES = Rules(kept=3, max_payload=100, shards=4, random=lambda: 0.5)
BACKOFF = Backoff(retries=2, first=10, factor=2)
RUN = row(attempt=1, claim=9, payload=b"[1]")


class BrokenTextError(Exception):
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")


class RudeTextError(Exception):
    def __str__(self) -> NoReturn:
        raise KeyboardInterrupt


def verdict(result: Any, one: Row = RUN, backoff: Backoff = BACKOFF) -> Move | Death:
    return judge(one, result, backoff, NOW, RULES)


def move(result: Any, one: Row = RUN, backoff: Backoff = BACKOFF) -> Move:
    change = verdict(result, one, backoff)
    assert isinstance(change, Move)
    return change


def death(result: Any, one: Row = RUN, backoff: Backoff = BACKOFF) -> Death:
    change = verdict(result, one, backoff)
    assert isinstance(change, Death)
    return change


def history(change: Move | Death) -> list[dict[str, Any]]:
    assert change.history is not None
    entries = codec.decode(change.history)
    assert isinstance(entries, list)
    return entries


def test_an_exception_means_again_by_the_backoff() -> None:
    """Whatever was raised, the event runs again after the kind's backoff, one failure richer."""
    change = move(ValueError("no stock"))
    assert change.due_at == NOW + 5 * MICROS
    assert (change.attempt, change.failures, change.crashes) == (1, 1, 0)
    assert (change.shard, change.payload, change.row) == (0, b"[1]", RUN)
    assert history(change) == [
        {
            "at": from_micros(NOW).isoformat(),
            "attempt": 1,
            "outcome": "failed",
            "error": "ValueError: no stock",
        }
    ]


def test_the_backoff_grows_with_the_failures() -> None:
    """The second failure waits for the second bound."""
    assert move(ValueError(), row(attempt=2, failures=1, claim=9)).due_at == NOW + 10 * MICROS


def test_even_exits_are_failures() -> None:
    """A handler that calls sys.exit or is interrupted has failed, no more."""
    for error in (SystemExit(1), KeyboardInterrupt()):
        assert move(error).failures == 1


@pytest.mark.parametrize("error", [BrokenTextError(), RudeTextError()])
def test_a_broken_text_is_told_as_such(error: Exception) -> None:
    """An exception whose text cannot be had is still a failure like any other."""
    change = move(error)
    assert change.failures == 1
    assert type(error).__name__ in history(change)[0]["error"]


def test_an_error_without_text_is_its_name() -> None:
    """An exception that says nothing is described by its type."""
    assert describe(ValueError()) == "ValueError"
    assert describe(ValueError("x")) == "ValueError: x"


def test_lone_surrogates_survive() -> None:
    """An error text that is not Unicode is escaped, and the history stays JSON."""
    assert "\\ud800" in history(move(ValueError("\ud800")))[0]["error"]


def test_a_long_error_is_cut() -> None:
    """Of a long error a few thousand characters are kept, and it says that it was cut."""
    text = history(move(ValueError("x" * 100_000)))[0]["error"]
    assert len(text) < 5_000
    assert text.endswith("…")


def test_old_errors_are_cut_shorter() -> None:
    """Only the newest error is kept at length."""
    first = move(ValueError("x" * 3_000))
    second = move(ValueError("y" * 3_000), (*RUN[:11], first.history))
    assert [len(entry["error"]) > 2_000 for entry in history(second)] == [False, True]


def test_retry_at_is_exact() -> None:
    """`Retry(at=…)` is due at that microsecond, in whatever zone it was written."""
    at = from_micros(NOW + 77_000_001)
    assert move(Retry(at=at)).due_at == NOW + 77_000_001
    assert move(Retry(at=at.astimezone())).due_at == NOW + 77_000_001


def test_retry_at_a_time_gone_by_is_now() -> None:
    """`Retry(at=…)` in the past means at once."""
    assert move(Retry(at=datetime(1999, 1, 1, tzinfo=UTC))).due_at == NOW


@pytest.mark.parametrize(
    ("after", "micros"),
    [
        (timedelta(seconds=3), 3 * MICROS),
        (2, 2 * MICROS),
        (0, 0),
        (0.25, MICROS // 4),
        (1e-7, 1),
    ],
)
def test_retry_after_counts_from_now_and_rounds_up(after: Any, micros: int) -> None:
    """`Retry(after=…)` takes a timedelta or seconds, and is never too early."""
    assert move(Retry(after=after)).due_at == NOW + micros


def test_a_bare_retry_uses_the_backoff() -> None:
    """`Retry()` counts as a failure and waits as one, and tells no error."""
    change = move(Retry())
    assert change.due_at == NOW + 5 * MICROS
    assert change.failures == 1
    assert history(change)[0]["outcome"] == "retry"
    assert "error" not in history(change)[0]


def test_what_was_not_tried_does_not_count() -> None:
    """A Retry that is not counted is no failure, never exhausts, and leaves no entry unasked."""
    tired = row(attempt=3, failures=2, claim=9)
    change = move(Retry(after=5, counted=False), tired)
    assert (change.due_at, change.failures, change.history) == (NOW + 5 * MICROS, 2, None)
    (entry,) = history(move(Retry(after=5, counted=False, error="busy"), tired))
    assert entry["error"] == "busy"
    assert verdict(Retry(after=5), tired).failures == 3


@pytest.mark.parametrize("after", [-1, "soon"])
def test_a_retry_that_makes_no_sense_counts_always(after: Any) -> None:
    """What cannot be understood is a failure, even where it says that it is none."""
    assert move(Retry(after=after, counted=False)).failures == 1


def test_retry_replaces_the_payload_on_request_only() -> None:
    """A payload given to Retry is the next attempt's; None is a payload, and silence is not."""
    assert move(Retry(payload={"n": 2})).payload == b'{"n":2}'
    assert move(Retry(payload=None)).payload == b"null"
    assert move(Retry(after=1)).payload == b"[1]"


def test_the_error_of_a_retry_is_kept() -> None:
    """A Retry may say why."""
    change = move(Retry(after=1, error="not yet"))
    assert Event((*RUN[:11], change.history)).last_error == "not yet"


@pytest.mark.parametrize(
    "bad",
    [
        Retry(at=datetime(2030, 1, 1)),  # noqa: DTZ001 - a naive time is what is tested
        Retry(at="tomorrow"),  # type: ignore[arg-type] # a wrong type is what is tested
        Retry(at=from_micros(NOW), after=1),
        Retry(after=-1),
        Retry(after=float("nan")),
        Retry(after=float("inf")),
        Retry(after="soon"),  # type: ignore[arg-type] # a wrong type is what is tested
        Retry(after=10**30),
        Retry(payload={1, 2}),
        Retry(payload="x" * 1_000),
    ],
)
def test_a_retry_that_makes_no_sense_is_a_failure(bad: Retry) -> None:
    """A Retry that cannot be understood is a failure, with the fault and the old payload."""
    change = move(bad)
    assert change.due_at == NOW + 5 * MICROS
    assert change.payload == b"[1]"
    assert history(change)[0]["error"]


class Mute:
    def __str__(self) -> NoReturn:
        raise RuntimeError("no text")


@pytest.mark.parametrize("said", [None, 7, ValueError("as a reason"), b"bytes", ["list"], Mute()])
def test_texts_may_be_of_any_type(said: Any) -> None:
    """A reason or an error that is no text is shown as one: the outcome stands."""
    assert isinstance(death(Dead(said)).reason, str)
    assert move(Retry(after=1, error=said)).due_at == NOW + MICROS


def test_dead_is_dead_at_once() -> None:
    """Dead gives up without further attempts, with its reason."""
    change = death(Dead("card expired"))
    assert (change.reason, change.died_at, change.failures) == ("card expired", NOW, 1)
    assert history(change)[0]["outcome"] == "dead"
    assert history(change)[0]["error"] == "card expired"


def test_a_corrupt_payload_is_dead_at_once() -> None:
    """An event whose payload cannot be read will never be: it is given up, not retried."""
    one = row(payload=b"{", claim=9)
    with pytest.raises(CorruptPayload) as caught:
        _ = Event(one).payload
    assert "not JSON" in death(caught.value, one).reason


def test_a_corrupt_payload_of_another_is_a_failure() -> None:
    """An event of the same batch, whose own payload can be read, is retried."""
    assert move(CorruptPayload("The payload of another is not JSON.")).failures == 1


@pytest.mark.parametrize("result", [ValueError("last"), Retry(), Retry(after=1, error="last")])
def test_what_is_exhausted_dies(result: Any) -> None:
    """After the last retry both exceptions and Retry end as dead, with how often it was tried."""
    change = death(result, row(attempt=3, failures=2, claim=9))
    assert "3 attempts" in change.reason
    assert change.failures == 3


def test_no_limit_means_no_death() -> None:
    """With `retries=None` an event is tried for ever."""
    backoff = Backoff(retries=None, maximum=60)
    assert move(ValueError(), row(failures=10**6, claim=9), backoff).failures == 10**6 + 1


def test_the_history_keeps_the_newest() -> None:
    """A history never grows beyond what the settings keep."""
    kept: bytes | None = None
    for attempt in range(1, 8):
        kept = note(kept, NOW, attempt, "failed", "x", 3)
    assert [entry["attempt"] for entry in codec.decode(kept or b"")] == [5, 6, 7]
    assert codec.decode(note(kept, NOW, 8, "failed", "x", 0)) == []


@pytest.mark.parametrize("corrupt", [b"{", b"7", b'["x"]', b"null"])
def test_a_corrupt_history_is_begun_anew(corrupt: bytes) -> None:
    """A history that cannot be read harms neither the event nor the node."""
    assert [e["attempt"] for e in codec.decode(note(corrupt, NOW, 4, "failed", "x", 3))] == [4]


def test_parking_costs_no_attempt() -> None:
    """An event of an unknown kind goes to the parking shard as if it had never been claimed."""
    change = park(row(attempt=3, failures=1, crashes=1, shard=2, claim=9))
    assert (change.shard, change.due_at) == (PARKING, NOW)
    assert (change.attempt, change.failures, change.crashes) == (2, 1, 1)


def test_given_back_is_as_if_never_claimed() -> None:
    """A claim given back unbegun leaves the event as it was."""
    change = give_back(row(attempt=3, failures=1, shard=2, claim=9))
    assert (change.shard, change.due_at, change.attempt, change.failures) == (2, NOW, 2, 1)


def test_interrupted_counts_the_attempt_but_no_failure() -> None:
    """A handler that we stopped has begun, so its attempt stays counted; it did not fail."""
    change = interrupted(row(attempt=3, failures=1, shard=2, claim=9))
    assert (change.shard, change.due_at, change.attempt, change.failures) == (2, NOW, 3, 1)


def test_a_parked_event_that_ran_gets_a_shard_again() -> None:
    """When an event that was parked fails, it goes back among those that nodes divide."""
    change = move(ValueError(), row(tail=7, shard=PARKING, name="n", claim=9))
    assert change.shard == 7 % 4


def test_what_killed_its_node_too_often_dies_unheard() -> None:
    """The death of a poisonous event says how often its node died, and counts no failure."""
    change = crashed(row(attempt=3, crashes=3, failures=1, claim=9), NOW, 5)
    assert "3 attempts" in change.reason
    assert change.failures == 1
    assert history(change)[0]["outcome"] == "crashed"


def test_a_far_future_is_kept_exact() -> None:
    """The last microsecond of year 9999 can be asked for."""
    last = datetime.max.replace(tzinfo=UTC)
    assert move(Retry(at=last)).due_at == to_micros(last)
