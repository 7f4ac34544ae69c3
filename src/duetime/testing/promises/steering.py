"""What a store promises of cancel, reschedule and redrive: an answer is never a guess."""

from __future__ import annotations

import pytest

from duetime.event import PARKING, State, id_of
from duetime.stores.contract import Answer, Settlement, Store
from duetime.testing.promises.given import (
    ALIVE,
    SECOND,
    STATES,
    T,
    buried,
    claim_all,
    in_state,
    kept,
    move,
    row,
)

__all__ = ["Steering"]

NAMES = [None, "order-1"]
UNKNOWN_IDS = ["never-heard-of", id_of(row()), "", "e" + "f" * 33]


def _expected(way: str, free: Answer) -> Answer:
    """Return the answer for an event in this state, if `free` is the one for unclaimed ones."""
    refused = {State.CLAIMED: Answer.IN_FLIGHT, State.DEAD: Answer.DEAD}
    return refused.get(STATES[way][1], free)


class Steering:
    """Promises of `cancel`, `reschedule` and `redrive`."""

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("way", STATES)
    def test_cancel_in_every_state(self, store: Store, way: str, name: str | None) -> None:
        """Cancel takes back what is unclaimed, and says of the rest why not and leaves it."""
        event_id = in_state(store, way, name)
        before = kept(store, event_id)
        answer = _expected(way, Answer.CANCELLED)
        assert store.cancel([event_id]) == [answer]
        if answer is Answer.CANCELLED:
            assert store.get([event_id]) == [None]
            assert claim_all(store, T + 10 * SECOND) == []
        else:
            assert kept(store, event_id).row == before.row
            assert kept(store, event_id).state is before.state

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("way", ALIVE)
    def test_cancel_twice(self, store: Store, way: str, name: str | None) -> None:
        """The second cancel of an event knows it no more, in one call and in the next."""
        event_id = in_state(store, way, name)
        first = store.cancel([event_id, event_id])
        again = Answer.UNKNOWN if first[0] is Answer.CANCELLED else first[0]
        assert first[1] is again
        assert store.cancel([event_id]) == [again]

    def test_unknown_ids(self, store: Store) -> None:
        """Ids of no kept event are unknown, whatever they look like."""
        store.insert([row()])
        unknown = [Answer.UNKNOWN] * len(UNKNOWN_IDS)
        assert store.cancel(UNKNOWN_IDS) == unknown
        assert store.reschedule([(event_id, T) for event_id in UNKNOWN_IDS]) == unknown
        assert store.redrive(UNKNOWN_IDS, T, b"{}") == unknown
        assert store.get(UNKNOWN_IDS) == [None] * len(UNKNOWN_IDS)
        assert store.counts(T).scheduled == {"mail": 1}

    @pytest.mark.parametrize("name", NAMES)
    def test_done_is_unknown(self, store: Store, name: str | None) -> None:
        """An event that is done is unknown to cancel, reschedule and redrive."""
        event_id = in_state(store, "claimed", name)
        store.settle(Settlement(done=[kept(store, event_id).row]))
        assert store.cancel([event_id]) == [Answer.UNKNOWN]
        assert store.reschedule([(event_id, T + SECOND)]) == [Answer.UNKNOWN]
        assert store.redrive([event_id], T, b"{}") == [Answer.UNKNOWN]

    def test_answers_stand_where_the_ids_stood(self, store: Store) -> None:
        """Each id of a call has its own answer, in order."""
        dead = in_state(store, "dead")
        claimed = in_state(store, "claimed")
        free = [row(), row(name="b")]
        store.insert(free)
        ids = [id_of(free[0]), "nobody", claimed, "b", dead]
        assert store.cancel(ids) == [
            Answer.CANCELLED,
            Answer.UNKNOWN,
            Answer.IN_FLIGHT,
            Answer.CANCELLED,
            Answer.DEAD,
        ]

    def test_cancel_takes_only_its_own(self, store: Store) -> None:
        """A cancel leaves events at the same instant, of the same kind and shard, alone."""
        rows = [row() for _ in range(10)]
        store.insert(rows)
        assert store.cancel([id_of(rows[4])]) == [Answer.CANCELLED]
        assert sorted(map(id_of, claim_all(store))) == sorted(map(id_of, rows[:4] + rows[5:]))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("way", STATES)
    def test_reschedule_in_every_state(self, store: Store, way: str, name: str | None) -> None:
        """Reschedule moves what is unclaimed, and says of the rest why not and leaves it."""
        event_id = in_state(store, way, name)
        before = kept(store, event_id)
        answer = _expected(way, Answer.RESCHEDULED)
        assert store.reschedule([(event_id, T + 60 * SECOND)]) == [answer]
        after = kept(store, event_id)
        if answer is Answer.RESCHEDULED:
            assert after.state is State.SCHEDULED
            assert after.row[0] == T + 60 * SECOND
            assert after.row[4:] == before.row[4:]
            assert claim_all(store, T + 59 * SECOND) == []
            assert [id_of(held) for held in claim_all(store, T + 60 * SECOND)] == [event_id]
        else:
            assert (after.row, after.state) == (before.row, before.state)

    @pytest.mark.parametrize("name", NAMES)
    def test_reschedule_there_and_back(self, store: Store, name: str | None) -> None:
        """An event moved away, back, and to where it lies already keeps its id and is one event."""
        event_id = in_state(store, "scheduled", name)
        hops = [(event_id, T + SECOND), (event_id, T - SECOND), (event_id, T), (event_id, T)]
        assert store.reschedule(hops) == [Answer.RESCHEDULED] * 4
        assert kept(store, event_id).row[0] == T
        assert store.counts(T).scheduled == {"mail": 1}
        assert store.cancel([event_id]) == [Answer.CANCELLED]
        assert store.get([event_id]) == [None]
        assert store.insert([row(name=event_id)]) == [None]

    def test_reschedule_keeps_the_shard(self, store: Store) -> None:
        """A move keeps the shard; only a parked event comes back from the parking shard."""
        shard = store.shards - 1
        fresh = row(shard=shard)
        store.insert([fresh])
        store.reschedule([(id_of(fresh), T + 1)])
        assert kept(store, id_of(fresh)).row[2] == shard
        (held,) = claim_all(store)
        store.settle(Settlement(moves=[move(held, shard=PARKING)]))
        store.reschedule([(id_of(fresh), T + 2)])
        assert 0 <= kept(store, id_of(fresh)).row[2] < store.shards

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("way", STATES)
    def test_redrive_in_every_state(self, store: Store, way: str, name: str | None) -> None:
        """Redrive takes only what is dead; of the rest it says that it waits or runs."""
        event_id = in_state(store, way, name)
        answer = {
            State.CLAIMED: Answer.IN_FLIGHT,
            State.DEAD: Answer.REDRIVEN,
        }.get(STATES[way][1], Answer.SCHEDULED)
        before = kept(store, event_id)
        assert store.redrive([event_id], T + 5 * SECOND, b'{"outcome":"redriven"}') == [answer]
        if answer is not Answer.REDRIVEN:
            assert kept(store, event_id).row == before.row

    @pytest.mark.parametrize("name", NAMES)
    def test_redriven_events_begin_again(self, store: Store, name: str | None) -> None:
        """A redriven event keeps id and attempts, forgets failures and crashes, and notes it."""
        fresh = row(name=name, attempt=3, failures=2, crashes=2, history=b'[{"attempt":3}]')
        store.insert([fresh])
        (held,) = claim_all(store)
        buried(store, held)
        assert store.redrive([id_of(fresh)], T + 5, b'{"outcome":"redriven"}') == [Answer.REDRIVEN]
        event = kept(store, id_of(fresh))
        assert event.state is State.SCHEDULED
        assert (event.row[0], event.attempt, event.failures, event.crashes) == (T + 5, 4, 0, 0)
        assert event.history == [{"attempt": 3}, {"outcome": "redriven"}]
        assert event.row[4:6] == fresh[4:6]
        assert store.counts(T).dead == {}

    @pytest.mark.parametrize("name", NAMES)
    def test_redriven_events_run_and_end(self, store: Store, name: str | None) -> None:
        """A redriven event is claimed and done as any other; a second redrive finds it waiting."""
        event_id = in_state(store, "dead", name)
        assert store.redrive([event_id, event_id], T, b"{}") == [Answer.REDRIVEN, Answer.SCHEDULED]
        (held,) = claim_all(store)
        assert store.settle(Settlement(done=[held])).done == 1
        assert store.get([event_id]) == [None]

    def test_redrive_of_what_died_parked(self, store: Store) -> None:
        """An event that died in the parking shard does not go back there."""
        event_id = in_state(store, "parked")
        (held,) = claim_all(store)
        buried(store, held)
        store.redrive([event_id], T, b"{}")
        assert kept(store, event_id).state is State.SCHEDULED
