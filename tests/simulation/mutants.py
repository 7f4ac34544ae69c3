"""Planted bugs: each is one change of the production code, and the simulation must find it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

from duetime import inputs, intake
from duetime.clock import MICROS
from duetime.errors import AnswerLost, StoreUnavailable
from duetime.event import CLAIM, NAME, TAIL, Row
from duetime.intake import Intake
from duetime.node.claimer import Claimer
from duetime.node.firer import Firer
from duetime.node.judge import park
from duetime.node.keeper import Keeper
from duetime.node.node import Node
from duetime.node.runner import Runner
from duetime.node.settler import Settler
from duetime.node.timeline import Timeline
from duetime.retry import Backoff
from duetime.stores.contract import ALL_KINDS, Answer, Kinds, owner_of
from duetime.stores.memory import MemoryStore
from duetime.testing.faulty_store import Fault, FaultyStore

__all__ = ["MUTANTS", "Mutant"]

Patch = tuple[Any, str, Any]


class Mutant(NamedTuple):
    """One planted bug."""

    name: str
    patches: Sequence[Patch]

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Break the production code for a while."""
        with ExitStack() as stack:
            for owner, attribute, broken in self.patches:
                whole = getattr(owner, attribute)
                stack.callback(setattr, owner, attribute, whole)
                setattr(owner, attribute, broken)
            yield


MUTANTS: list[Mutant] = []


def mutant(owner: Any, attribute: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Register a function that makes the broken method from the whole one."""

    def register(make: Callable[..., Any]) -> Callable[..., Any]:
        MUTANTS.append(Mutant(make.__name__, [(owner, attribute, make(getattr(owner, attribute)))]))
        return make

    return register


# --- the store -----------------------------------------------------------------------------------


@mutant(MemoryStore, "_holds")
def no_token_check_on_finish(_whole: Any) -> Any:
    def holds(self: Any, row: Row) -> bool:
        return (row[2], row[0], row[1]) in self._rows

    return holds


@mutant(MemoryStore, "_clear")
def range_without_claim_number(_whole: Any) -> Any:
    def clear(self: Any, range_: Any) -> int:
        rows = [
            row
            for shard in range_.shards
            for row in self._between(shard, range_.low, range_.high)
            if row[CLAIM] and row[NAME] is None
        ]
        for row in rows:
            self._forget(row)
        return len(rows)

    return clear


@mutant(MemoryStore, "rescue")
def rescue_without_state_check(whole: Any) -> Any:
    def rescue(self: Any, shards: Any, number: int, high: int, suspects: int) -> int:
        owners = {owner_of(row[CLAIM]) for row in self._rows.values() if row[CLAIM]}
        return sum(whole(self, shards, owner, high, suspects) for owner in owners | {number})

    return rescue


@mutant(MemoryStore, "rescue")
def crash_counter_missing(whole: Any) -> Any:
    def rescue(self: Any, shards: Any, number: int, high: int, suspects: int) -> int:
        crashes = {place: row[8] for place, row in self._rows.items()}
        count: int = whole(self, shards, number, high, suspects)
        for place, row in self._rows.items():
            self._rows[place] = (*row[:8], crashes[place], *row[9:])
        return count

    return rescue


@mutant(MemoryStore, "rescue")
def rescue_skips_after_a_full_page(whole: Any) -> Any:
    def rescue(self: Any, shards: Any, number: int, high: int, suspects: int) -> int:
        held = [row for row in self._rows.values() if owner_of(row[CLAIM]) == number != 0]
        if len(held) <= 2:
            return int(whole(self, shards, number, high, suspects))
        for row in held[2:]:
            self._rows[(row[2], row[0], row[1])] = (*row[:9], 1, *row[10:])  # nobody looks again
        return int(whole(self, shards, number, high, suspects))

    return rescue


@mutant(MemoryStore, "_cancel")
def cancel_accepts_claimed(whole: Any) -> Any:
    def cancel(self: Any, event_id: str) -> Answer:
        answer: Answer = whole(self, event_id)
        found = self._find(event_id)
        if answer is Answer.IN_FLIGHT and found is not None:
            self._forget(found.row)
            return Answer.CANCELLED
        return answer

    return cancel


@mutant(MemoryStore, "_insert")
def insert_is_not_idempotent(whole: Any) -> Any:
    def insert(self: Any, row: Row) -> Any:
        if row[NAME] is not None and row[NAME] in self._names:
            self._put((*row[:TAIL], row[TAIL] ^ 1, *row[TAIL + 1 :]))
            return None
        return whole(self, row)

    return insert


@mutant(MemoryStore, "claim")
def attempts_counted_at_the_end(whole: Any) -> Any:
    def claim(self: Any, number: int, *arguments: Any, **more: Any) -> Any:
        claimed = []
        for row in whole(self, number, *arguments, **more):
            claimed.append((*row[:6], row[6] - 1, *row[7:]))
            self._rows[(row[2], row[0], row[1])] = claimed[-1]
        return claimed

    return claim


@mutant(MemoryStore, "claim")
def claim_ignores_its_limit(whole: Any) -> Any:
    def claim(
        self: Any,
        number: int,
        shards: Any,
        low: int,
        high: int,
        limit: int,
        kinds: Kinds = ALL_KINDS,
        crashes: tuple[int, int] = (0, 0),
    ) -> Any:
        return whole(self, number, shards, low, high, limit * 1000, kinds, crashes)

    return claim


@mutant(MemoryStore, "beat")
def node_number_reused(whole: Any) -> Any:
    def beat(self: Any, node: str, number: int, info: bytes) -> Any:
        if number == 0:
            self._issued = max(self._nodes, default=0)
        return whole(self, node, number, info)

    return beat


@mutant(FaultyStore, "_change")
def rollback_omitted(whole: Any) -> Any:
    def change(self: Any, call: str, apply: Callable[[], Any]) -> Any:
        fault = self._meet(call)
        whole_meet, self._meet = self._meet, lambda _call: fault
        try:
            if fault is Fault.REFUSED:
                apply()
                raise StoreUnavailable("the error left a half transaction behind")
            return whole(self, call, apply)
        finally:
            self._meet = whole_meet

    return change


@mutant(FaultyStore, "insert")
def sent_again_under_another_id(whole: Any) -> Any:
    def insert(self: Any, rows: Sequence[Row]) -> Any:
        try:
            return whole(self, rows)
        except AnswerLost:
            return whole(self, [(row[0], row[1] ^ 2, *row[2:]) for row in rows])

    return insert


# --- the keeper ----------------------------------------------------------------------------------


@mutant(Keeper, "_raise_counter")
def no_self_fence(whole: Any) -> Any:
    def raise_counter(self: Any) -> bool:
        beaten: bool = whole(self)
        if self._fence.until:
            self._fence.until = 1 << 62
        return beaten

    return raise_counter


@mutant(FaultyStore, "beat")
def beat_answer_ignored(whole: Any) -> Any:
    def beat(self: Any, node: str, number: int, info: bytes) -> Any:
        roll = whole(self, node, number, info)
        return roll._replace(number=number or roll.number)

    return beat


@mutant(Keeper, "_is_dead")
def lease_by_a_clock_that_steps(_whole: Any) -> Any:
    def is_dead(self: Any, number: int, _boot: int) -> bool:
        seen = self._seen.get(number)
        if number == self._fence.number or seen is None:
            return False
        return bool(self._clock.now() - seen.now >= self._lease)

    return is_dead


class _OnlySuspects:
    """A store of which only the owners are seen that this node has seen die."""

    def __init__(self, keeper: Any) -> None:
        self._keeper, self._store = keeper, keeper._store

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def owners(self, shards: Sequence[int], high: int) -> set[int]:
        return set(self._store.owners(shards, high)) & set(self._keeper._suspects)


@mutant(Keeper, "_sweep")
def orphans_by_join_to_a_deleted_row(whole: Any) -> Any:
    def sweep(self: Any, now: int) -> None:
        store = self._store
        self._store = _OnlySuspects(self)
        try:
            whole(self, now)
        finally:
            self._store = store

    return sweep


@mutant(Keeper, "__init__")
def node_id_reused(whole: Any) -> Any:
    def init(self: Any, *arguments: Any) -> None:
        *others, _new_id, info = arguments
        whole(self, *others, lambda: "the host's name", info)

    return init


@mutant(Keeper, "_look")
def first_look_before_the_clock_is_known(whole: Any) -> Any:
    def look(self: Any, now: int) -> None:
        whole(self, now if self._seen else self._clock.boot())

    return look


@mutant(Keeper, "_bury")
def freed_before_struck(_whole: Any) -> Any:
    def bury(self: Any) -> None:
        boot = self._clock.boot()
        for member in list(self._roll.members if self._roll else []):
            if self._is_dead(member.number, boot - self._lease // 2):
                self._roll.members.remove(member)
                self._gone(member.number, self._seen[member.number].now)
            elif self._is_dead(member.number, boot):
                self._store.strike(member.number, member.counter)

    return bury


@mutant(Node, "stop")
def beats_stop_first(whole: Any) -> Any:
    def stop(self: Any, grace: float | None = None) -> None:
        self.keeper.left = True
        whole(self, grace)

    return stop


# --- from claim to settlement --------------------------------------------------------------------


@mutant(Firer, "step")
def fired_a_little_early(whole: Any) -> Any:
    def step(self: Any, now: int) -> int | None:
        again: int | None = whole(self, now + 3000)
        return None if again is None else again - 3000

    return step


@mutant(Runner, "_each")
def batch_aborted_by_one_bad_event(whole: Any) -> Any:
    def each(self: Any, events: list[Any], result: Any) -> Any:
        outcomes = whole(self, events, result)
        bad = [one for one in outcomes if isinstance(one, BaseException)]
        return bad[:1] * len(events) if bad else outcomes

    return each


@mutant(Runner, "_park")
def unknown_kind_discarded(_whole: Any) -> Any:
    def discard(self: Any, _kind: str, rows: list[Row]) -> None:
        self._settler.report(rows, [])

    return discard


@mutant(Runner, "_park")
def unknown_kind_counted_as_failure(_whole: Any) -> Any:
    def fail(self: Any, _kind: str, rows: list[Row]) -> None:
        moves = [park(row)._replace(failures=row[7] + 1, attempt=row[6]) for row in rows]
        self._settler.report([], list(moves))

    return fail


@mutant(Claimer, "_ask_again")
def lost_claim_is_forgotten(_whole: Any) -> Any:
    def forget(self: Any) -> None:
        self._unsure.clear()

    return forget


@mutant(Claimer, "_claim_suspects")
def parked_suspects_claimed_by_strangers(whole: Any) -> Any:
    def claim(self: Any, shards: Any, high: int, _kinds: Kinds) -> Any:
        return whole(self, shards, high, Kinds())

    return claim


@mutant(Claimer, "_claim_aside")
def nothing_parked_without_shards(whole: Any) -> Any:
    def aside(self: Any, now: int) -> None:
        if self._keeper.shards:
            whole(self, now)

    return aside


@mutant(Node, "disown")
def insert_without_answer_keeps_its_claim(_whole: Any) -> Any:
    return lambda _self, _rows: None


@mutant(Node, "hold")
def stored_during_a_stop_and_kept(_whole: Any) -> Any:
    def hold(self: Any, number: int, rows: list[Row]) -> None:
        self.claimer.hold(number, sorted(rows))

    return hold


@mutant(Node, "storing")
def stop_does_not_wait_for_inserts(_whole: Any) -> Any:
    return lambda _self, _change: None


@mutant(Claimer, "next_number")
def claims_without_a_node_number(_whole: Any) -> Any:
    return lambda self: next(self._numbers)


@mutant(Runner, "_report")
def next_suspect_before_the_last_is_written(whole: Any) -> Any:
    def report(self: Any, lane: Any, done: list[Row], others: list[Any], dropped: Any) -> None:
        self.suspects_gone([*done, *(row for row, _ in others)])
        whole(self, lane, done, others, dropped)

    return report


@mutant(intake, "_is")
def own_name_taken_for_another(_whole: Any) -> Any:
    return lambda _found, _row: False


@mutant(Intake, "_send")
def refusal_hides_a_lost_answer(_whole: Any) -> Any:
    def send(self: Any, write: Callable[[], Any]) -> Any:
        lost = None
        for _ in range(4):
            try:
                return write(), lost
            except AnswerLost as error:
                lost = error
        assert lost is not None
        raise lost

    return send


@mutant(inputs, "due")
def due_floored_to_seconds(whole: Any) -> Any:
    return lambda *arguments: whole(*arguments) // MICROS * MICROS


@mutant(Settler, "_ripe")
def claim_settled_before_its_last_row(whole: Any) -> Any:
    def ripe(self: Any, touched: set[int], now: int, single: list[Row], *, flush: bool) -> Any:
        for number in touched:
            batch = self._batches.get(number)
            if batch is not None and batch.open == 1 and len(batch.done) > 1:
                batch.open = 0
        return whole(self, touched, now, single, flush=flush)

    return ripe


@mutant(Settler, "forget")
def ranges_of_an_earlier_life(_whole: Any) -> Any:
    return lambda _self: None


@mutant(Backoff, "exhausted")
def retried_for_ever(_whole: Any) -> Any:
    return lambda _self, _failures: False


@mutant(Timeline, "clear")
def dropped_rows_are_kept(whole: Any) -> Any:
    def clear(self: Any) -> list[Row]:
        rows: list[Row] = whole(self)
        self.add(rows)
        return rows

    return clear
