"""SQLite against the reference model: the same calls, the same answers, the same contents."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from duetime.event import PARKING, Event, Row, State, id_of
from duetime.stores.contract import Death, Filter, Kinds, Move, Range, Roll, Settlement, Store
from duetime.stores.memory import MemoryStore
from duetime.stores.sqlite import SqliteStore

T = 1_800_000_000_000_000
SHARDS = 3

# Small domains, so that calls meet: five instants, three shards, three names, two nodes.
instants = st.integers(T, T + 4)
shards = st.lists(st.integers(PARKING, SHARDS - 1), min_size=1, max_size=4, unique=True)
names = st.sampled_from([None, None, "a", "b", "A"])
kinds = st.sampled_from(
    [Kinds(), Kinds(), Kinds(only=("x",)), Kinds(without=("x",)), Kinds(("x", "y"), ("y",))]
)
picks = st.lists(st.integers(0, 40), max_size=3)
nodes = st.integers(1, 2)

Call = tuple[str, dict[str, Any]]


def call(name: str, **arguments: st.SearchStrategy[Any]) -> st.SearchStrategy[Call]:
    return st.tuples(st.just(name), st.fixed_dictionaries(arguments))


CALLS = st.one_of(
    call(
        "insert",
        rows=st.lists(
            st.tuples(instants, st.integers(0, SHARDS - 1), names, st.sampled_from("xy")),
            max_size=4,
        ),
        born_claimed=st.booleans(),
    ),
    call("insert_again", picks=picks),
    call("cancel", picks=picks),
    call("reschedule", picks=picks, due_at=instants),
    call("redrive", picks=picks, due_at=instants),
    call(
        "claim",
        node=nodes,
        again=st.booleans(),
        shards=shards,
        low=instants,
        limit=st.integers(0, 5),
        kinds=kinds,
        crashes=st.sampled_from([(0, 0), (0, 0), (0, 9), (1, 2)]),
    ),
    call(
        "settle",
        ranges=st.lists(st.tuples(st.integers(0, 40), shards, instants), max_size=2),
        done=picks,
        moves=st.lists(
            st.tuples(st.integers(0, 40), instants, st.integers(PARKING, SHARDS - 1)), max_size=2
        ),
        deaths=picks,
    ),
    call("peek", shards=shards, low=instants, limit=st.integers(0, 4), kinds=kinds),
    call("owners", shards=shards, high=instants),
    call("rescue", shards=shards, node=nodes, high=instants, suspects=instants),
    call("beat", node=st.sampled_from(["alpha", "beta"]), number=st.integers(0, 3)),
    call("strike", number=st.integers(0, 3), counter=st.sampled_from([None, 1, 2])),
    call("page", size=st.integers(1, 3), state=st.sampled_from([None, *State])),
)


class Script:
    """Turns drawn calls into real ones, from what earlier calls have brought about."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.held: list[Row] = []
        self.claims: list[int] = []
        self.ticks = 0

    def next(self, name: str, drawn: dict[str, Any]) -> Callable[[Store], Any]:
        """Return the call as a function of the store."""
        made: Callable[[Store], Any] = getattr(self, f"_{name}")(**drawn)
        return made

    def _picked(self, among: list[Row], picks: list[int]) -> list[Row]:
        return [among[pick % len(among)] for pick in picks] if among else []

    def _ids(self, picks: list[int]) -> list[str]:
        return [id_of(row) for row in self._picked(self.rows, picks)]

    def _number(self, node: int) -> int:
        self.ticks += 1
        return node << 32 | self.ticks

    def _insert(self, *, rows: list[tuple[Any, ...]], born_claimed: bool) -> Callable[[Store], Any]:
        claim = self._number(1) if born_claimed else 0
        fresh: list[Row] = [
            (
                at,
                len(self.rows) + i,
                shard,
                name,
                kind,
                b"1",
                int(born_claimed),
                0,
                0,
                claim,
                T,
                None,
            )
            for i, (at, shard, name, kind) in enumerate(rows)
        ]
        self.rows += fresh
        self.held += fresh if born_claimed else []
        return lambda store: store.insert(fresh)

    def _insert_again(self, picks: list[int]) -> Callable[[Store], Any]:
        rows = self._picked(self.rows, picks)
        return lambda store: store.insert(rows)

    def _cancel(self, picks: list[int]) -> Callable[[Store], Any]:
        ids = self._ids(picks)
        return lambda store: store.cancel(ids)

    def _reschedule(self, picks: list[int], due_at: int) -> Callable[[Store], Any]:
        moves = [(event_id, due_at) for event_id in self._ids(picks)]
        return lambda store: store.reschedule(moves)

    def _redrive(self, picks: list[int], due_at: int) -> Callable[[Store], Any]:
        ids = self._ids(picks)
        return lambda store: store.redrive(ids, due_at, b'{"outcome":"redriven"}')

    def _claim(self, *, node: int, again: bool, low: int, **rest: Any) -> Callable[[Store], Any]:
        number = self.claims[-1] if again and self.claims else self._number(node)
        self.claims.append(number)
        return lambda store: store.claim(number, low=low, high=T + 3, **rest)

    def _settle(
        self,
        ranges: list[tuple[int, list[int], int]],
        done: list[int],
        moves: list[tuple[int, int, int]],
        deaths: list[int],
    ) -> Callable[[Store], Any]:
        held = self._picked(self.held, [pick for pick, _, _ in ranges])
        moved = self._picked(self.held, [pick for pick, _, _ in moves])
        settlement = Settlement(
            ranges=[
                Range(row[9], tuple(among), low, T + 3)
                for row, (_, among, low) in zip(held, ranges, strict=False)
            ],
            done=self._picked(self.held, done),
            moves=[
                Move(row, shard, due_at, b"2", row[6], row[7] + 1, row[8], b"[1]")
                for row, (_, due_at, shard) in zip(moved, moves, strict=False)
            ],
            deaths=[
                Death(row, T + i, "no", row[7], None)
                for i, row in enumerate(self._picked(self.held, deaths))
            ],
        )
        return lambda store: store.settle(settlement)

    def _peek(self, low: int, **rest: Any) -> Callable[[Store], Any]:
        return lambda store: [due.due_at for due in store.peek(low=low, high=T + 9, **rest)]

    def _owners(self, **arguments: Any) -> Callable[[Store], Any]:
        return lambda store: store.owners(**arguments)

    def _rescue(self, node: int, **rest: Any) -> Callable[[Store], Any]:
        return lambda store: store.rescue(number=node, **rest)

    def _beat(self, node: str, number: int) -> Callable[[Store], Any]:
        return lambda store: store.beat(node, number, b"{}")

    def _strike(self, **arguments: Any) -> Callable[[Store], Any]:
        return lambda store: store.strike(**arguments)

    def _page(self, size: int, state: State | None) -> Callable[[Store], Any]:
        def both(store: Store) -> list[Event]:
            first = store.find(Filter(state=state), size)
            return first + (store.find(Filter(state=state), size, first[-1]) if first else [])

        return both


def visible(answer: Any) -> Any:
    """Return an answer in a form that compares; the store's clock is its own."""
    if isinstance(answer, Event):
        fields = (answer.row, answer.state, answer.created, answer.died_at, answer.reason)
        return tuple(fields)
    if isinstance(answer, Roll):
        return answer._replace(now=0)
    if isinstance(answer, list):
        return [visible(part) for part in answer]
    return answer


def contents(store: Store) -> Any:
    """Return everything that a store shows."""
    found = [*store.find(Filter(), 1000), *store.find(Filter(state=State.DEAD), 1000)]
    return visible([*found, store.counts(T + 2), store.get([event.id for event in found])])


@contextmanager
def sqlite(library: str) -> Iterator[SqliteStore]:
    with tempfile.TemporaryDirectory() as directory:
        path = str(Path(directory) / "x.db")
        store = SqliteStore(path, library=library, shards=SHARDS, synchronous="NORMAL")
        store.migrate()
        yield store
        store.close()


@pytest.mark.parametrize("library", ["apsw", "sqlite3"])
@settings(max_examples=100, deadline=None)
@given(calls=st.lists(CALLS, min_size=5, max_size=40))
def test_the_same_calls_give_the_same_answers(library: str, calls: list[Call]) -> None:
    """Any sequence of calls shows the same on SQLite as on the reference model."""
    model, script = MemoryStore(SHARDS), Script()
    with sqlite(library) as store:
        for name, drawn in calls:
            make = script.next(name, drawn)
            expected = make(model)
            assert visible(make(store)) == visible(expected), (name, drawn)
            assert contents(store) == contents(model), (name, drawn)
            if name == "claim":
                script.held += expected
