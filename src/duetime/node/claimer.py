"""Claims what falls due in this node's shards, a little ahead of time.

Each step looks (one cheap read) and claims only if there is something to claim. It claims as far
ahead as `lead`, so that a cancel works until the last moment, and further only when a spike comes
that could not be claimed in time otherwise. Below `low` everything has been claimed, except what
others store there late: a sweep from the beginning of time finds that, as often as it is cheap.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from duetime.clock import MICROS, StoreClock
from duetime.config import Settings
from duetime.errors import AnswerLost, StoreError
from duetime.event import CRASHES, KIND, PARKING, Row
from duetime.node.fence import Fence
from duetime.node.judge import crashed
from duetime.node.keeper import Keeper
from duetime.node.lanes import Lane, Lanes
from duetime.node.runner import Runner
from duetime.node.settler import Settler
from duetime.node.timeline import Timeline
from duetime.observer import ErrorReport, Level, Observers
from duetime.stores.contract import Due, Kinds, Store
from duetime.tally import Tally

__all__ = ["Claimer"]

_SHARE = 20  # a sweep may take one part in so many of the time
_LONGEST = 30 * MICROS  # between two sweeps: a call may have been slow because we stood still
_SPIKE_LOOK = MICROS // 2  # how often the coming seconds are looked at
_SAMPLE = 4096  # events of one shard that such a look reads at most
_SUSPECTS = 64  # events that may have killed a node, held at once; after a second death: 1
_MANY = 1_000_000
_PUT_BACK = MICROS // 10  # a clock that shows so much less (µs) than before was put back
_GAP = MICROS // 500  # shortest time between two steps, however much room workers make
_ASIDE = MICROS // 2  # how often parked events are looked for, and suspects half as often
_GLANCE = 64  # events that one look at several slow kinds reads at most
_HELP = MICROS  # how often the shards of others are looked at
_UNSERVED = MICROS // 4  # what is so much (µs) overdue in them may be claimed by anyone
_FORGET = 0.9  # of how long a slow claim took, at each later one


class Claimer:
    """The stage that takes the sole right to run one attempt."""

    wake: Callable[[], None]

    def __init__(
        self,
        store: Store,
        keeper: Keeper,
        fence: Fence,
        lanes: Lanes,
        timeline: Timeline,
        runner: Runner,
        settler: Settler,
        clock: StoreClock,
        settings: Settings,
        observers: Observers,
        tally: Tally,
    ) -> None:
        self._store = store
        self._keeper = keeper
        self._fence = fence
        self._lanes = lanes
        self._timeline = timeline
        self._runner = runner
        self._settler = settler
        self._clock = clock
        self._observers = observers
        self._tally = tally
        self._settings = settings
        self._tick = int(settings.tick * MICROS)
        self._poll = int(settings.poll * MICROS)
        self._least_lead = self._lead = int(settings.lead * MICROS)
        self._slowness = 0.0  # how long (µs) claims take at worst, the newest ones counting most
        self._lead_max = int(settings.lead_max * MICROS)
        self._batch = settings.claim_batch
        self._numbers = count(1)  # next() is one step even with several threads
        self._turns = 0
        self._lows: dict[int, int] = {}
        self._behind: list[int] = []  # shards with more to claim than one statement takes
        self._reach = 0  # a spike is coming: claim up to this time
        self._rate = 0.05  # claims per µs, measured
        self._sweep_at = 0
        self._aside_at = 0
        self._suspects_at = 0
        self._help_at = 0
        self._spike_at = 0
        self._spike_shard = 0
        self._next_tick = 0
        self._last_step = 0
        self._unsure: list[tuple[int, tuple[int, ...], int, int, Kinds, tuple[int, int]]] = []
        self._hinted = False  # others may be stored right behind the one that was told of
        self.hungry = False  # whether a kind had more to claim than it had room for
        self.stopped = False
        self.fire: Callable[[], None] = lambda: None  # wakes the firer
        self.wake = lambda: None

    # --- what others call --------------------------------------------------------------------

    def next_number(self) -> int:
        """Return a claim number that was never used."""
        return self._fence.number << 32 | next(self._numbers)

    def hint(self, due_at: int, now: int) -> None:
        """Learn that an event was stored that may lie below what was claimed already."""
        if due_at <= now + self._lead + self._poll:
            self._sweep_at = 0
            self._hinted = True
            self.wake()

    def want(self) -> None:
        """Hear that a consumer waits for events: claim at once, not at the next tick."""
        self.hungry = True
        self.wake()

    def look_again(self) -> None:
        """Forget what was claimed: other shards, or claims that were freed."""
        self._lows = {}
        self._sweep_at = 0
        self._aside_at = 0
        self._suspects_at = 0
        self.wake()

    def hold(self, number: int, rows: list[Row]) -> None:
        """Take over rows that were claimed: expect their outcome, put them on the timeline."""
        if not rows or number >> 32 != self._fence.number:
            return  # of an earlier life of this process: the others rescue it
        self._settler.expect(number, rows)
        self._tally.claimed += len(rows)
        self._tally.claims += 1
        unknown = {kind for kind in {row[KIND] for row in rows} if self._lanes.get(kind) is None}
        if unknown:  # parked at once: until due they would take room that nothing bounds
            now = self._clock.now()
            self._runner.hand([row for row in rows if row[KIND] in unknown], now)
            rows = [row for row in rows if row[KIND] not in unknown]
        self._lanes.hold(rows)
        if self._timeline.add(rows):
            self.fire()

    # --- the step ----------------------------------------------------------------------------

    def step(self, now: int) -> int | None:
        """Claim what is due soon; return when to look again."""
        if self.stopped:
            return None
        if not self._fence.is_open(self._clock.boot()):
            return now + self._poll
        if now < self._last_step - _PUT_BACK:
            self._last_step = self._next_tick = self._spike_at = self._reach = 0
            self.look_again()
        if not self._behind and now < self._next_tick <= self._sweep_at:
            early = self._last_step + _GAP
            if not self.hungry:
                return self._next_tick
            if now < early:
                return early
        self._last_step = now
        try:
            return self._step(now)
        except StoreError as error:
            self._tally.errors += 1
            self._observers.error(ErrorReport(Level.ERROR, "claimer", str(error), error=error))
            return now + self._poll

    def _step(self, now: int) -> int:
        self._ask_again()
        self.hungry = False
        room = self._settings.max_held - self._lanes.held()
        if room <= 0:
            self.hungry = True
            return now + self._tick
        narrow = [lane for lane in self._lanes.all() if self._is_narrow(lane, now)]
        if now >= self._aside_at:
            self._claim_aside(now)
        if now >= self._help_at and not self._behind:
            self._help(now, room, narrow)
        if not self._keeper.shards:
            return now + self._poll  # there are more nodes than shards; parked events are anyone's
        if self._behind:
            self._catch_up(now, room, narrow)
            if now >= self._next_tick:
                self._next_tick = now + self._tick
                self._claim_each(narrow, now, now + self._lead)
            return now
        again = self._claim_near(now, room, narrow)
        if now >= self._spike_at:
            self._look_ahead(now, narrow)
        return now if self._behind else again

    def _claim_near(self, now: int, room: int, narrow: list[Lane]) -> int:
        """Claim what is due before now + lead; return when to look again."""
        self._next_tick = now + self._tick
        shards = self._keeper.shards
        high = now + self._lead
        sweeping = now >= self._sweep_at
        hinted, self._hinted = self._hinted, False
        low = 0 if sweeping else min((self._lows.get(s, 0) for s in shards), default=0)
        without = tuple(lane.kind for lane in narrow)
        began = self._clock.boot()
        seen = self._store.peek(shards, low, high + self._poll, self._batch, Kinds(None, without))
        if sweeping:
            cost = min(_LONGEST, _SHARE * (self._clock.boot() - began))
            self._sweep_at = self._next_tick if hinted else now + max(self._poll, cost)
        due = sum(1 for one in seen if one.due_at <= high)
        if due >= min(self._batch, room):
            self._behind = list(shards)
            if sweeping:
                self._lows = {}
        elif due:
            most = min(due + self._batch // 4, room)
            self._claim(shards, seen[0].due_at, high, most, Kinds(None, without))
        if not self._behind:
            self._lows.update((s, high + 1) for s in shards)
        self._claim_each(narrow, now, high)
        if due or self._behind or hinted:
            return self._next_tick
        soonest = seen[0].due_at - self._lead if seen else now + self._poll
        return max(self._next_tick, min(soonest, now + self._poll))

    def _catch_up(self, now: int, room: int, narrow: list[Lane]) -> None:
        """Claim from one shard that has more than one statement takes."""
        shard = self._behind[0]
        if shard not in self._keeper.shards:
            self._behind.pop(0)
            return
        high = max(now + self._lead, self._reach)
        kinds = Kinds(None, tuple(lane.kind for lane in narrow))
        limit = min(self._batch, room)
        began = self._clock.boot()
        rows = self._claim((shard,), self._lows.get(shard, 0), high, limit, kinds)
        took = max(1, self._clock.boot() - began)
        if len(rows) >= self._batch:
            self._rate += 0.3 * (len(rows) / took - self._rate)
        self._behind.pop(0)
        if len(rows) >= limit:
            self._lows[shard] = rows[-1][0]
            self._behind.append(shard)
        else:
            self._lows[shard] = high + 1

    # --- kinds that are slow, stalled or pulled -------------------------------------------------

    def _is_narrow(self, lane: Lane, now: int) -> bool:
        """Tell whether a kind is claimed on its own, and begin or end that."""
        room = lane.room(now, self._lead)
        if room >= self._batch and lane.low is None:
            return False
        if lane.low is None:
            lane.low = 0
        return True

    def _claim_each(self, narrow: list[Lane], now: int, high: int) -> None:
        """Claim as many events of each of these kinds as can start within the lead.

        One look for all of them: a node that idles asks no more, however many kinds are slow.
        """
        able = [lane for lane in narrow if lane.room(now, self._lead) > 0]
        self.hungry |= len(able) < len(narrow)
        if not able:
            return
        most = _GLANCE if len(able) > 1 else 1
        kinds = Kinds(tuple(lane.kind for lane in able))
        found = self._store.peek(self._keeper.shards, 0, high, most, kinds)
        first = {due.kind: due.due_at for due in reversed(found)}
        for lane in able:
            # Those of other kinds may have filled the look.
            least = 0 if len(found) >= most > 1 else None
            self._claim_narrow(lane, now, first.get(lane.kind, least), high)

    def _claim_narrow(self, lane: Lane, now: int, low: int | None, high: int) -> None:
        """Claim what there is of one kind from `low` on (None: nothing is there)."""
        left = self._settings.max_held - self._lanes.held()
        room = min(lane.room(now, self._lead), self._batch, left)
        if room <= 0:
            self.hungry = True
            return
        rows: list[Row] = []
        if low is not None:
            first = self._turn(self._keeper.shards)
            rows = self._claim(first, low, high, room, Kinds((lane.kind,)))
            self.hungry |= len(rows) >= room
        if len(rows) < room and lane.room(now, self._lead) >= self._batch:
            lane.low = None  # caught up and fast again: the wide claim covers it

    # --- shards of others ------------------------------------------------------------------------

    def _help(self, now: int, room: int, narrow: list[Lane]) -> None:
        """Claim what is overdue in the shards of others.

        Their node may have died a moment ago, or its claimer have stood still while another
        process beats for it. Where it is only busy, a claim is exclusive all the same.
        """
        self._help_at = now + _HELP
        mine = set(self._keeper.shards)
        others = tuple(shard for shard in range(self._store.shards) if shard not in mine)
        slow = [lane for lane in narrow if lane.room(now, self._lead) > 0]
        kinds = tuple(lane.kind for lane in self._lanes.all() if lane not in narrow)
        # Only kinds that are known here: what is not is left to those who know it.
        known = Kinds((*kinds, *(lane.kind for lane in slow)))
        high = now - _UNSERVED
        if not others or not known.only or not self._fence.is_open(self._clock.boot()):
            return
        found = self._store.peek(others, 0, high, _GLANCE, known)
        if not found:
            return
        seen, low, shards = {due.kind for due in found}, found[0].due_at, self._turn(others)
        taken: list[Row] = []
        if not seen.isdisjoint(kinds):
            taken += self._claim(shards, low, high, min(self._batch, room), Kinds(kinds))
        for lane in slow:
            if lane.kind in seen:
                most = min(lane.room(now, self._lead), self._batch)
                taken += self._claim(shards, low, high, most, Kinds((lane.kind,)))
        if taken:
            self._help_at = now  # there may be more

    def _turn(self, shards: tuple[int, ...]) -> tuple[int, ...]:
        """Return the shards, beginning with another one each time, so that none starves."""
        if not shards:
            return shards  # the keeper has just lost the last one
        self._turns += 1
        start = self._turns % len(shards)
        return shards[start:] + shards[:start]

    # --- parked events, and those that may have killed a node ------------------------------------

    def _claim_aside(self, now: int) -> None:
        began = self._clock.boot()
        shards = self._keeper.shards
        high = now + self._lead
        lanes = self._lanes.all()
        rooms = {lane.kind: lane.room(now, self._lead) for lane in lanes}
        known = Kinds(tuple(kind for kind, room in rooms.items() if room > 0))
        able = Kinds(
            None, tuple(lane.kind for lane in lanes if lane.kind not in (known.only or ()))
        )
        found = self._store.peek((PARKING,), 0, high, 1, known) if known.only else []
        if found:
            kind = found[0].kind  # one at a time: each has its own room
            self._claim((PARKING,), 0, high, min(self._batch, rooms[kind]), Kinds((kind,)))
        suspects: list[Due] = []
        if now >= self._suspects_at:
            suspects = self._store.peek((*shards, PARKING), 0, high, 1, able, (1, _MANY))
            self._suspects_at = now if suspects else now + 2 * _ASIDE
        # What is parked is left to a node that knows it: others would take and park it for ever.
        for places, kinds in ((shards, able), ((PARKING,), known)) if suspects else ():
            if self._claim_suspects(places, high, kinds):
                self._aside_at = now
                return
        if found:
            self._aside_at = now
            return
        cost = min(_LONGEST, _SHARE * (self._clock.boot() - began))
        self._aside_at = now + max(_ASIDE, cost)

    def _claim_suspects(self, shards: tuple[int, ...], high: int, kinds: Kinds) -> list[Row]:
        """Claim events that were running when a node died: a few, or a single one."""
        held = self._runner.suspects
        if not shards or kinds.only == () or held >= _SUSPECTS // 2:
            return []
        # Tried alone from the second death on, and whenever the next one would be the last.
        alone = min(2, max(1, self._settings.max_crashes - 1))
        found: list[Row] = []
        if alone > 1:
            found = self._claim(shards, 0, high, _SUSPECTS - held, kinds, (1, alone - 1))
        if not found and self._runner.suspects == 0:
            found = self._claim(shards, 0, high, 1, kinds, (alone, _MANY))
        return found

    # --- spikes ------------------------------------------------------------------------------

    def _look_ahead(self, now: int, narrow: list[Lane]) -> None:
        """Sample one shard of the coming seconds: does a spike need claiming from now on?"""
        self._spike_at = now + _SPIKE_LOOK
        shards = self._keeper.shards
        if not shards:
            return
        self._spike_shard = (self._spike_shard + 1) % len(shards)
        shard = shards[self._spike_shard]
        low = max(now + self._lead, self._lows.get(shard, 0))
        high = now + self._lead_max
        without = Kinds(None, tuple(lane.kind for lane in narrow))
        coming = self._store.peek((shard,), low, high, _SAMPLE, without)
        reach = self._must_begin(coming, now, len(shards))
        if reach > now + self._lead:
            self._reach = reach
            self._behind = [s for s in shards if self._lows.get(s, 0) <= reach]

    def _must_begin(self, coming: list[Due], now: int, shards: int) -> int:
        """Return up to when claiming has to begin now, at the rate measured; 0 if not yet."""
        reach = 0
        for index in range(0, len(coming), 16):
            due_at = coming[index].due_at
            need = int((index + 1) * shards / self._rate * 1.5) + 2 * _SPIKE_LOOK
            if (index + 1) * shards > self._batch and due_at - now <= need:
                reach = due_at
        return reach

    # --- claiming ----------------------------------------------------------------------------

    def _claim(
        self,
        shards: tuple[int, ...],
        low: int,
        high: int,
        limit: int,
        kinds: Kinds,
        crashes: tuple[int, int] = (0, 0),
    ) -> list[Row]:
        limit = min(limit, self._settings.max_held - self._lanes.held())
        if limit <= 0:
            return []
        number = self.next_number()
        if not number >> 32:
            return []  # this node has just left the roll: a number without owner is anyone's
        began = self._clock.boot()
        try:
            rows = self._store.claim(number, shards, low, high, limit, kinds, crashes)
        except AnswerLost:
            self._unsure.append((number, shards, low, high, kinds, crashes))
            raise
        finally:
            self._adapt(self._clock.boot() - began)
        self._keep(number, rows)
        return rows

    def _adapt(self, took: int) -> None:
        """Lead by as much more as claims are slow: what is claimed must arrive before it is due."""
        self._slowness = max(took, _FORGET * self._slowness)
        lead = self._least_lead + int(max(0.0, self._slowness - self._least_lead / 2))
        self._lead = min(lead, max(self._lead_max, self._least_lead))

    def _ask_again(self) -> None:
        """Read back claims whose answer was lost: their rows may be ours."""
        while self._unsure:
            number, shards, low, high, kinds, crashes = self._unsure[0]
            if number >> 32 != self._fence.number:
                self._unsure.pop(0)  # of an earlier life: the others rescue it
                continue
            rows = self._store.claim(number, shards, low, high, 1, kinds, crashes)
            self._unsure.pop(0)
            self._keep(number, rows)

    def _keep(self, number: int, rows: list[Row]) -> None:
        """Hold what was claimed; what killed its node too often is given up unheard."""
        if number >> 32 != self._fence.number:
            return  # of an earlier life of this process: the others rescue it
        if rows and any(row[CRASHES] for row in rows):
            most = self._settings.max_crashes
            self._runner.suspects += sum(1 for row in rows if row[CRASHES])
            poison = [row for row in rows if row[CRASHES] >= most]
            rows = [row for row in rows if row[CRASHES] < most]
            now = self._clock.now()
            kept = self._settings.history_kept
            self._settler.report([], [crashed(row, now, kept) for row in poison])
        self.hold(number, rows)
