"""Connections fail: what is tried again, what is told, and that nothing hangs or is doubled."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from duetime.errors import AnswerLost, LifecycleError, SchemaError, StoreUnavailable
from duetime.event import CLAIM, State, id_of
from duetime.store_url import StoreUrl
from duetime.stores.contract import Answer, Range, Settlement
from duetime.stores.mysql import MysqlStore, connection
from duetime.testing.promises.given import SECOND, T, claim_all, kept, move, number, row
from tests.forked import forked
from tests.servers.proxy import Proxy
from tests.stores.mysql.conftest import Admin

CANARY = "hunter2"


@pytest.fixture
def proxy(admin: Admin) -> Iterator[Proxy]:
    with Proxy(admin.address.host, admin.address.port) as proxy:
        yield proxy


@pytest.fixture
def far(make: Callable[..., MysqlStore], admin: Admin, proxy: Proxy) -> MysqlStore:
    """Return a store behind the proxy, connected."""
    store = make(admin.address._replace(port=proxy.port).url(admin.database))
    store.get(["-"])
    return store


def kill_all(admin: Admin) -> int:
    """Let the server end every connection but our own; return how many those were."""
    found = admin(
        "SELECT id FROM information_schema.processlist WHERE id <> CONNECTION_ID() "
        f"AND db = '{admin.database}'"
    )
    for (each,) in found:
        admin(f"KILL {each}")
    return len(found)


def test_a_server_that_closed_idle_connections_is_not_noticed(
    store: MysqlStore, admin: Admin
) -> None:
    """After the server has ended every idle connection, the next write succeeds."""
    for _ in range(3):
        fresh = row()
        assert store.insert([fresh]) == [None]
        assert kill_all(admin) >= 1
        assert store.cancel([id_of(fresh)]) == [Answer.CANCELLED]


def test_reads_survive_a_cut(far: MysqlStore, proxy: Proxy) -> None:
    """A read whose connection breaks is done again on another."""
    fresh = row()
    far.insert([fresh])
    proxy.lose(lambda data: b"SELECT due_at" in data)
    assert far.get([id_of(fresh)])[0] is not None
    assert proxy.lost == 1


WRITES: dict[str, tuple[Callable[[bytes], bool], Callable[[MysqlStore], object]]] = {
    "insert one": (
        lambda data: b"INSERT INTO" in data,
        lambda store: store.insert([row(T, tail=1)]),
    ),
    "insert named": (
        lambda data: b"COMMIT" in data,
        lambda store: store.insert([row(T, tail=2, name="n")]),
    ),
    "cancel": (
        lambda data: b"DELETE" in data,
        lambda store: store.cancel([id_of(row(T, tail=10))]),
    ),
    "reschedule": (
        lambda data: b"COMMIT" in data,
        lambda store: store.reschedule([(id_of(row(T, tail=10)), T + 9)]),
    ),
    "claim": (
        lambda data: b"COMMIT" in data,
        lambda store: store.claim(5 << 32 | 1, [0], T, T, 10),
    ),
    "settle range": (
        lambda data: b"DELETE" in data,
        lambda store: store.settle(Settlement(ranges=[Range(1, (0,), T, T)])),
    ),
    "settle list": (
        lambda data: b"COMMIT" in data,
        lambda store: store.settle(Settlement(done=[row(T, tail=11, claim=1)])),
    ),
    "beat": (lambda data: b"COMMIT" in data, lambda store: store.beat("alpha", 0, b"{}")),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_lost_answer_is_told(far: MysqlStore, proxy: Proxy, write: str) -> None:
    """When the answer to a commit is lost, the store says so and does not do it again itself."""
    far.insert([row(T, tail=10)])
    far.beat("beta", 0, b"{}")
    when, call = WRITES[write]
    proxy.lose(when)
    with pytest.raises(AnswerLost):
        call(far)
    assert proxy.lost == 1


def test_an_insert_whose_answer_was_lost_is_sent_again(far: MysqlStore, proxy: Proxy) -> None:
    """20 of 20 inserts with a lost answer are in the table once, and once after a repetition."""
    for i in range(20):
        fresh = row(T + i, name=f"n{i}" if i % 2 else None)
        proxy.lose(lambda data: b"COMMIT" in data or b"SELECT (" in data or b"SELECT 1" in data)
        with pytest.raises(AnswerLost):
            far.insert([fresh])
        assert kept(far, id_of(fresh)).row == fresh
        (again,) = far.insert([fresh])
        assert again is None or again.row == fresh
    assert far.counts(T).scheduled == {"mail": 20}
    assert proxy.lost == 20


def test_a_claim_whose_answer_was_lost_is_asked_again(far: MysqlStore, proxy: Proxy) -> None:
    """A claim asked for again returns what it holds, with one attempt."""
    far.insert([row(T + i, shard=i % 3) for i in range(9)])
    mine = number()
    proxy.lose(lambda data: b"COMMIT" in data)
    with pytest.raises(AnswerLost):
        far.claim(mine, range(3), T, T + SECOND, 100)
    held = far.claim(mine, range(3), T, T + SECOND, 100)
    assert len(held) == 9
    assert {each[CLAIM] for each in held} == {mine}
    assert {each[6] for each in held} == {1}


def test_a_lost_request_is_sent_again(far: MysqlStore, proxy: Proxy) -> None:
    """A transaction that breaks before its commit did not happen, and is done again whole."""
    far.insert([row(T + i) for i in range(4)])
    held = claim_all(far)
    proxy.lose(lambda data: b"FOR UPDATE" in data and b"SKIP" not in data)
    settled = far.settle(Settlement(done=held[:2], moves=[move(held[2], T + SECOND)]))
    assert settled == (0, 2, 1, 0)
    assert proxy.lost == 1
    assert kept(far, id_of(held[2])).state is State.SCHEDULED


def test_a_silent_server_ends_every_call(
    make: Callable[..., MysqlStore], admin: Admin, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When nothing comes from the server any more, each call ends by its time-out."""
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT", 1.0)
    monkeypatch.setattr(connection, "CONNECT_TIMEOUT", 0.5)
    far = make(admin.address._replace(port=proxy.port).url(admin.database))
    far.beat("alpha", 0, b"{}")
    far.insert([row()])
    proxy.stall()
    for call in (
        lambda: far.insert([row()]),
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


def test_a_beat_does_not_wait_for_a_dead_connection(
    make: Callable[..., MysqlStore], admin: Admin, proxy: Proxy
) -> None:
    """A beat on a connection that has gone silent ends soon, and the next one is sent anew."""
    far = make(admin.address._replace(port=proxy.port).url(admin.database))
    roll = far.beat("alpha", 0, b"{}")
    proxy.stall_all()
    began = time.monotonic()
    with pytest.raises((StoreUnavailable, AnswerLost)):
        far.beat("alpha", roll.number, b"{}")
    assert time.monotonic() - began < 4
    assert far.beat("alpha", roll.number, b"{}").number == roll.number


def test_no_server_is_told_soon(make: Callable[..., MysqlStore], proxy: Proxy) -> None:
    """Where no server listens, a call ends within a few seconds and tells the address."""
    with Proxy("127.0.0.1", 9) as other:
        port = other.port
    store = make(f"mysql://root:{CANARY}@127.0.0.1:{port}/x")
    began = time.monotonic()
    with pytest.raises(StoreUnavailable) as caught:
        store.get(["x"])
    assert time.monotonic() - began < 5
    assert f"127.0.0.1:{port}" in str(caught.value)
    assert CANARY not in str(caught.value)


def test_a_wrong_password_is_told_and_not_shown(
    make: Callable[..., MysqlStore], admin: Admin
) -> None:
    """A login that is refused is told by code, once, without the password."""
    url = f"mysql://nobody:{CANARY}@{admin.address.host}:{admin.address.port}/{admin.database}"
    with pytest.raises(StoreUnavailable) as caught:
        make(url).get(["x"])
    assert caught.value.code == "store_denied"
    shown = [str(caught.value), repr(caught.value), str(caught.value.__cause__)]
    assert [text for text in shown if CANARY in text] == []


def test_a_missing_database_is_told(make: Callable[..., MysqlStore], admin: Admin) -> None:
    """A database that is not there is told with what to do."""
    with pytest.raises(SchemaError) as caught:
        make(admin.address.url("nowhere")).get(["x"])
    assert caught.value.code == "database_missing"
    assert "duetime migrate" in str(caught.value)


@contextmanager
def taken(store: MysqlStore, count: int) -> Iterator[None]:
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


def test_beats_have_a_connection_of_their_own(
    store: MysqlStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A node can beat while every other connection is in use; other calls are told so."""
    monkeypatch.setattr(connection, "STATEMENT_TIMEOUT", 0.3)
    with taken(store, 16):
        assert store.beat("alpha", 0, b"{}").number == 1
        with pytest.raises(StoreUnavailable) as caught:
            store.get(["x"])
    assert caught.value.code == "store_busy"
    assert store.get(["x"]) == [None]


def test_after_close_calls_are_refused(store: MysqlStore) -> None:
    """After close every call is a LifecycleError, also one that would change nothing."""
    store.close()
    for call in (
        lambda: store.get(["x"]),
        lambda: store.insert([]),
        lambda: store.cancel([]),
        lambda: store.beat("a", 0, b""),
        store.time,
    ):
        with pytest.raises(LifecycleError) as caught:
            call()
        assert caught.value.code == "closed"


def test_a_forked_child_is_refused(store: MysqlStore) -> None:
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


def test_the_server_s_clock_is_used(store: MysqlStore) -> None:
    """The time is µs since 1970 UTC by the server's clock, whatever zone it is set to."""
    before = time.time_ns() // 1000
    found = store.time()
    assert before - SECOND < found < time.time_ns() // 1000 + SECOND


@pytest.fixture
def odd_user(admin: Admin) -> Iterator[str]:
    """Make a user whose name and password hold signs of every kind; give them as a URL does."""
    hosts = ("%", "localhost")
    for host in hosts:
        admin(f"DROP USER IF EXISTS 'a@b'@'{host}'")
        admin(f"CREATE USER 'a@b'@'{host}' IDENTIFIED BY 'p/w:@%?#é'")
        admin(f"GRANT SELECT ON {admin.database}.* TO 'a@b'@'{host}'")
    yield "a%40b:p%2Fw:@%25%3F#%C3%A9"
    for host in hosts:
        admin(f"DROP USER 'a@b'@'{host}'")


def test_urls_reach_the_store_whole(
    make: Callable[..., MysqlStore], admin: Admin, odd_user: str
) -> None:
    """User and password with signs of every kind are taken from the URL."""
    place = f"{admin.address.host}:{admin.address.port}/{admin.database}"
    assert make(f"mysql://{odd_user}@{place}").get(["x"]) == [None]


def test_a_socket_is_as_good(
    make: Callable[..., MysqlStore], admin: Admin, odd_user: str, own_servers: Path
) -> None:
    """A server on this machine is reached by its Unix socket, whatever host the URL names."""
    place = f"localhost:1/{admin.database}?unix_socket={admin.address.socket}"
    assert make(f"mariadb+pymysql://{odd_user}@{place}").get(["x"]) == [None]


def test_another_store_sees_another_namespace(admin: Admin, store: MysqlStore) -> None:
    """Stores with different prefixes in one database do not see each other's events."""
    other = MysqlStore(admin.url, prefix="other_", shards=8)
    try:
        other.migrate()
        assert isinstance(other._database.url, StoreUrl)
        other.insert([row(name="order-1")])
        assert store.get(["order-1"]) == [None]
        assert other.shards == 8
        assert store.shards == 32
    finally:
        other.close()
