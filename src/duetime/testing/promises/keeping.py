"""What a store promises of nodes: their roll, who holds what, and how claims are freed."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from duetime.event import PARKING, Row, State, id_of
from duetime.stores.contract import Settlement, Store
from duetime.testing.promises.given import SECOND, T, everywhere, kept, number, row

__all__ = ["Keeping"]


def _held_by(store: Store, node: int, rows: Sequence[Row]) -> list[Row]:
    """Insert rows and let a node claim them all."""
    store.insert(rows)
    return store.claim(number(node), everywhere(store), 0, T + 60 * SECOND, 1000, crashes=(0, 99))


class Keeping:
    """Promises of `beat`, `strike`, `owners` and `rescue`."""

    def test_joining(self, store: Store) -> None:
        """A node that joins gets a number of its own and sees everyone on the roll."""
        before = store.time()
        first = store.beat("alpha", 0, b'{"pid":1}')
        second = store.beat("beta", 0, b'{"pid":2}')
        assert before <= first.now <= second.now <= store.time()
        assert 0 < first.number < second.number == second.issued < 2**31
        assert [member.id for member in first.members] == ["alpha"]
        assert [(each.number, each.id, each.info) for each in second.members] == [
            (first.number, "alpha", b'{"pid":1}'),
            (second.number, "beta", b'{"pid":2}'),
        ]

    def test_beating(self, store: Store) -> None:
        """Each beat raises the counter of its own node only, and renews what is said of it."""
        alpha = store.beat("alpha", 0, b"1")
        beta = store.beat("beta", 0, b"1")
        counters = [
            {each.id: each.counter for each in store.beat("alpha", alpha.number, b"2").members}
            for _ in range(3)
        ]
        assert counters[0]["alpha"] < counters[1]["alpha"] < counters[2]["alpha"]
        assert len({each["beta"] for each in counters}) == 1
        roll = store.beat("beta", beta.number, b"3")
        assert roll.number == beta.number
        assert [each.info for each in roll.members] == [b"2", b"3"]

    def test_a_struck_node_is_not_put_back(self, store: Store) -> None:
        """A beat of a node that was struck off answers number 0, and the node stays off."""
        alpha = store.beat("alpha", 0, b"")
        store.beat("beta", 0, b"")
        assert store.strike(alpha.number, None)
        roll = store.beat("alpha", alpha.number, b"")
        assert roll.number == 0
        assert [member.id for member in roll.members] == ["beta"]

    def test_the_counter_protects_the_living(self, store: Store) -> None:
        """A node that has beaten since it was looked at is not struck off."""
        alpha = store.beat("alpha", 0, b"")
        seen = alpha.members[0].counter
        store.beat("alpha", alpha.number, b"")
        assert not store.strike(alpha.number, seen)
        assert store.beat("alpha", alpha.number, b"").number == alpha.number
        assert store.strike(alpha.number, seen + 2)
        assert not store.strike(alpha.number, seen + 2)
        assert not store.strike(alpha.number, None)
        assert not store.strike(2**31 - 1, None)

    def test_numbers_are_never_used_again(self, store: Store) -> None:
        """No number is given twice, though every node that had one is gone."""
        given = []
        for i in range(5):
            roll = store.beat(f"node-{i}", 0, b"")
            given.append(roll.number)
            assert roll.issued == roll.number
            store.strike(roll.number, None)
        assert given == sorted(set(given))

    def test_joining_again_leaves_the_old_number(self, store: Store) -> None:
        """A node whose first answer was lost joins again under a new number, and once only."""
        first = store.beat("alpha", 0, b"")
        again = store.beat("alpha", 0, b"")
        assert again.number > first.number
        assert [member.number for member in again.members] == [again.number]
        assert store.beat("alpha", first.number, b"").number == 0

    def test_a_number_belongs_to_its_node(self, store: Store) -> None:
        """Nobody beats under the number of another."""
        alpha = store.beat("alpha", 0, b"")
        assert store.beat("beta", alpha.number, b"").number == 0
        assert store.beat("alpha", alpha.number, b"").members[0].counter == 2

    def test_owners(self, store: Store) -> None:
        """Owners are the nodes that hold claims in these shards due by then, each once."""
        _held_by(store, 3, [row(T), row(T + 1), row(T, shard=1)])
        _held_by(store, 4, [row(T + 5)])
        _held_by(store, 2**31 - 1, [row(T, shard=2), row(T, shard=PARKING)])
        store.insert([row(T)])
        assert store.owners([0, 1], T + 5) == {3, 4}
        assert store.owners([0, 1], T + 4) == {3}
        assert store.owners([2], T) == {2**31 - 1}
        assert store.owners([PARKING], T) == {2**31 - 1}
        assert store.owners([0, 1], T - 1) == set()

    def test_rescue_frees_one_node(self, store: Store) -> None:
        """A rescue frees all claims of one node and leaves those of its neighbours."""
        theirs = _held_by(store, 5, [row(T), row(T + 1, name="n"), row(T + 2, shard=PARKING)])
        others = _held_by(store, 6, [row(T)]) + _held_by(store, 4, [row(T)])
        assert store.rescue(everywhere(store), 5, T + 2, T) == 3
        assert store.rescue(everywhere(store), 5, T + 2, T) == 0
        assert all(kept(store, id_of(held)).state is not State.CLAIMED for held in theirs)
        assert all(kept(store, id_of(held)).row == held for held in others)

    def test_rescue_keeps_to_its_shards_and_time(self, store: Store) -> None:
        """A rescue frees only what lies in its shards and is due by its time, inclusively."""
        rows = _held_by(store, 5, [row(T), row(T + 1), row(T + 2), row(T, shard=1)])
        assert store.rescue([0], 5, T + 1, T) == 2
        claimed = [kept(store, id_of(held)).state is State.CLAIMED for held in sorted(rows)]
        assert sum(claimed) == 2
        assert store.owners([0], T + 1) == set()
        assert store.owners([0, 1], T + 2) == {5}

    def test_suspects_have_crashed(self, store: Store) -> None:
        """What was due by then may have run, a crash; what was due later cannot have started."""
        fresh = [row(T + i, attempt=2, crashes=1, failures=1) for i in range(4)]
        _held_by(store, 5, fresh)
        store.rescue([0], 5, T + 3, T + 1)
        found = [kept(store, id_of(each)) for each in fresh]
        assert [event.attempt for event in found] == [3, 3, 2, 2]
        assert [event.crashes for event in found] == [2, 2, 1, 1]
        assert [event.failures for event in found] == [1, 1, 1, 1]

    @pytest.mark.parametrize("name", [None, "order-1"])
    def test_rescued_events_run_again(self, store: Store, name: str | None) -> None:
        """A rescued event is claimed by another, who settles it; the first one cannot."""
        (first,) = _held_by(store, 5, [row(name=name)])
        store.rescue([0], 5, T, T - 1)
        (second,) = store.claim(number(6), [0], T, T, 10)
        assert second[6] == 1
        assert store.settle(Settlement(done=[first])).done == 0
        assert store.settle(Settlement(done=[second])).done == 1
