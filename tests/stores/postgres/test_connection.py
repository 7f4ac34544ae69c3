"""Connections fail: what is tried again, what is told, and that nothing hangs or is doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest

from duetime.errors import (
    AnswerLost,
    LifecycleError,
    SchemaError,
    StoreError,
    StoreUnavailable,
)
from duetime.event import CLAIM, Row, State, id_of
from duetime.stores.contract import Answer, Death, Range, Settlement
from duetime.stores.postgres import PostgresStore, connection
from duetime.testing.promises.given import SECOND, T, claim_all, kept, move, number, row
from tests.forked import forked
from tests.servers.proxy import Proxy
from tests.stores.postgres.conftest import Admin

CANARY = "hunter2"


@pytest.fixture
def proxy(admin: Admin) -> Iterator[Proxy]:
    with Proxy(admin.address.host, admin.address.port) as proxy:
        yield proxy


@pytest.fixture
def far(make: Callable[..., PostgresStore], admin: Admin, proxy: Proxy) -> PostgresStore:
    """Return a store behind the proxy, connected."""
    store = make(admin.address._replace(port=proxy.port).url(admin.database))
    store.get(["-"])
    return store


def end_all(admin: Admin) -> int:
    """Let the server end every connection but our own; return how many those were."""
    return len(
        admin(
            "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
    )


def test_a_server_that_closed_idle_connections_is_not_noticed(
    store: PostgresStore, admin: Admin
) -> None:
    """After the server has ended every idle connection, the next write succeeds."""
    for _ in range(3):
        fresh = row()
        assert store.insert([fresh]) == [None]
        assert end_all(admin) >= 1
        assert store.cancel([id_of(fresh)]) == [Answer.CANCELLED]


def test_a_storm_of_ended_connections_loses_nothing(
    make: Callable[..., PostgresStore], admin: Admin
) -> None:
    """While connections are ended again and again, what was acknowledged stays, once."""
    store = make()
    kept_rows: list[Row] = []
    unsure = 0
    ended = threading.Event()

    def storm() -> None:
        while not ended.wait(0.01):
            end_all(admin)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        deadline = time.monotonic() + 2
        while time.monotonic() < deadline:
            fresh = row(T + len(kept_rows))
            try:
                store.insert([fresh])
            except (AnswerLost, StoreUnavailable):
                unsure += 1
            else:
                kept_rows.append(fresh)
    finally:
        ended.set()
        thread.join()
    found = store.get([id_of(each) for each in kept_rows])
    assert [event and event.row for event in found] == kept_rows
    assert kept_rows
    stored = store.counts(T).scheduled["mail"]
    assert len(kept_rows) <= stored <= len(kept_rows) + unsure


def test_reads_survive_a_cut(far: PostgresStore, proxy: Proxy) -> None:
    """A read whose connection breaks is done again on another."""
    fresh = row()
    far.insert([fresh])
    proxy.lose(lambda data: b"SELECT e.due_at" in data)
    assert far.get([id_of(fresh)])[0] is not None
    assert proxy.lost == 1


WRITES: dict[str, tuple[bytes, Callable[[PostgresStore], object]]] = {
    "insert one": (b"INSERT INTO", lambda store: store.insert([row(T, tail=1)])),
    "insert many": (b"PGCOPY", lambda store: store.insert([row(T, tail=i) for i in (1, 2)])),
    "insert named": (b"INSERT INTO", lambda store: store.insert([row(T, tail=2, name="n")])),
    "insert mixed": (
        b"COMMIT\0",
        lambda store: store.insert([row(T, tail=2, name="n"), row(T, tail=3)]),
    ),
    "cancel many": (
        b"COMMIT\0",
        lambda store: store.cancel([id_of(row(T, tail=10)), "held"]),
    ),
    "cancel": (b"DELETE", lambda store: store.cancel([id_of(row(T, tail=10))])),
    "cancel named": (b"DELETE", lambda store: store.cancel(["held"])),
    "reschedule": (b"UPDATE", lambda store: store.reschedule([(id_of(row(T, tail=10)), T + 9)])),
    "reschedule many": (b"COMMIT\0", lambda store: store.reschedule([("held", T), ("x", T)])),
    "redrive": (b"COMMIT\0", lambda store: store.redrive(["held"], T, b"{}")),
    "claim": (b"UPDATE", lambda store: store.claim(5 << 32 | 1, [0], T, T, 10)),
    "settle range": (
        b"DELETE",
        lambda store: store.settle(Settlement(ranges=[Range(1, (0,), T, T)])),
    ),
    "settle list": (
        b"DELETE",
        lambda store: store.settle(Settlement(done=[row(T, tail=11, claim=1)])),
    ),
    "settle both": (
        b"COMMIT\0",
        lambda store: store.settle(
            Settlement(done=[row(T, tail=11, claim=1)], ranges=[Range(1, (0,), T, T)])
        ),
    ),
    "join": (b"COMMIT\0", lambda store: store.beat("alpha", 0, b"{}")),
    "beat": (b"UPDATE", lambda store: store.beat("beta", 1, b"{}")),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_lost_answer_is_told(far: PostgresStore, proxy: Proxy, write: str) -> None:
    """When the answer to a commit is lost, the store says so and does not do it again itself."""
    far.insert([row(T, tail=10), row(T, tail=12, name="held")])
    assert far.beat("beta", 0, b"{}").number == 1
    word, call = WRITES[write]
    proxy.lose(lambda data: word in data)
    with pytest.raises(AnswerLost):
        call(far)
    assert proxy.lost == 1


def test_an_insert_whose_answer_was_lost_is_sent_again(far: PostgresStore, proxy: Proxy) -> None:
    """20 of 20 inserts with a lost answer are in the table once, and once after a repetition."""
    for i in range(20):
        rows = [row(T + i, tail=part, name=f"n{i}" if i % 4 == 1 else None) for part in (1, 2)]
        rows = rows[:1] if i % 2 else rows
        proxy.lose(lambda data: b"INSERT INTO" in data or b"PGCOPY" in data)
        with pytest.raises(AnswerLost):
            far.insert(rows)
        assert [kept(far, id_of(each)).row for each in rows] == rows
        again = far.insert(rows)
        assert all(each is None or each.row in rows for each in again)
    assert far.counts(T).scheduled == {"mail": 30}
    assert proxy.lost == 20


def test_a_claim_whose_answer_was_lost_is_asked_again(far: PostgresStore, proxy: Proxy) -> None:
    """A claim asked for again returns what it holds, with one attempt."""
    far.insert([row(T + i, shard=i % 3) for i in range(9)])
    mine = number()
    proxy.lose(lambda data: b"UPDATE" in data)
    with pytest.raises(AnswerLost):
        far.claim(mine, range(3), T, T + SECOND, 100)
    held = far.claim(mine, range(3), T, T + SECOND, 100)
    assert len(held) == 9
    assert {each[CLAIM] for each in held} == {mine}
    assert {each[6] for each in held} == {1}


def test_a_lost_request_is_sent_again(far: PostgresStore, proxy: Proxy) -> None:
    """A transaction that breaks before its commit did not happen, and is done again whole."""
    far.insert([row(T + i) for i in range(4)])
    held = claim_all(far)
    proxy.lose(lambda data: b"DELETE" in data)
    settled = far.settle(Settlement(done=held[:2], moves=[move(held[2], T + SECOND)]))
    assert settled == (0, 2, 1, 0)
    assert proxy.lost == 1
    assert kept(far, id_of(held[2])).state is State.SCHEDULED


def test_a_change_before_a_broken_read_is_not_denied(far: PostgresStore, proxy: Proxy) -> None:
    """When a claim was made and the read of what it holds breaks, the answer is lost."""
    far.insert([row(T, tail=1)])
    mine = number()
    assert len(far.claim(mine, [0], T, T, 10)) == 1
    far.insert([row(T, tail=2)])
    proxy.lose(lambda data: b"SELECT due_at" in data)
    with pytest.raises(AnswerLost):
        far.claim(mine, [0], T, T, 10)
    assert len(far.claim(mine, [0], T, T, 10)) == 2


def test_a_silent_server_ends_every_call(
    make: Callable[..., PostgresStore],
    admin: Admin,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """When nothing comes from the server any more, each call ends by its time-out."""
    monkeypatch.setattr(connection, "_CALL_TIMEOUT", 1.0)
    monkeypatch.setattr(connection, "_CONNECT_TIMEOUT", 1.0)
    far = make(admin.address._replace(port=proxy.port).url(admin.database))
    far.beat("alpha", 0, b"{}")
    far.insert([row()])
    proxy.stall()
    for call in (
        lambda: far.insert([row()]),
        lambda: far.insert([row(), row()]),
        lambda: far.get(["x"]),
        lambda: far.claim(number(), [0], T, T, 1),
        lambda: far.beat("alpha", 1, b"{}"),
    ):
        began = time.monotonic()
        with pytest.raises((StoreUnavailable, AnswerLost)):
            call()
        assert time.monotonic() - began < 4
    proxy.go_on()
    proxy.cut()
    assert far.insert([row()]) == [None]


def test_a_server_that_is_slow_is_stopped(
    make: Callable[..., PostgresStore], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that takes too long is stopped on the server too, and did not happen."""
    monkeypatch.setattr(connection, "_CALL_TIMEOUT", 1.0)
    store = make()
    with pytest.raises(StoreUnavailable) as caught:
        store._database.run(lambda db: db.execute(b"SELECT pg_sleep(5)"))
    assert caught.value.code == "store_slow"
    assert store.get(["x"]) == [None]


def test_no_server_is_told_soon(make: Callable[..., PostgresStore]) -> None:
    """Where no server listens, a call ends within a few seconds and tells the address."""
    with Proxy("127.0.0.1", 9) as other:
        port = other.port
    store = make(f"postgresql://me:{CANARY}@127.0.0.1:{port}/x")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        store.get(["x"])
    assert time.monotonic() - began < 5
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_login_that_is_refused_is_told(make: Callable[..., PostgresStore], admin: Admin) -> None:
    """A login that is refused is told by code, once, and its password is shown nowhere."""
    url = f"postgresql://nobody:{CANARY}@{admin.address.host}:{admin.address.port}/x"
    store = make(url)
    with pytest.raises(StoreUnavailable) as caught:
        store.get(["x"])
    assert caught.value.code == "store_denied"
    shown = [f"{each!s} {each!r}" for each in (caught.value, caught.value.__cause__, store)]
    assert [text for text in shown if CANARY in text] == []


def test_a_missing_database_is_told(make: Callable[..., PostgresStore], admin: Admin) -> None:
    """A database that is not there is told with what to do."""
    with pytest.raises(SchemaError) as caught:
        make(admin.address.url("nowhere")).get(["x"])
    assert caught.value.code == "database_missing"
    assert "duetime migrate" in str(caught.value)


def test_a_server_without_room_for_more_is_waited_for(
    make: Callable[..., PostgresStore], admin: Admin
) -> None:
    """When the server takes no more connections, a call says so; later ones succeed."""
    admin("CREATE ROLE crowd LOGIN CONNECTION LIMIT 1")
    admin("GRANT SELECT ON ALL TABLES IN SCHEMA public TO crowd")
    store = make(admin.address._replace(user="crowd").url(admin.database))
    try:
        with (
            psycopg.connect(admin.address._replace(user="crowd").url(admin.database)),
            pytest.raises(StoreUnavailable, match="too many connections"),
        ):
            store.get(["x"])
        assert store.get(["x"]) == [None]
    finally:
        store.close()
        admin("DROP OWNED BY crowd")
        admin("DROP ROLE crowd")


def test_a_server_that_takes_no_writes_is_told(
    make: Callable[..., PostgresStore], admin: Admin
) -> None:
    """A read-only server is told by code; when it takes writes again, so does the store."""
    store = make()
    admin(f"ALTER DATABASE {admin.database} SET default_transaction_read_only = on")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            store.insert([row()])
        assert caught.value.code == "store_read_only"
    finally:
        admin(f"ALTER DATABASE {admin.database} RESET default_transaction_read_only")
    assert store.insert([row()]) == [None]


def test_a_value_that_is_refused_is_told_without_it(store: PostgresStore) -> None:
    """What the server cannot keep is an error that repeats no value, and nothing is stored."""
    with pytest.raises(StoreError) as caught:
        store.insert([row(kind=f"{CANARY}\0"), row()])
    assert caught.value.code == "postgres_refused"
    assert CANARY not in str(caught.value)
    assert store.counts(T).scheduled == {}


def test_a_reason_may_hold_any_character(store: PostgresStore) -> None:
    """A death whose reason holds a zero byte is written, with a sign in its place."""
    fresh = row()
    store.insert([fresh])
    (held,) = claim_all(store)
    store.settle(Settlement(deaths=[Death(held, T, "a\0b", 1, None)]))
    assert kept(store, id_of(fresh)).reason == "a\u2400b"


@contextmanager
def taken(store: PostgresStore, count: int) -> Iterator[None]:
    """Keep so many of a store's connections in use."""
    begun = threading.Barrier(count + 1)
    end = threading.Event()

    def work(_: object) -> None:
        begun.wait(10)
        end.wait(10)

    threads = [threading.Thread(target=store._database.run, args=(work,)) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun.wait(10)
    try:
        yield
    finally:
        end.set()
        for thread in threads:
            thread.join()


def test_a_keeper_has_a_connection_of_its_own(
    store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node can beat and rescue while every other connection is in use; the rest is told so."""
    monkeypatch.setattr(connection, "_CALL_TIMEOUT", 0.5)
    with taken(store, connection._CONNECTIONS):
        assert store.beat("alpha", 0, b"{}").number == 1
        assert store.time() > T - 10**16
        assert store.owners([0], T) == set()
        assert store.rescue([0], 5, T, T) == 0
        assert store.strike(1, None)
        with pytest.raises(StoreUnavailable) as caught:
            store.get(["x"])
    assert caught.value.code == "store_busy"
    assert store.get(["x"]) == [None]


def test_idle_connections_are_used_again(store: PostgresStore, admin: Admin) -> None:
    """However many calls there are, one after another they share a connection."""
    store.get(["x"])
    before = admin("SELECT sum(sessions) FROM pg_stat_database WHERE datname = current_database()")
    for _ in range(20):
        store.insert([row()])
        store.peek([0], 0, T, 10)
    after = admin("SELECT sum(sessions) FROM pg_stat_database WHERE datname = current_database()")
    assert after == before


def test_after_close_calls_are_refused(store: PostgresStore, admin: Admin) -> None:
    """After close every call is a LifecycleError, and no connection is left."""
    store.beat("a", 0, b"")
    store.get(["x"])
    store.close()
    for call in (
        lambda: store.get(["x"]),
        lambda: store.insert([]),
        lambda: store.cancel([]),
        lambda: store.settle(Settlement()),
        lambda: store.beat("a", 0, b""),
        store.time,
        store.migrate,
        store.check,
    ):
        with pytest.raises(LifecycleError) as caught:
            call()
        assert caught.value.code == "closed"
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline and sessions(admin):
        time.sleep(0.01)
    assert sessions(admin) == 0


def sessions(admin: Admin) -> int:
    """Count the connections that stores have to this database."""
    found = admin(
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND application_name = 'duetime'"
    )
    return int(found[0][0])


def test_a_forked_child_is_refused(store: PostgresStore) -> None:
    """A forked child may not use its parent's connections, and leaves them whole."""
    fresh = row()
    store.insert([fresh])

    def child() -> int:
        try:
            store.get(["x"])
        except LifecycleError as error:
            store.close()
            return 0 if error.code == "forked" else 2
        return 1

    assert forked(child) == 0
    assert kept(store, id_of(fresh)).row == fresh


def test_the_servers_clock_is_used(store: PostgresStore) -> None:
    """The time is µs since 1970 UTC by the server's clock, whatever zone it is set to."""
    before = time.time_ns() // 1000
    found = store.time()
    assert before - SECOND < found < time.time_ns() // 1000 + SECOND


def test_urls_reach_the_store_whole(make: Callable[..., PostgresStore], admin: Admin) -> None:
    """User and password with signs of every kind are taken from the URL, over a socket too."""
    admin("CREATE ROLE \"a@b'\" LOGIN PASSWORD 'p/w:@%?#é'")
    try:
        admin('GRANT SELECT ON ALL TABLES IN SCHEMA public TO "a@b\'"')
        login = "a%40b':p%2Fw:@%25%3F#%C3%A9"
        place = f"{admin.address.host}:{admin.address.port}/{admin.database}"
        folder = Path(admin.address.socket).parent
        for url in (
            f"postgres://{login}@{place}",
            f"postgresql+psycopg://{login}@{place}?host={folder}",
        ):
            store = make(url)
            assert store.get(["x"]) == [None]
            store.close()
    finally:
        admin('DROP OWNED BY "a@b\'"')
        admin('DROP ROLE "a@b\'"')
