"""How the server carries statements out: by the index, and never more rows than asked for."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from duetime.event import Row, id_of
from duetime.stores.contract import Filter, Kinds, Range, Settlement
from duetime.stores.postgres import PostgresStore
from duetime.stores.postgres.claiming import Wanted
from duetime.stores.postgres.session import Session
from duetime.testing.promises.given import NODE, SECOND, T, move, number, row
from tests.servers.local import Address
from tests.stores.postgres.conftest import PREFIX, Admin, dropped, made

COUNT, SHARDS, LIMIT = 6000, 6, 50
KEY = f"{PREFIX}events_pkey"
INDEXED = ("Index", "Tid Scan", "Bitmap", "CTE Scan", "Function Scan")
STEP = 1000  # µs between two events

# What a planner may come to believe, and how it may be set. Statistics of an empty table, of a
# full one, none at all; joins of one kind only; and a price that makes every plan look bad.
MOODS: dict[str, tuple[str, str]] = {
    "statistics of now": ("full", ""),
    "statistics of an empty table": ("empty", ""),
    "no statistics": ("none", ""),
    "nested loops only": ("full", "-c enable_hashjoin=off -c enable_mergejoin=off"),
    "nothing kept": (
        "full",
        "-c enable_material=off -c enable_hashjoin=off -c enable_mergejoin=off",
    ),
    "dear random reads": ("full", "-c random_page_cost=10 -c effective_cache_size=1MB"),
    "no loops wanted": ("full", "-c enable_nestloop=off"),
}


@pytest.fixture(scope="module", params=MOODS)
def store(
    postgresql: Address, worker_id: str, request: pytest.FixtureRequest
) -> Iterator[PostgresStore]:
    """Return a store with thousands of events, and a planner in one of its moods."""
    known, options = MOODS[request.param]
    admin = made(postgresql, f"mood_{worker_id}")
    maker = PostgresStore(admin.url)
    maker.migrate()
    for table in ("events", "names", "dead"):
        admin(f"ALTER TABLE {PREFIX}{table} SET (autovacuum_enabled = off)")
    if known == "empty":
        admin("VACUUM ANALYZE")
    for start in range(0, COUNT, 1000):
        some = range(start, start + 1000)
        maker.insert([row(T + i * STEP, shard=i % SHARDS, name=name_of(i)) for i in some])
    maker.close()
    if known == "full":
        admin("VACUUM ANALYZE")
    for option in filter(None, options.split("-c ")):
        name, _, value = option.strip().partition("=")
        admin(f"ALTER DATABASE {admin.database} SET {name} = '{value}'")
    store = PostgresStore(admin.url)
    yield store
    store.close()
    dropped(admin)


def name_of(index: int) -> str | None:
    """Name every fifth event."""
    return f"n{index}" if index % 5 == 0 else None


class Plans:
    """The plan of every statement that a store sends."""

    def __init__(self) -> None:
        self.roots: list[dict[str, Any]] = []

    def nodes(self) -> Iterator[dict[str, Any]]:
        """Return every node of every plan."""
        waiting = list(self.roots)
        while waiting:
            node = waiting.pop()
            yield node
            waiting += node.get("Plans", [])

    def scans(self) -> list[str]:
        """Return how rows of our tables are found."""
        return [
            f"{node['Node Type']} {node.get('Index Name', '')} on {node['Relation Name']}"
            for node in self.nodes()
            if node.get("Relation Name", "").startswith(PREFIX) and "Scan" in node["Node Type"]
        ]


@pytest.fixture
def watch(monkeypatch: pytest.MonkeyPatch) -> Callable[[], Any]:
    """Return a context in which each statement is explained before it is sent."""
    inner = {name: getattr(Session, name) for name in ("execute", "rows", "changed")}

    @contextmanager
    def watching() -> Iterator[Plans]:
        plans = Plans()

        def spy(name: str) -> Callable[..., Any]:
            def call(session: Session, statement: bytes, parameters: Any = ()) -> Any:
                if PREFIX.encode() in statement:
                    ((plan,),) = inner["rows"](
                        session, b"EXPLAIN (FORMAT JSON) " + statement, parameters
                    )
                    plans.roots.append(plan[0]["Plan"])
                return inner[name](session, statement, parameters)

            return call

        with monkeypatch.context() as patch:
            for name in inner:
                patch.setattr(Session, name, spy(name))
            yield plans

    return watching


def soon(store: PostgresStore, count: int) -> list[Row]:
    """Return events that nobody has claimed, with names and without."""
    return [event.row for event in store.find(Filter(due_from=T + 3 * SECOND), count)]


def mine(store: PostgresStore) -> list[Row]:
    """Claim some events, with names and without."""
    return store.claim(number(), [0, 1], T, T + 2 * SECOND, 30)


CALLS: dict[str, Callable[[PostgresStore, list[Row]], object]] = {
    "peek": lambda store, _: store.peek(range(SHARDS), T, T + 99 * STEP, LIMIT),
    "peek one": lambda store, _: store.peek([3], 0, T + SECOND, LIMIT),
    "claim": lambda store, _: store.claim(number(), [2, 3], T, T + 99 * STEP, LIMIT),
    "claim kinds": lambda store, _: store.claim(
        number(), [2, 3], T, T + 99 * STEP, LIMIT, Kinds(("mail",), ("x",))
    ),
    "claim again": lambda store, held: store.claim(held[0][9], [0, 1], T, T + 99 * STEP, LIMIT),
    "owners": lambda store, _: store.owners(range(SHARDS), T + 99 * STEP),
    "rescue": lambda store, _: store.rescue(range(SHARDS), 9, T + 99 * STEP, T),
    "settle range": lambda store, held: store.settle(
        Settlement(ranges=[Range(held[0][9], (0, 1), held[0][0], held[-1][0])])
    ),
    "settle lists": lambda store, held: store.settle(
        Settlement(done=held[:9], moves=[move(each, T + SECOND) for each in held[9:20]])
    ),
    "cancel": lambda store, _: store.cancel([id_of(each) for each in soon(store, 20)]),
    "reschedule": lambda store, _: store.reschedule(
        [(id_of(each), T + 9 * SECOND) for each in soon(store, 20)]
    ),
    "get": lambda store, _: store.get([id_of(each) for each in soon(store, 20)]),
    "insert one": lambda store, _: store.insert([row()]),
    "insert many": lambda store, _: store.insert([row(), row()]),
    "insert named": lambda store, _: store.insert([row(name="a"), row(name="b")]),
    "find": lambda store, _: store.find(Filter(), 20),
}


def test_indexes_are_used(store: PostgresStore, watch: Callable[[], Any]) -> None:
    """Whatever the planner believes, each statement of the hot path goes by an index."""
    wrong = {}
    for name, call in CALLS.items():
        held = mine(store)
        assert held
        with watch() as plans:
            call(store, held)
        assert plans.roots, name
        scans = plans.scans()
        tables = [scan for scan in scans if not scan.startswith(INDEXED)]
        if tables or not (name.startswith("insert") or any(KEY in scan for scan in scans)):
            wrong[name] = scans
    assert wrong == {}


@pytest.mark.parametrize("shards", [[3], [5, 0, 2], range(SHARDS)])
@pytest.mark.parametrize("kinds", [Kinds(), Kinds(("mail",), ("x",))])
@pytest.mark.parametrize("statement", ["claim", "claim_by_key"])
def test_a_claim_takes_no_more_than_its_limit(
    store: PostgresStore,
    monkeypatch: pytest.MonkeyPatch,
    shards: list[int],
    kinds: Kinds,
    statement: str,
) -> None:
    """Whatever the planner believes, a claim marks exactly as many rows as it was asked for."""
    monkeypatch.setitem(store._sql, "claim", store._sql[statement])
    before = store.counts(T).claimed.get("mail", 0)
    taken: set[str] = set()
    for _ in range(3):
        held = store.claim(number(), shards, T, T + 6 * SECOND, LIMIT, kinds)
        assert len(held) == LIMIT
        taken |= set(map(id_of, held))
    assert len(taken) == 3 * LIMIT
    assert store.counts(T).claimed == {"mail": before + 3 * LIMIT}
    store.rescue(shards, NODE, T + 6 * SECOND, 0)  # for the tests that come after


def read(store: PostgresStore, name: str, wanted: Wanted) -> int:
    """Carry a statement out; return how many rows of events it looked at."""
    statement = b"EXPLAIN (ANALYZE, FORMAT JSON) " + store._sql[name]
    ((answer,),) = store._database.run(lambda db: db.changed(statement, wanted._parameters))
    plans = Plans()
    plans.roots.append(answer[0]["Plan"])
    return sum(
        round((node["Actual Rows"] + node.get("Rows Removed by Filter", 0)) * node["Actual Loops"])
        for node in plans.nodes()
        if node["Node Type"] == "Index Scan"
    )


@pytest.mark.parametrize("shards", [[3], [5, 0, 2], range(SHARDS)])
def test_a_claim_reads_no_more_than_its_limit(store: PostgresStore, shards: list[int]) -> None:
    """However many events are due, in however many shards, a claim reads what it takes."""
    low = T + 4 * SECOND  # what other tests have not claimed
    wanted = Wanted(store._sql, number(), shards, low, T + 6 * SECOND, LIMIT, Kinds())
    assert read(store, "claim", wanted) == LIMIT


def test_a_claim_of_few_reads_few(store: PostgresStore) -> None:
    """What is not yet due is not read."""
    low = T + 5 * SECOND
    wanted = Wanted(store._sql, number(), range(SHARDS), low, low + 11 * STEP, 1000, Kinds())
    assert read(store, "claim", wanted) == 12


def test_a_peek_reads_no_more_than_it_may_show(store: PostgresStore) -> None:
    """A look at a backlog reads the limit of each shard, which may be all of it."""
    low = T + 4 * SECOND
    wanted = Wanted(store._sql, 0, range(SHARDS), low, T + 6 * SECOND, LIMIT, Kinds())
    assert read(store, "peek", wanted) >= SHARDS * LIMIT
    store.rescue(range(SHARDS), NODE, T + 6 * SECOND, 0)
    assert read(store, "peek", wanted) == SHARDS * LIMIT


def test_who_is_alone_pays_one_statement(bare: Admin, watch: Callable[[], Any]) -> None:
    """Each of the calls that come one by one is a single statement, without a transaction."""
    store = PostgresStore(bare.url)
    store.migrate()
    store.get(["x"])
    fresh, named = row(), row(name="order-1")
    claimed = row(T + SECOND)
    store.insert([claimed])
    with watch() as plans:
        store.insert([fresh])
        store.cancel([id_of(fresh)])
        store.insert([named])
        store.cancel(["order-1"])
        held = store.claim(number(), [0], T, T + 2 * SECOND, 10)
        store.settle(Settlement(ranges=[Range(held[0][9], (0,), T, T + 2 * SECOND)]))
    assert len(plans.roots) == 6
    store.close()
