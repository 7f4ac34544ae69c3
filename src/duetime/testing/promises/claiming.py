"""What a store promises of claim and peek: one owner, never too many, soonest first."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from duetime.event import CLAIM, PARKING, Row, State, id_of
from duetime.stores.contract import ALL_KINDS, Answer, Kinds, Store
from duetime.testing.promises.given import (
    SECOND,
    T,
    claim_all,
    everywhere,
    in_state,
    kept,
    number,
    row,
)

__all__ = ["Claiming"]

KINDS = [
    (Kinds(), "a b c"),
    (Kinds(only=("a",)), "a"),
    (Kinds(only=("a", "c", "x")), "a c"),
    (Kinds(only=()), ""),
    (Kinds(without=("a",)), "b c"),
    (Kinds(without=("a", "x", "b")), "c"),
    (Kinds(only=("a", "b"), without=("b",)), "a"),
    (Kinds(only=("A",)), ""),
]


def _claim(
    store: Store,
    limit: int = 1000,
    low: int = T,
    high: int = T + SECOND,
    kinds: Kinds = ALL_KINDS,
    crashes: tuple[int, int] = (0, 0),
) -> list[Row]:
    """Claim under a new number, everywhere but in the parking shard."""
    return store.claim(number(), range(store.shards), low, high, limit, kinds, crashes)


class Claiming:
    """Promises of `claim` and `peek`."""

    def test_a_claim_marks_its_rows(self, store: Store) -> None:
        """A claimed row bears the number and one attempt more; nothing else of it changes."""
        fresh = row(attempt=2, failures=1, history=b"[1]", name="n")
        store.insert([fresh])
        mine = number()
        (held,) = store.claim(mine, [0], T, T, 10)
        assert held == (*fresh[:6], 3, *fresh[7:9], mine, *fresh[10:])
        assert kept(store, "n").row == held
        assert kept(store, "n").state is State.CLAIMED

    def test_bounds_are_inclusive(self, store: Store) -> None:
        """A claim takes what is due from low to high, both included, and nothing beyond."""
        store.insert([row(T + offset) for offset in (-1, 0, 5, 9, 10)])
        assert [held[0] for held in _claim(store, low=T, high=T + 9)] == [T, T + 5, T + 9]

    def test_only_the_shards_asked_for(self, store: Store) -> None:
        """A claim leaves other shards alone, the parking shard among them."""
        store.insert([row(shard=shard) for shard in (PARKING, 0, 1, 2)])
        held = store.claim(number(), [0, 2], T, T, 10)
        assert sorted(each[2] for each in held) == [0, 2]
        assert [each[2] for each in store.claim(number(), [PARKING], T, T, 10)] == [PARKING]

    def test_the_answer_is_in_order(self, store: Store) -> None:
        """The answer is sorted by due time across shards."""
        due = [T + i * 7919 % 500 for i in range(200)]
        store.insert([row(at, shard=i % store.shards) for i, at in enumerate(due)])
        assert [held[0] for held in _claim(store)] == sorted(due)

    @pytest.mark.parametrize("shards", [1, 3])
    def test_the_limit_is_exact_at_one_instant(self, store: Store, shards: int) -> None:
        """Of many events at one instant each claim takes its limit, until each was taken once."""
        rows = [row(shard=i % shards) for i in range(250)]
        store.insert(rows)
        taken: list[Row] = []
        for size in [30] * 8 + [10]:
            held = _claim(store, 30)
            assert len(held) == size
            taken += held
        assert _claim(store, 30) == []
        assert sorted(map(id_of, taken)) == sorted(map(id_of, rows))

    def test_the_limit_is_exact_among_claimed_rows(self, store: Store) -> None:
        """Rows that others hold, or that have crashed, do not count towards the limit."""
        store.insert([row(T + i, crashes=i % 2) for i in range(20)])
        assert len(_claim(store, 3)) == 3
        assert len(_claim(store, 5)) == 5
        assert [held[0] for held in _claim(store, 5)] == [T + 16, T + 18]

    def test_soonest_first_within_a_shard(self, store: Store) -> None:
        """Where the limit cuts a shard, the soonest of it are taken."""
        store.insert([row(T + i * 37 % 100) for i in range(100)])
        assert [held[0] for held in _claim(store, 40)] == [T + i for i in range(40)]

    def test_shards_are_filled_in_turn(self, store: Store) -> None:
        """Every shard is emptied before the next one that was named is begun."""
        store.insert([row(T + i, shard=i % 3) for i in range(30)])
        held = store.claim(number(), [2, 0, 1], T, T + SECOND, 15)
        assert sorted((each[2], each[0]) for each in held) == [
            *((0, T + i) for i in range(0, 15, 3)),
            *((2, T + i) for i in range(2, 30, 3)),
        ]

    @pytest.mark.parametrize("limit", [0, -1])
    def test_no_room_no_claim(self, store: Store, limit: int) -> None:
        """A claim without room takes nothing."""
        store.insert([row()])
        assert _claim(store, limit) == []
        assert len(_claim(store, 1)) == 1

    @pytest.mark.parametrize("limit", [1000, 6, 1])
    @pytest.mark.parametrize(("kinds", "expected"), KINDS)
    def test_kinds(self, store: Store, kinds: Kinds, expected: str, limit: int) -> None:
        """A claim takes only these kinds, or all but those, and fills its limit from them."""
        store.insert([row(T + i, kind="abc"[i % 3], shard=i % 2) for i in range(30)])
        held = _claim(store, limit, kinds=kinds)
        assert {each[4] for each in held} <= set(expected.split())
        assert len(held) == min(limit, 10 * len(expected.split()))

    @pytest.mark.parametrize("limit", [1000, 1])
    def test_crashes(self, store: Store, limit: int) -> None:
        """A plain claim passes by what has crashed; one that asks for crashes takes only that."""
        store.insert([row(T + i, crashes=i) for i in range(5)])
        assert [held[8] for held in _claim(store, limit)] == [0]
        assert [held[8] for held in _claim(store, limit, crashes=(2, 3))] == [2, 3][:limit]
        assert [held[8] for held in _claim(store, 1000, crashes=(1, 1))] == [1]

    def test_no_row_is_claimed_twice(self, store: Store) -> None:
        """What one claim holds another does not get."""
        store.insert([row() for _ in range(10)])
        first = _claim(store, 6)
        second = _claim(store, 6)
        assert len(first) == 6
        assert len(second) == 4
        assert not {id_of(held) for held in first} & {id_of(held) for held in second}

    @pytest.mark.parametrize("way", ["moved", "redriven", "parked"])
    @pytest.mark.parametrize("name", [None, "order-1"])
    def test_what_was_moved_is_claimed(self, store: Store, way: str, name: str | None) -> None:
        """Moved, redriven and parked events are claimed at their new place under their old id."""
        event_id = in_state(store, way, name)
        attempt = kept(store, event_id).attempt
        (held,) = claim_all(store)
        assert id_of(held) == event_id
        assert held[6] == attempt + 1

    def test_a_lost_answer_is_asked_for_again(self, store: Store) -> None:
        """A claim with the same number returns what it holds already, with no second attempt."""
        store.insert([row(T + i, shard=i % 3) for i in range(9)])
        mine = number()
        first = store.claim(mine, range(3), T, T + SECOND, 100)
        assert store.claim(mine, range(3), T, T + SECOND, 100) == first
        assert {held[6] for held in first} == {1}

    def test_asked_again_with_more_waiting(self, store: Store) -> None:
        """Asked again, a claim returns all that bears its number, though more came meanwhile."""
        store.insert([row(T + 10, shard=0), row(T + 10, shard=1)])
        mine = number()
        first = store.claim(mine, [0, 1], T, T + SECOND, 2)
        late = [row(T + i, shard=0) for i in range(5)]
        store.insert(late)
        again = store.claim(mine, [0, 1], T, T + SECOND, 2)
        assert sorted(map(id_of, again)) == sorted(map(id_of, [*first, *late[:2]]))
        assert all(held[CLAIM] == mine and held[6] == 1 for held in again)

    def test_threads_share_without_overlap(self, store: Store) -> None:
        """Claims from many threads at once never share an event and leave none."""
        rows = [row(T + i % 7, shard=i % 4) for i in range(400)]
        store.insert(rows)

        def drain(_: int) -> list[str]:
            taken: list[str] = []
            while held := _claim(store, 7):
                taken += map(id_of, held)
            return taken

        with ThreadPoolExecutor(4) as pool:
            taken = [event_id for part in pool.map(drain, range(4)) for event_id in part]
        assert sorted(taken) == sorted(map(id_of, rows))

    def test_cancel_and_claim_exactly_one_wins(self, store: Store) -> None:
        """Of a cancel and a claim at the same time exactly one gets the event."""
        rows = [row(T + i, shard=i % 2, name=f"n{i}" if i % 4 == 0 else None) for i in range(300)]
        store.insert(rows)
        ids = list(map(id_of, rows))

        def take_back(_: int) -> list[str]:
            answers = [(store.cancel([event_id])[0], event_id) for event_id in reversed(ids)]
            return [event_id for answer, event_id in answers if answer is Answer.CANCELLED]

        def take(_: int) -> list[str]:
            taken: list[str] = []
            for _tries in range(60):
                taken += map(id_of, _claim(store, 5))
            return taken

        with ThreadPoolExecutor(2) as pool:
            cancelling, claiming = pool.submit(take_back, 0), pool.submit(take, 0)
            cancelled, claimed = cancelling.result(), claiming.result()
        assert not set(cancelled) & set(claimed)
        assert sorted(cancelled + claimed) == sorted(ids)
        assert {each.id for each in store.get(ids) if each} == set(claimed)

    def test_peek_shows_the_soonest(self, store: Store) -> None:
        """Peek returns the soonest across shards, in order, up to its limit and in its bounds."""
        store.insert([row(T + i * 37 % 100, shard=i % 5, kind=f"k{i % 2}") for i in range(100)])
        seen = store.peek(range(5), T + 10, T + 90, 20)
        assert [due.due_at for due in seen] == [T + 10 + i for i in range(20)]
        assert {due.kind for due in seen} == {"k0", "k1"}
        assert [due.due_at for due in store.peek(range(5), T + 95, T + 97, 20)] == [
            *(T + 95, T + 96, T + 97)
        ]
        assert store.peek(range(5), T, T + SECOND, 0) == []

    def test_peek_shows_what_a_claim_would_take(self, store: Store) -> None:
        """Peek passes by what is claimed, what has crashed, other shards and other kinds."""
        store.insert([row(T, kind="a"), row(T + 1, kind="a", crashes=1)])
        assert len(claim_all(store, T)) == 1
        store.insert([row(T + i, kind=kind) for i, kind in enumerate("abc", 2)])
        store.insert([row(T + 5, shard=1), row(T + 6, shard=PARKING)])
        shown = [
            "".join(due.kind for due in store.peek([0], T, T + SECOND, 9, kinds))
            for kinds, _ in KINDS
        ]
        assert shown == [expected.replace(" ", "") for _, expected in KINDS]

    def test_peek_shows_those_that_crashed_so_often(self, store: Store) -> None:
        """Peek shows events by how often they crashed, as a claim takes them."""
        store.insert([row(T + i, shard=i % 2, kind=f"c{i}", crashes=i) for i in range(4)])
        shown = [
            "".join(due.kind for due in store.peek([0, 1], 0, T + 9, limit, ALL_KINDS, crashes))
            for limit, crashes in [(9, (1, 2)), (1, (2, 1_000_000)), (9, (0, 0)), (9, (4, 9))]
        ]
        assert shown == ["c1c2", "c2", "c0", ""]

    def test_peek_changes_nothing(self, store: Store) -> None:
        """What was peeked at can be cancelled and claimed as before."""
        rows = [row(), row()]
        store.insert(rows)
        assert len(store.peek(everywhere(store), 0, T, 10)) == 2
        assert store.cancel([id_of(rows[0])]) == [Answer.CANCELLED]
        assert [id_of(held) for held in claim_all(store)] == [id_of(rows[1])]
