"""What happens in a caller's transaction happens with it: wholly when it commits, or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

import pytest

from duetime.errors import InvalidInput
from duetime.event import PARKING, id_of
from duetime.stores.contract import Answer, Store
from duetime.testing.promises.given import SECOND, T, claim_all, in_state, kept, row

__all__ = ["Sharing", "Transaction"]


class Transaction(Protocol):
    """An open transaction of a program's on the store's database, and how it ends."""

    connection: Any  # what `Store.within` takes

    def commit(self) -> None:
        """Commit; the next use of the connection is in a new transaction."""

    def rollback(self) -> None:
        """Roll back; the next use of the connection is in a new transaction."""


class Sharing:
    """Promises of `within`; the fixture `begin` opens a transaction on the store's database."""

    def test_nobody_sees_it_before_the_commit(
        self, store: Store, begin: Callable[[], Transaction]
    ) -> None:
        """An event inserted in a transaction is seen by nobody until the commit, by all after."""
        mine = begin()
        rows = [row(), row(name="order-1")]
        assert store.within(mine.connection).insert(rows) == [None, None]
        ids = [id_of(one) for one in rows]
        assert store.get(ids) == [None, None]
        mine.commit()
        assert [kept(store, one).row for one in ids] == rows

    def test_it_can_be_claimed_after_the_commit(
        self, store: Store, begin: Callable[[], Transaction]
    ) -> None:
        """What was inserted in a transaction belongs to nobody, and is claimed like any other."""
        mine = begin()
        new = row()
        store.within(mine.connection).insert([new])
        mine.commit()
        assert [id_of(one) for one in claim_all(store)] == [id_of(new)]

    def test_a_rollback_leaves_all_as_it_was(
        self, store: Store, begin: Callable[[], Transaction]
    ) -> None:
        """After a rollback nothing was inserted, cancelled or moved."""
        old = [row(), row(name="order-1"), row(), row(name="order-2")]
        store.insert(old)
        ids = [id_of(one) for one in old]
        mine = begin()
        new = [row(), row(name="order-3")]
        changes = store.within(mine.connection)
        changes.insert(new)
        assert changes.cancel(ids[:2]) == [Answer.CANCELLED] * 2
        moves = [(one, T + SECOND) for one in ids[2:]]
        assert changes.reschedule(moves) == [Answer.RESCHEDULED] * 2
        mine.rollback()
        assert [kept(store, one).row for one in ids] == old
        assert store.get([id_of(one) for one in new]) == [None, None]
        assert store.insert([row(name="order-3")]) == [None]

    def test_a_commit_makes_it_so(self, store: Store, begin: Callable[[], Transaction]) -> None:
        """After the commit the cancelled are gone and the moved are where they were moved to."""
        old = [row(), row(name="order-1"), row(), row(name="order-2")]
        store.insert(old)
        ids = [id_of(one) for one in old]
        mine = begin()
        changes = store.within(mine.connection)
        assert changes.cancel(ids[:2]) == [Answer.CANCELLED] * 2
        changes.reschedule([(one, T + SECOND) for one in ids[2:]])
        mine.commit()
        assert store.get(ids[:2]) == [None, None]
        assert [kept(store, one).row[0] for one in ids[2:]] == [T + SECOND] * 2
        assert store.cancel(ids) == [*[Answer.UNKNOWN] * 2, *[Answer.CANCELLED] * 2]

    def test_a_transaction_knows_its_own(
        self, store: Store, begin: Callable[[], Transaction]
    ) -> None:
        """What a transaction has inserted it can move and cancel, and what it cancelled is gone."""
        mine = begin()
        for new in (row(), row(name="order-1")):
            changes = store.within(mine.connection)
            assert changes.insert([new]) == [None]
            assert changes.reschedule([(id_of(new), T + SECOND)]) == [Answer.RESCHEDULED]
            assert changes.cancel([id_of(new)]) == [Answer.CANCELLED]
            assert changes.cancel([id_of(new)]) == [Answer.UNKNOWN]
        mine.commit()
        assert store.get(["order-1"]) == [None]

    def test_an_id_is_one_event(self, store: Store, begin: Callable[[], Transaction]) -> None:
        """An id that is kept, was inserted here before or stands twice in a call is one event."""
        old = row(name="old", kind="first")
        store.insert([old])
        mine = begin()
        changes = store.within(mine.connection)
        names = ["old", "new", "new", "other"]
        answers = changes.insert([row(name=name, kind=f"k-{i}") for i, name in enumerate(names)])
        assert [one and (one.kind, one.created) for one in answers] == [
            ("first", False),
            None,
            ("k-1", False),
            None,
        ]
        (again,) = changes.insert([row(name="new", kind="later")])
        assert again is not None
        assert (again.kind, again.created) == ("k-1", False)
        mine.commit()
        assert [kept(store, name).kind for name in ("old", "new", "other")] == [
            "first",
            "k-1",
            "k-3",
        ]

    def test_answers_are_the_stores(self, store: Store, begin: Callable[[], Transaction]) -> None:
        """Claimed, dead and unknown events are told as such, and are not changed."""
        ids = [in_state(store, "claimed"), in_state(store, "dead"), "none"]
        mine = begin()
        changes = store.within(mine.connection)
        wanted = [Answer.IN_FLIGHT, Answer.DEAD, Answer.UNKNOWN]
        assert changes.cancel(ids) == wanted
        assert changes.reschedule([(one, T + SECOND) for one in ids]) == wanted
        mine.commit()
        assert [one is None for one in store.get(ids)] == [False, False, True]

    def test_a_parked_event_leaves_its_shard(
        self, store: Store, begin: Callable[[], Transaction]
    ) -> None:
        """A parked event that is moved in a transaction leaves the parking shard."""
        parked = row(shard=PARKING)
        store.insert([parked])
        mine = begin()
        moves = [(id_of(parked), T + SECOND)]
        assert store.within(mine.connection).reschedule(moves) == [Answer.RESCHEDULED]
        mine.commit()
        assert kept(store, id_of(parked)).row[2] != PARKING

    def test_what_is_no_connection_is_refused(self, store: Store) -> None:
        """What is no connection is refused by the code `within_invalid`, with advice."""
        with pytest.raises(InvalidInput) as caught:
            store.within(object()).insert([row()])
        assert caught.value.code == "within_invalid"
