"""What one member has committed is seen by way of all, and only those that take part are used."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pymysql
import pytest

from duetime.errors import AnswerLost, StoreUnavailable
from duetime.event import CLAIM, NAME, id_of
from duetime.stores.contract import Answer, Filter, Finding, Settlement, owner_of
from duetime.stores.mysql import MysqlStore
from duetime.testing.promises.given import SECOND, T, number, row
from tests.galera.conftest import Shared
from tests.processes.fleet import wait_until
from tests.servers.galera import MEMBERS
from tests.servers.proxy import Proxy

pytestmark = [pytest.mark.processes]

ROUNDS = 60


def findings(store: MysqlStore) -> dict[str, Finding]:
    return {finding.name: finding for finding in store.check()}


def test_a_committed_event_is_seen_by_way_of_every_member(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """Straight after an event was stored on one member, another answers about it as it is."""
    here, there = make(0), make(1)
    for n in range(ROUNDS):
        plain, named = row(T + n), row(T + n, name=f"order-{n}")
        here.insert([plain, named])
        found = there.get([id_of(plain), f"order-{n}"])
        assert [event.id for event in found if event] == [id_of(plain), f"order-{n}"]
        (again,) = there.insert([row(T + SECOND, name=f"order-{n}")])
        assert again is not None
        assert again.row[NAME] == f"order-{n}"
        assert there.reschedule([(f"order-{n}", T + n + 1)]) == [Answer.RESCHEDULED]
        assert here.cancel([id_of(plain), f"order-{n}"]) == [Answer.CANCELLED] * 2
        assert there.cancel([id_of(plain)]) == [Answer.UNKNOWN]


def test_the_same_id_from_two_members_is_one_event(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """Threads that schedule the same ids by way of two members store one row for each id."""
    stores = [make(0), make(1)]
    new = [0, 0]
    old = [0, 0]
    failed: list[Exception] = []
    lock = threading.Lock()

    def work(thread: int) -> None:
        try:
            # First all in one order, so that they meet; then from two ends, so that both win.
            for n in [*range(20), *(range(20, 40) if thread % 2 else range(39, 19, -1))]:
                (answer,) = stores[thread % 2].insert([row(T + thread, name=f"same-{n}")])
                with lock:
                    (new if answer is None else old)[thread % 2] += 1
        except Exception as error:  # noqa: BLE001 - told by the test
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(50)
    assert not failed, failed
    for member in range(MEMBERS):
        assert shared.ask(member, "SELECT COUNT(*) FROM duetime_events") == [(40,)]
        assert shared.ask(member, "SELECT COUNT(*) FROM duetime_names") == [(40,)]
    assert sum(new) == 40
    assert sum(old) == 400 - 40
    assert min(new) > 0
    assert min(old) > 0


@contextmanager
def through_a_proxy(shared: Shared, *members: int) -> Iterator[tuple[Proxy, MysqlStore]]:
    """Open a store on these members, the first of which can be taken away from it."""
    address = shared.galera.addresses[members[0]]
    with Proxy(address.host, address.port) as proxy:
        store = MysqlStore(shared.by(*members).replace(f":{address.port},", f":{proxy.port},"))
        try:
            yield proxy, store
        finally:
            store.close()


def test_a_lost_claim_is_found_by_way_of_another_member(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """A claim whose member went silent is asked for on another, which holds all of its rows."""
    make(0).insert([row(T + n, shard=n % 4) for n in range(50)])
    with through_a_proxy(shared, 0, 1) as (proxy, store):
        store.get(["-"])
        mine = number()
        proxy.lose(lambda data: b"COMMIT" in data)
        with pytest.raises(AnswerLost):
            store.claim(mine, range(4), T, T + SECOND, 100)
        proxy.__exit__(None, None, None)
        held = store.claim(mine, range(4), T, T + SECOND, 100)
        assert len(held) == 50
        assert store.settle(Settlement(done=held)).done == 50
        assert proxy.lost == 1


def test_what_was_done_before_a_move_is_seen_after_it(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """A store that goes to a member that is behind settles there what it claimed on the first."""
    with through_a_proxy(shared, 1, 2) as (proxy, store), behind(shared, 2):
        store.insert([row(T + n, shard=n % 4) for n in range(200)])
        held = store.claim(number(), range(4), T, T + SECOND, 200)
        seen = shared.galera.query(2, f"SELECT COUNT(*) FROM {shared.name}.duetime_events")
        assert seen == [(0,)], "the member was not behind: this run has shown nothing"
        proxy.__exit__(None, None, None)
        # A read that does not wait by itself.
        assert store.owners(range(4), T + SECOND) == {owner_of(held[0][CLAIM])}
        assert store.settle(Settlement(done=held)).done == 200
        assert store._database._servers.current == 1


def test_a_member_that_is_not_synced_is_left(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """A beat leaves a member that has stepped out of the group's pace, if there is another."""
    several, alone = make(0, 1), make(0)
    first = several.beat("several", 0, b"{}").number
    alone.beat("alone", 0, b"{}")
    shared.galera.query(0, "SET GLOBAL wsrep_desync = ON")
    try:
        assert shared.galera.status(0)["wsrep_local_state_comment"] == "Donor/Desynced"
        assert findings(alone)["galera_synced"].level == "warning"
        assert several.beat("several", first, b"{}").number == first
        several.insert([row()])
        port = shared.galera.addresses[1].port
        assert several._database._servers.current == 1
        assert str(port) in str(several._database.url)
        alone.insert([row(T + 1)])
    finally:
        shared.galera.query(0, "SET GLOBAL wsrep_desync = OFF")
    wait_until(lambda: shared.galera.synced(0), 10, "the member is back")
    several.beat("several", first, b"{}")
    assert several._database._servers.current == 1


def test_a_read_only_member_is_left(make: Callable[..., MysqlStore], shared: Shared) -> None:
    """A server that takes no writes is not used while another does."""
    shared.galera.query(0, "SET GLOBAL read_only = ON")
    try:
        store = make(0, 1)
        store.insert([row()])
        assert store._database._servers.current == 1
    finally:
        shared.galera.query(0, "SET GLOBAL read_only = OFF")


@contextmanager
def behind(shared: Shared, member: int, seconds: float = 0.6) -> Iterator[None]:
    """Keep a member for so long from applying what others commit."""
    address = shared.galera.addresses[member]
    blocker = pymysql.connect(host=address.host, port=address.port, user=address.user)
    blocker.cursor().execute("FLUSH TABLES WITH READ LOCK")
    timer = threading.Timer(seconds, blocker.close)
    timer.start()
    try:
        yield
    finally:
        timer.join()


ASKED: dict[str, Callable[[MysqlStore], object]] = {
    "get": lambda store: [event is None for event in store.get(["late"])] == [False],
    "find": lambda store: len(store.find(Filter(), 10)) == 1,
    "counts": lambda store: store.counts(T).scheduled == {"mail": 1},
    "reschedule": lambda store: store.reschedule([("late", T + 1)]) == [Answer.RESCHEDULED],
    "insert": lambda store: store.insert([row(name="late")]) != [None],
    "cancel": lambda store: store.cancel(["late"]) == [Answer.CANCELLED],
}


@pytest.mark.parametrize("asked", ASKED)
def test_a_member_that_lags_is_waited_for(
    make: Callable[..., MysqlStore], shared: Shared, asked: str
) -> None:
    """What asks about an event waits until the member has it, however far it is behind."""
    here, there = make(0), make(1)
    there.get(["-"])
    with behind(shared, 1):
        here.insert([row(name="late")])
        seen = shared.galera.query(1, f"SELECT COUNT(*) FROM {shared.name}.duetime_names")
        assert seen == [(0,)], "the member was not behind: this run has shown nothing"
        assert ASKED[asked](there)


def test_check_names_the_cluster(make: Callable[..., MysqlStore], shared: Shared) -> None:
    """The check tells size, state and how tables are altered, of each member named in the URL."""
    found = findings(make(0, 1, 2))
    text = found["galera_synced"].text
    assert "3" in text
    assert found["galera_synced"].level == "ok"
    assert found["galera_members"].level == "ok"
    assert found["galera_clocks"].level == "ok"
    assert found["galera_schema"].level == "ok"
    assert "wsrep_sync_wait" in found["galera_reads"].text


def test_check_warns_of_a_member_that_may_lose_commits(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """Any member that does not flush each commit is named, the first in the URL or not."""
    shared.galera.query(2, "SET GLOBAL innodb_flush_log_at_trx_commit = 0")
    try:
        found = findings(make(0, 1, 2))
        assert found["galera_flush"].level == "warning"
        assert str(shared.galera.addresses[2].port) in found["galera_flush"].text
        assert findings(make(2))["innodb_flush"].level == "warning"
    finally:
        shared.galera.query(2, "SET GLOBAL innodb_flush_log_at_trx_commit = 1")
    assert findings(make(0, 1, 2))["galera_flush"].level == "ok"


def test_check_warns_of_rolling_schema_upgrades(
    make: Callable[..., MysqlStore], shared: Shared
) -> None:
    """With wsrep_osu_method RSU a migration would alter one member alone: that is an error."""
    shared.galera.query(0, "SET GLOBAL wsrep_osu_method = RSU")
    try:
        assert findings(make(0))["galera_schema"].level == "error"
    finally:
        shared.galera.query(0, "SET GLOBAL wsrep_osu_method = TOI")


def test_without_any_member_calls_are_refused(make: Callable[..., MysqlStore]) -> None:
    """Where no server of the URL listens, a call ends within a few seconds and names them all."""
    with Proxy("127.0.0.1", 9) as one, Proxy("127.0.0.1", 9) as two:
        ports = one.port, two.port
    store = MysqlStore(f"mysql://root@127.0.0.1:{ports[0]},127.0.0.1:{ports[1]}/x")
    try:
        with pytest.raises(StoreUnavailable) as caught:
            store.get(["x"])
        assert all(str(port) in str(caught.value) for port in ports)
    finally:
        store.close()
