"""However many events wait, a call looks at about as many rows as it is about."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from duetime.event import Row, id_of
from duetime.stores.contract import Answer, Filter, Range, Settlement, Store
from duetime.testing.promises.given import SECOND, T, move, number, row
from tests.large.conftest import EACH, SHARDS, STEP, Full

pytestmark = [pytest.mark.large, pytest.mark.timeout(900)]

LIMIT, ALL = 1000, range(SHARDS)
SOON = T + 10 * SECOND  # 10,000 events of each shard are due by then
LATER = T + EACH * STEP // 2  # in the middle of the table
CALM = T + 20 * SECOND  # where nothing is claimed: 10,000 events of each shard until QUIET
QUIET = CALM + 10 * SECOND
NEW = LATER + 60 * SECOND  # where tests put events, so that no other test meets them


class Case(NamedTuple):
    """A call: what is prepared unseen, what is seen, what it answers, and how much it may read."""

    act: Callable[[Store, list[Row]], int]
    answer: int
    most: int
    prepare: Callable[[Store], list[Row]] = lambda _: []


def some(store: Store) -> list[Row]:
    """Return events that nothing is moved to: those that were moved take longer ways."""
    return [event.row for event in store.find(Filter(due_from=LATER + SECOND), 500)]


def claimed(store: Store) -> list[Row]:
    return store.claim(number(), [5], T, SOON, LIMIT)


def settle_range(store: Store, mine: list[Row]) -> int:
    last = mine[-1][0]
    return store.settle(Settlement(ranges=[Range(mine[0][9], (5,), mine[0][0], last)])).ranges


def settle_lists(store: Store, mine: list[Row]) -> int:
    moves = [move(each, NEW) for each in mine[900:]]
    settled = store.settle(Settlement(done=mine[:900], moves=moves))
    return settled.done + settled.moves


def cancel(store: Store, rows: list[Row]) -> int:
    return store.cancel([id_of(each) for each in rows]).count(Answer.CANCELLED)


def reschedule(store: Store, rows: list[Row]) -> int:
    answers = store.reschedule([(id_of(each), NEW) for each in rows[:100]])
    return len(answers) - answers.count(Answer.UNKNOWN)


# A delete of MariaDB's goes by a list of what it has found, which counts as reading it thrice.
# A claim picks, compares the pick with what lies there, and marks it: four looks at each row. One
# of all shards counts before. What is shown of a backlog in all shards is read in each of them.
CASES = {
    "peek at one shard": Case(lambda s, _: len(s.peek([3], CALM, QUIET, LIMIT)), LIMIT, LIMIT + 9),
    "peek at all": Case(
        lambda s, _: len(s.peek(ALL, CALM, QUIET, LIMIT)), LIMIT, (SHARDS + 1) * (LIMIT + 9)
    ),
    "peek at few": Case(lambda s, _: len(s.peek(ALL, LATER, LATER + 9 * STEP, LIMIT)), 320, 500),
    "claim of one shard": Case(
        lambda s, _: len(s.claim(number(), [3], T, SOON, LIMIT)), LIMIT, 4 * LIMIT + 20
    ),
    "claim of all": Case(
        lambda s, _: len(s.claim(number(), ALL, T + SECOND, SOON, LIMIT)), LIMIT, 6 * LIMIT + 100
    ),
    "claim of few": Case(
        lambda s, _: len(s.claim(number(), ALL, SOON, SOON + 9 * STEP, LIMIT)), 320, 6 * 320 + 300
    ),
    "settle a range": Case(settle_range, LIMIT, LIMIT + 20, claimed),
    "settle lists": Case(settle_lists, LIMIT, 4 * LIMIT, claimed),
    "cancel": Case(cancel, 500, 2100, some),
    "reschedule": Case(reschedule, 100, 1000, some),
    "get": Case(
        lambda s, rows: sum(map(bool, s.get([id_of(each) for each in rows]))), 500, 2100, some
    ),
    "find": Case(
        lambda s, _: len(s.find(Filter(due_from=LATER), 100)), 100, (SHARDS + 2) * 110 + 400
    ),
    "insert": Case(
        lambda s, _: s.insert([row(NEW + i) for i in range(LIMIT)]).count(None), LIMIT, 50
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_call_reads_what_it_is_about(
    full: Full, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Among five million events a call goes by the place and reads no more than its limit."""
    case = CASES[name]
    rows = case.prepare(full.store)
    with full.watch(monkeypatch) as seen:
        assert case.act(full.store, rows) == case.answer
    assert seen.read() <= case.most


def test_the_counters_count(full: Full, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look at everything is seen as such: what the other tests go by is not always little."""
    with full.watch(monkeypatch) as seen:
        full.store.peek([7], T, T + EACH * STEP, 20_000)
    assert seen.read() >= 20_000
