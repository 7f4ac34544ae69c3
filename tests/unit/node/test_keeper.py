"""The keeper beats, divides the shards, strikes off the dead and frees what they held."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from duetime.clock import MICROS
from duetime.event import PARKING
from duetime.node.keeper import divide
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault
from tests.unit.node.stand import MS, NOW, Stand, Ticker, replace, row, rows

BEAT, LEASE, LIFE = MICROS // 2, 3 * MICROS, 2 * MICROS
names = st.lists(st.text("abcdef0123456789", min_size=1, max_size=8), unique=True, max_size=9)


class Pair:
    """Two nodes on one store, each with a boot clock of its own."""

    def __init__(self) -> None:
        self.store = MemoryStore(16, Ticker())
        self.a = Stand(store=self.store, identity="a")
        self.b = Stand(store=self.store, identity="b")
        self.b.ticker.boot_at = 77
        self.b.clock.offset = NOW - 77

    def go_on(self, micros: int) -> None:
        for ticker in (self.a.ticker, self.b.ticker, self.store._clock):
            assert isinstance(ticker, Ticker)
            ticker.go_on(micros)

    def beat_both(self, rounds: int = 2) -> None:
        for _ in range(rounds):
            self.a.beat()
            self.b.beat()
        self.a.beat()  # so that each has seen the other's last beat

    def beats_of(self, stand: Stand, micros: int) -> None:
        for _ in range(micros // BEAT):
            self.go_on(BEAT)
            stand.beat()


@given(names, st.integers(1, 64))
def test_every_shard_has_exactly_one_owner(ids: list[str], shards: int) -> None:
    """The living divide all shards, none twice and none forgotten."""
    owned = divide(ids, shards)
    assert set(owned) == set(ids)
    taken = [shard for mine in owned.values() for shard in mine]
    assert sorted(taken) == (list(range(shards)) if ids else [])


@given(names.filter(bool), st.integers(1, 64))
def test_shards_are_divided_evenly(ids: list[str], shards: int) -> None:
    """No node has more than its share rounded up; in what order they are named is nothing."""
    owned = divide(ids, shards)
    assert max(map(len, owned.values())) == -(-shards // len(ids))
    assert divide(ids[::-1], shards) == owned


def test_little_moves_when_a_node_goes() -> None:
    """Of eight nodes one goes: most shards of the others stay where they were."""
    for gone in range(8):
        ids = [f"node-{number}" for number in range(8)]
        before = divide(ids, 1024)
        after = divide([one for one in ids if one != ids[gone]], 1024)
        stayed = sum(len(set(before[one]) & set(after[one])) for one in after)
        assert stayed > 0.6 * 1024


def test_the_first_beat_puts_a_node_on_the_roll() -> None:
    """A node joins under a number of its own, opens its fence and owns every shard."""
    stand = Stand()
    assert not stand.node.fence.is_open(stand.ticker.boot())
    again = stand.beat()
    assert again == stand.now + BEAT
    assert stand.number == 1
    assert stand.node.keeper.shards == (0, 1, 2, 3)
    assert stand.node.fence.until == stand.ticker.boot() + LIFE
    assert [member.id for member in stand.members()] == ["node-1"]


def test_two_nodes_divide_the_shards() -> None:
    """Each of two living nodes owns what the other does not."""
    pair = Pair()
    pair.beat_both()
    a, b = pair.a.node.keeper.shards, pair.b.node.keeper.shards
    assert a
    assert b
    assert sorted(a + b) == list(range(16))


def test_a_beat_moves_the_fence_on_from_when_it_was_sent() -> None:
    """The fence counts from before the beat: how long the answer took is the node's loss."""
    stand = Stand().join()
    stand.ticker.go_on(BEAT)
    sent = stand.ticker.boot()
    beat = stand.memory.beat

    def slow(*arguments: object) -> object:
        stand.ticker.go_on(300 * MS)
        return beat(*arguments)  # type: ignore[arg-type] # whatever the keeper passes

    replace(stand.memory, beat=slow)  # a slow store
    stand.beat()
    assert stand.node.fence.until == sent + LIFE


def test_a_failing_beat_does_not_move_the_fence() -> None:
    """Without an answer the fence closes in time; the next try comes sooner than a beat."""
    for fault in (Fault.REFUSED, Fault.LOST_AFTER):
        stand = Stand().join()
        until = stand.node.fence.until
        stand.plan.always["beat"] = fault
        stand.ticker.go_on(BEAT)
        again = stand.beat()
        assert again is not None
        assert again < stand.now + BEAT
        assert stand.node.fence.until == until
        assert len(stand.watch.errors) == 1
        stand.ticker.go_on(LIFE)
        assert not stand.node.fence.is_open(stand.ticker.boot())
        stand.plan.always.clear()
        stand.beat()
        assert stand.node.fence.is_open(stand.ticker.boot())
        assert len(stand.members()) == 1


def test_a_lost_answer_to_joining_leaves_no_ghost() -> None:
    """A node whose joining was never answered joins again, and is on the roll once."""
    stand = Stand()
    stand.plan.next("beat", Fault.LOST_AFTER)
    stand.beat()
    assert stand.number == 0
    stand.beat()
    assert stand.number == 2
    assert [member.number for member in stand.members()] == [2]


def test_a_node_that_beats_is_never_struck() -> None:
    """However long two nodes live, neither strikes the other."""
    pair = Pair()
    pair.beat_both()
    for _ in range(30):
        pair.go_on(BEAT)
        pair.beat_both(1)
    assert (pair.a.number, pair.b.number) == (1, 2)


def test_a_silent_node_is_struck_after_the_lease() -> None:
    """A counter that did not move for a lease of the observer's boot clock ends a membership."""
    pair = Pair()
    pair.beat_both()
    pair.beats_of(pair.a, LEASE - BEAT)
    assert len(pair.a.members()) == 2
    pair.beats_of(pair.a, BEAT)
    assert [member.number for member in pair.a.members()] == [1]
    assert pair.a.node.keeper.shards == tuple(range(16))
    assert set(pair.store._nodes) == {1}


def test_a_stepping_clock_kills_nobody() -> None:
    """An hour's step of every wall clock, forth and back, changes no membership and no fence."""
    pair = Pair()
    pair.beat_both()
    before = pair.a.node.keeper.shards
    for step in (3600, -7200, 3600):
        for ticker in (pair.a.ticker, pair.b.ticker, pair.store._clock):
            assert isinstance(ticker, Ticker)
            ticker.wall_at += step * MICROS
        pair.beat_both()
        for stand in (pair.a, pair.b):
            assert stand.node.fence.is_open(stand.ticker.boot())
    assert (pair.a.number, pair.b.number) == (1, 2)
    assert pair.a.node.keeper.shards == before
    assert pair.a.tally.rescued == 0


def test_a_strike_loses_against_a_beat() -> None:
    """A node that beats between being found dead and being struck stays on the roll."""
    pair = Pair()
    pair.beat_both()
    strike = pair.store.strike

    def slow(number: int, counter: int | None) -> bool:
        pair.b.beat()
        return strike(number, counter)

    replace(pair.store, strike=slow)  # the race, made certain
    pair.beats_of(pair.a, LEASE)
    assert set(pair.store._nodes) == {1, 2}
    assert pair.b.number == 2


def test_claims_of_the_dead_are_freed() -> None:
    """When a node is struck its claims are freed in the same step, and its rescuer claims them."""
    pair = Pair()
    pair.beat_both()
    pair.store.insert(rows(32, NOW, shards=16))
    pair.b.claim()
    taken = [one for one in pair.store._rows.values() if one[9]]
    assert taken
    pair.beats_of(pair.a, LEASE)
    assert all(one[9] == 0 for one in pair.store._rows.values())
    assert pair.a.tally.rescued == len(taken)
    assert pair.a.watch.heard == [("rescued", 2, len(taken))]
    assert {one[8] for one in pair.store._rows.values() if one[6]} == {1}


def test_the_claims_of_a_node_that_left_are_freed_at_once() -> None:
    """Who leaves the roll by itself is not waited for."""
    pair = Pair()
    pair.beat_both()
    pair.store.insert(rows(32, NOW, shards=16))
    pair.b.claim()
    assert any(one[9] for one in pair.store._rows.values())
    pair.b.node.keeper.leave()
    pair.go_on(BEAT)
    pair.a.beat()
    assert all(one[9] == 0 for one in pair.store._rows.values())


def test_what_cannot_have_started_counts_no_crash() -> None:
    """Of a dead node's claims only those due while it may have lived are suspected."""
    pair = Pair()
    pair.beat_both()
    soon = row(NOW + 10 * MS, 1, 0)
    later = row(NOW + 3 * MICROS - 10 * MS, 2, 0)
    pair.store.insert([soon, later])
    pair.store.claim(2 << 32 | 1, (0,), 0, NOW + 9 * MICROS, 10)
    pair.beats_of(pair.a, LEASE)
    crashes = {one[1]: (one[8], one[6]) for one in pair.store._rows.values()}
    assert crashes == {1: (1, 1), 2: (0, 0)}


def test_what_others_struck_while_we_stood_still_is_suspected() -> None:
    """A rescuer that stood still itself does not take an old sign of life for the last one."""
    pair = Pair()
    pair.beat_both()
    pair.beats_of(pair.b, 2 * LEASE)  # a stands still
    late = row(pair.b.clock.now() + 10 * MS, 1, 0)
    pair.store.insert([late])
    pair.store.claim(2 << 32 | 1, (0,), 0, late[0], 10)
    pair.go_on(LEASE)
    assert pair.store.strike(2, None)
    pair.a.beat()  # it finds that it was struck, too
    pair.a.beat()
    pair.go_on(BEAT)
    pair.a.beat()
    assert [(one[8], one[6]) for one in pair.store._rows.values()] == [(1, 1)]


def test_what_ran_when_its_process_died_is_suspected_by_the_next() -> None:
    """A process that is started anew counts a crash for what the one before it was running."""
    ticker = Ticker()
    store = MemoryStore(4, ticker)
    first = Stand(store=store, ticker=ticker, identity="first")
    first.join()
    store.insert([row(NOW)])
    first.claim()
    second = Stand(store=store, ticker=first.ticker, identity="second")
    second.ticker.go_on(MICROS)
    for _ in range(9):
        second.ticker.go_on(BEAT)
        second.beat()
    assert [one[8] for one in store._rows.values()] == [1]


def test_unknown_owners_are_freed() -> None:
    """Claims of a number that is on no roll are freed, parked events included."""
    stand = Stand()
    stand.memory._issued = 40
    stand.memory.insert([row(tail=1, claim=7 << 32 | 1), row(tail=2, shard=PARKING, name="p")])
    stand.memory.claim(7 << 32 | 2, (PARKING,), 0, NOW, 9)
    stand.beat()
    assert [one[9] for one in stand.memory._rows.values()] == [0, 0]


def test_numbers_issued_later_are_left_alone() -> None:
    """A claim of a node that joined after our beat is not taken for an orphan's."""
    stand = Stand()
    stand.memory.insert([row(claim=9 << 32 | 1)])
    stand.beat()
    assert [one[9] for one in stand.memory._rows.values()] == [9 << 32 | 1]


def test_only_ones_own_shards_are_swept() -> None:
    """Each node frees claims in its own shards: two do not get into each other's way."""
    pair = Pair()
    pair.beat_both()
    swept: list[set[int]] = []
    rescue = pair.store.rescue

    def spy(shards: Sequence[int], *rest: int) -> int:
        swept.append(set(shards) - {PARKING})
        return rescue(shards, *rest)

    replace(pair.store, rescue=spy)  # to see what is asked
    pair.store._issued = 40
    pair.store.insert([row(tail=i, shard=i, claim=7 << 32 | 1) for i in range(16)])
    for _ in range(LEASE // BEAT + 1):
        pair.go_on(BEAT)
        pair.beat_both(1)
    assert [one[9] for one in pair.store._rows.values()] == [0] * 16
    owned = [set(stand.node.keeper.shards) for stand in (pair.a, pair.b)]
    assert sorted(swept, key=min) == sorted(owned, key=min)


def test_a_struck_node_drops_what_it_holds_and_comes_back() -> None:
    """Who was held for dead lets go of everything unbegun and joins under a new number and id."""
    stand = Stand().join()
    stand.answer("k", lambda _event: None)
    stand.insert(rows(6, NOW + 20 * MS))
    stand.claim()
    assert len(stand.held()) == 6
    stand.memory.strike(1, None)
    stand.ticker.go_on(BEAT)
    stand.beat()
    assert stand.held() == []
    assert not stand.node.fence.is_open(stand.ticker.boot())
    assert stand.tally.dropped == 6
    stand.beat()
    assert stand.number == 2
    assert [member.id for member in stand.members()] == ["node-2"]
    assert [one[9] for one in stand.kept()] == [0] * 6
    stand.claim()
    assert {one[9] >> 32 for one in stand.held()} == {2}


def test_a_failed_rescue_is_tried_again() -> None:
    """When the store fails during a sweep, the next beat sweeps again."""
    stand = Stand()
    stand.memory._issued = 40
    stand.memory.insert([row(claim=7 << 32 | 1)])
    stand.plan.next("owners", Fault.REFUSED)
    stand.plan.next("rescue", Fault.LOST_AFTER)
    for _ in range(3):
        stand.beat()
        stand.ticker.go_on(BEAT)
    assert [one[9] for one in stand.kept()] == [0]
    assert len(stand.watch.errors) == 2


def test_leaving_is_the_end() -> None:
    """A keeper that left is off the roll, its fence is closed, and it beats no more."""
    stand = Stand().join()
    stand.node.keeper.leave()
    assert stand.memory._nodes == {}
    assert not stand.node.fence.is_open(stand.ticker.boot())
    assert stand.beat() is None
    assert stand.memory._nodes == {}


def test_a_store_that_is_away_does_not_keep_a_node_from_leaving() -> None:
    """Leaving never raises; the others find out by the lease."""
    stand = Stand().join()
    stand.plan.always["strike"] = Fault.REFUSED
    stand.node.keeper.leave()
    assert len(stand.watch.errors) == 1


def test_without_the_stores_time_nothing_starts() -> None:
    """A node that beats but could never read the store's clock keeps its fence closed."""
    stand = Stand()
    stand.plan.next("time", Fault.REFUSED)
    stand.beat()
    assert not stand.node.fence.is_open(stand.ticker.boot())
    stand.beat()
    assert stand.node.fence.is_open(stand.ticker.boot())


def test_a_strike_that_failed_is_tried_again() -> None:
    """When the store fails as a dead node is struck off, the next beat strikes it."""
    pair = Pair()
    pair.beat_both()
    pair.a.plan.next("strike", Fault.REFUSED, Fault.LOST_AFTER)
    pair.store.insert(rows(8, NOW, shards=16))
    pair.store.claim(2 << 32 | 1, range(16), 0, NOW, 99)
    pair.beats_of(pair.a, LEASE + 2 * BEAT)
    assert set(pair.store._nodes) == {1}
    assert {one[9] for one in pair.store._rows.values()} == {0}
