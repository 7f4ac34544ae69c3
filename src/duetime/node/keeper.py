"""Beats, divides the shards, and rescues what dead nodes held.

Every node raises a counter in the store each `beat`. A node is dead to an observer when its
counter has not moved for `lease` on the observer's own boot clock: no time stamps of two machines
are ever compared, so a stepping clock kills nobody. Whoever finds a node dead first strikes it off
the roll, by compare-and-set on the counter, and only then frees its claims: a node that still
beats cannot be struck, and a node that was struck learns it from its next beat and comes back
under a new number. What a node believes about shards and members is a hint; the claim column
decides who runs an event.

The live nodes divide the shards by rendezvous hashing (Thaler and Ravishankar, 1996): each shard
goes to the node with the highest hash of (node, shard) that has not yet its share, so that no one
has to be elected, all have about the same, and little moves when a node comes or goes.
"""

from __future__ import annotations

from collections.abc import Callable

from duetime.clock import MICROS, StoreClock
from duetime.config import Settings
from duetime.errors import StoreError
from duetime.event import PARKING
from duetime.node.fence import Fence
from duetime.observer import ErrorReport, Level, Observers
from duetime.stores.contract import Member, Roll, Store
from duetime.tally import Tally

__all__ = ["Keeper", "divide"]

_SHARE = 20  # a sweep may take one part in so many of the time
_SET = MICROS // 10  # a clock that moves by more (µs) from beat to beat was set
_MEASURE = 5 * MICROS  # how often the store's clock is read by itself
_LONGEST = 30 * MICROS  # between two sweeps: a call may have been slow because we stood still


class _Seen:
    """What this node knows of another: its counter and when it last moved."""

    __slots__ = ("boot", "counter", "now")

    def __init__(self, counter: int, boot: int, now: int) -> None:
        self.counter = counter
        self.boot = boot
        self.now = now


class Keeper:
    """The stage that keeps this node on the roll and the others honest."""

    wake: Callable[[], None]

    def __init__(
        self,
        store: Store,
        fence: Fence,
        clock: StoreClock,
        settings: Settings,
        observers: Observers,
        tally: Tally,
        new_id: Callable[[], str],
        info: Callable[[], bytes],
    ) -> None:
        self._store = store
        self._fence = fence
        self._clock = clock
        self._observers = observers
        self._tally = tally
        self._new_id = new_id
        self._info = info
        self._beat = int(settings.beat * MICROS)
        self._lease = int(settings.lease * MICROS)
        self._life = int((settings.lease - settings.margin) * MICROS)
        self._reach = int((settings.lead_max + settings.lease) * MICROS)
        self._seen: dict[int, _Seen] = {}
        self._looked = 0  # boot clock: when the roll was read last
        self._suspects: dict[int, int] = {}  # number → until when its events may have been running
        self._roll: Roll | None = None
        self._is_measured = False  # whether the store's clock was ever read
        self._measure_at = 0  # boot time
        self._sweep_at = 0
        self._lost_since = 0
        self.id = new_id()
        self.shards: tuple[int, ...] = ()
        self.left = False
        self.rejoined: Callable[[], None] = lambda: None  # the node drops what it held
        self.shards_changed: Callable[[], None] = lambda: None
        self.clock_set: Callable[[], None] = lambda: None  # the node wakes every stage
        self.pulse: Callable[[int, int, str], None] = lambda _sent, _number, _id: None
        self.wake = lambda: None

    def step(self, now: int) -> int | None:
        """Beat, look at the others, rescue; return when to beat again."""
        if self.left:
            return None
        if not self._raise_counter():
            return now + self._beat // 4
        now = self._clock.now()  # the first beat measures the clock: `now` was no time before
        self._look(now)
        self._bury()
        if now >= self._sweep_at:
            self._sweep(now)
        return now + self._beat

    def leave(self) -> None:
        """Take this node off the roll: the last thing it does."""
        self.left = True
        self._fence.until = 0
        try:
            self._store.strike(self._fence.number, None)
        except StoreError as error:
            self._tell(error)

    @property
    def members(self) -> list[Member]:
        """The roll as the last beat read it."""
        return self._roll.members if self._roll else []

    def _raise_counter(self) -> bool:
        sent = self._clock.boot()
        try:
            roll = self._store.beat(self.id, self._fence.number, self._info())
        except StoreError as error:
            self._tell(error)
            return False
        self._measure(roll.now, sent)
        if roll.number == 0:
            # The others held us for dead and may have freed our claims: whatever we hold and
            # have not begun is theirs. Under a new number nothing of the old life can settle.
            self._fence.until = 0
            self._fence.enter(0)
            self.rejoined()
            self.id = self._new_id()
            self.wake()
            return False
        if roll.number != self._fence.number:
            self._fence.enter(roll.number)
        if not self._is_measured:
            return False  # without the store's time nothing can be judged, nor fired
        self._fence.until = sent + self._life
        self.pulse(sent, roll.number, self.id)
        self._roll = roll
        return True

    def _measure(self, told: int, sent: int) -> None:
        """Read the store's clock by itself now and then: a beat takes a commit, and so tells it
        less exactly. But it shows a clock that was set, and then that is read at once.
        """
        boot, offset = self._clock.boot(), self._clock.offset
        fits = told - boot <= offset <= told - sent
        if self._is_measured and fits and boot < self._measure_at:
            return
        sent = boot
        try:
            now = self._store.time()
        except StoreError as error:
            self._tell(error)
        else:
            moved = self._clock.measure(now, sent, self._clock.boot())
            if self._is_measured and abs(moved) >= _SET:
                self._sweep_at = 0
                self.clock_set()
            self._is_measured = True
            self._measure_at = sent + _MEASURE

    def _look(self, now: int) -> None:
        """Note whose counters moved, and divide the shards among the living."""
        roll, boot = self._roll, self._clock.boot()
        if roll is None:
            return
        for member in roll.members:
            seen = self._seen.get(member.number)
            if seen is None or seen.counter != member.counter:
                self._seen[member.number] = _Seen(member.counter, boot, now)
        on_roll = {member.number for member in roll.members}
        # Who was struck had been silent for a lease. If we looked within it, what we saw last was
        # its last beat; if we stood still ourselves, it may have gone on for long after that.
        was_away = boot - self._looked >= self._lease
        self._looked = boot
        for number in self._seen.keys() - on_roll:
            seen = self._seen.pop(number)
            self._gone(number, now if was_away else seen.now)
        living = [m for m in roll.members if not self._is_dead(m.number, boot)]
        mine = divide([m.id for m in living], self._store.shards).get(self.id, ())
        if mine != self.shards:
            self.shards = mine
            self._sweep_at = 0
            self.shards_changed()

    def _is_dead(self, number: int, boot: int) -> bool:
        if number == self._fence.number:
            return False
        seen = self._seen.get(number)
        return seen is not None and boot - seen.boot >= self._lease

    def _bury(self) -> None:
        """Strike the dead off the roll."""
        if self._roll is None:
            return
        boot = self._clock.boot()
        for member in list(self._roll.members):
            if not self._is_dead(member.number, boot):
                continue
            seen = self._seen[member.number]
            try:
                struck = self._store.strike(member.number, seen.counter)
            except StoreError as error:
                self._tell(error)
                continue
            if struck:
                self._seen.pop(member.number)
                self._gone(member.number, seen.now)
                # The sweep of this very step must not take it for living.
                self._roll.members.remove(member)

    def _gone(self, number: int, last_seen: int) -> None:
        """Remember until when the events of a node that left may have been running."""
        self._suspects[number] = last_seen + self._beat + self._life
        self._sweep_at = 0

    def _sweep(self, now: int) -> None:
        """Free the claims of owners that are not on the roll, in this node's shards."""
        roll = self._roll
        if roll is None:
            return
        began = self._clock.boot()
        shards = (*self.shards, PARKING)
        high = now + self._reach
        living = {m.number for m in roll.members}
        try:
            for owner in sorted(self._store.owners(shards, high)):
                # A number given after our beat is not on the roll we read, and alive.
                if owner in living or owner > roll.issued:
                    continue
                suspects = self._suspects.get(owner, now)
                count = self._store.rescue(shards, owner, high, suspects)
                self._tally.rescued += count
                if count:
                    self._observers.rescued(owner, count)
                    self.shards_changed()
        except StoreError as error:
            self._tell(error)
            return
        cost = min(_LONGEST, _SHARE * (self._clock.boot() - began))
        self._sweep_at = now + max(self._lease, cost)

    def _tell(self, error: StoreError) -> None:
        self._tally.errors += 1
        self._observers.error(ErrorReport(Level.ERROR, "keeper", str(error), error=error))


def divide(ids: list[str], shards: int) -> dict[str, tuple[int, ...]]:
    """Return which shards each node owns, by rendezvous hashing with an even load.

    No node gets more than its share rounded up: with 32 shards, chance alone gave one of four
    nodes 14 and another 1. Measured from 3 to 4 nodes: the least owns 8 instead of 5.0 of them,
    and 9.5 shards move instead of 8.3.
    """
    from hashlib import blake2b  # noqa: PLC0415 - it loads OpenSSL; who only schedules needs none

    def weight(node: str) -> bytes:
        return blake2b(f"{node}/{shard}".encode(), digest_size=8).digest()

    owned: dict[str, list[int]] = {node: [] for node in ids}
    for shard in range(shards if ids else 0):
        free = [node for node in ids if len(owned[node]) * len(ids) < shards]
        owned[max(free, key=weight)].append(shard)
    return {node: tuple(mine) for node, mine in owned.items()}
