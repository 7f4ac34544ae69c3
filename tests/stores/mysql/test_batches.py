"""Calls that take a quick way where all is plain answer the same where something is not."""

from __future__ import annotations

import pytest

from duetime.event import id_of
from duetime.stores.contract import Answer, Filter, Kinds
from duetime.stores.mysql import MysqlStore
from duetime.stores.mysql.session import Session
from duetime.testing.promises.given import SECOND, STATES, T, in_state, kept, number, row
from tests.stores.mysql.conftest import Admin

ANSWERS = {"claimed": Answer.IN_FLIGHT, "reclaimed": Answer.IN_FLIGHT, "dead": Answer.DEAD}


@pytest.mark.parametrize("way", STATES)
@pytest.mark.parametrize("count", [1, 2, 30])
def test_an_event_stored_again_alone_or_with_others(
    store: MysqlStore, way: str, count: int
) -> None:
    """A made id that is stored again is not stored twice, alone or among new ones."""
    moved = in_state(store, way)
    before = kept(store, moved).row
    origin = row(int(moved[1:16], 16), shard=int(moved[16:19], 16), tail=int(moved[19:], 16))
    others = [row(T + i) for i in range(count - 1)]
    assert store.insert([origin, *others]) == [None] * count
    assert kept(store, moved).row == before
    total = store.counts(T)
    assert sum(sum(each.values()) for each in (total.scheduled, total.claimed, total.parked)) == (
        count - (way == "dead")
    )


@pytest.mark.parametrize("way", [*STATES, "unknown"])
@pytest.mark.parametrize("count", [2, 700])
def test_many_are_cancelled_beside_one_that_is_not_plain(
    store: MysqlStore, way: str, count: int
) -> None:
    """In a batch of made ids the one that has moved, runs, died or never was has its own answer."""
    odd = id_of(row(T)) if way == "unknown" else in_state(store, way)
    rows = [row(T + 2 * SECOND + i) for i in range(count)]
    store.insert(rows)
    ids = [id_of(each) for each in rows]
    ids.insert(count // 2, odd)
    answers = store.cancel(ids)
    assert answers.pop(count // 2) is (
        Answer.UNKNOWN if way == "unknown" else ANSWERS.get(way, Answer.CANCELLED)
    )
    assert answers == [Answer.CANCELLED] * count
    assert not any(store.get([id_of(each) for each in rows]))
    assert (store.get([odd])[0] is not None) is (way in ANSWERS)


def test_one_id_twice_in_a_batch(store: MysqlStore) -> None:
    """A made id that stands twice in a batch is cancelled once."""
    rows = [row(), row()]
    store.insert(rows)
    ids = [id_of(rows[0]), id_of(rows[1]), id_of(rows[0])]
    assert store.cancel(ids) == [Answer.CANCELLED, Answer.CANCELLED, Answer.UNKNOWN]


def test_long_lists_are_parted(store: MysqlStore) -> None:
    """Lists of ids, places and names that are longer than one statement takes are all seen to."""
    rows = [row(T + i, name=f"n{i}" if i % 2 else None) for i in range(1203)]
    assert store.insert(rows) == [None] * 1203
    ids = [id_of(each) for each in rows]
    assert [event and event.row for event in store.get(ids)] == rows
    assert [found and found.id for found in store.insert(rows)] == [each[3] for each in rows]
    assert store.cancel(ids[:601]) == [Answer.CANCELLED] * 601
    assert [event.id for event in store.find(Filter(), 5000)] == ids[601:]


def test_arrivals_during_a_claim(
    store: MysqlStore, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is stored between the pick and the mark of a claim is claimed whole or not at all."""
    store.insert([row(T + 2 * i) for i in range(5)])
    inner = Session.column
    late = row(T + 3)

    def column(session: Session, statement: str) -> list[bytes]:
        picked = inner(session, statement)
        if "SKIP LOCKED" in statement:
            assert other.insert([late]) == [None]
        return picked

    other = MysqlStore(admin.url, prefix=store.prefix)
    monkeypatch.setattr(Session, "column", column)
    held = store.claim(number(), [0], T, T + SECOND, 100, Kinds())
    monkeypatch.setattr(Session, "column", inner)
    other.close()
    assert len(held) in (5, 6)
    for each in held:
        assert kept(store, id_of(each)).row == each
    assert (kept(store, id_of(late)).row[9] != 0) is (len(held) == 6)


def test_arrivals_never_exceed_the_limit(
    store: MysqlStore, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that would mark more than its limit, for more has come, is done again."""
    store.insert([row(T + 2 * i, shard=i % 2) for i in range(6)])
    inner = Session.column
    late = [row(T + 3), row(T + 5, shard=1)]

    def column(session: Session, statement: str) -> list[bytes]:
        picked = inner(session, statement)
        if "SKIP LOCKED" in statement and late:
            assert other.insert([late.pop()]) == [None]
        return picked

    other = MysqlStore(admin.url, prefix=store.prefix)
    monkeypatch.setattr(Session, "column", column)
    held = store.claim(number(), [0, 1], T, T + SECOND, 6)
    monkeypatch.setattr(Session, "column", inner)
    other.close()
    assert len(held) == 6
    claimed = [event for event in store.find(Filter(), 100) if event.row[9]]
    assert sorted(event.row for event in claimed) == held


def test_a_page_sees_one_moment(
    store: MysqlStore, admin: Admin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page whose events go while it is read shows them as they were when it was begun."""
    rows = [row(T + i) for i in range(3)]
    store.insert(rows)
    inner = Session.column

    def column(session: Session, statement: str) -> list[bytes]:
        found = inner(session, statement)
        monkeypatch.setattr(Session, "column", inner)
        assert other.cancel([id_of(rows[1])]) == [Answer.CANCELLED]
        return found

    other = MysqlStore(admin.url, prefix=store.prefix)
    monkeypatch.setattr(Session, "column", column)
    assert [event.row for event in store.find(Filter(), 10)] == rows
    assert [event.row for event in store.find(Filter(), 10)] == [rows[0], rows[2]]
    other.close()
