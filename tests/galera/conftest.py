"""A database of its own on a cluster in which all members are synced when a test begins."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from duetime.store_url import parse_store
from duetime.stores.mysql import MysqlStore
from tests.processes.fleet import Child, Fleet
from tests.servers.galera import MEMBERS, Galera

_serial = count(1)


class Shared:
    """One database, which every member has."""

    def __init__(self, galera: Galera) -> None:
        self.galera = galera
        self.name = f"shared_{next(_serial)}"
        galera.query(0, f"CREATE DATABASE {self.name}")

    @property
    def url(self) -> str:
        """The database by way of all members."""
        return self.by()

    def by(self, *members: int) -> str:
        """Return the URL that tries these members in this order; without any, all."""
        return self.galera.url(self.name, *members)

    def from_(self, member: int) -> str:
        """Return the URL that begins with a member and goes on with the others."""
        return self.by(*((member + step) % MEMBERS for step in range(MEMBERS)))

    def ask(self, member: int, statement: str) -> list[tuple[Any, ...]]:
        """Return what one member answers; it waits for what the others have committed."""
        found: list[tuple[Any, ...]] = self.galera.query(
            member, f"SET STATEMENT wsrep_sync_wait = 1 FOR {statement}", self.name
        )
        return found

    def rows(self, sql: str, *bindings: Any) -> list[tuple[Any, ...]]:
        """Return what SQL answers on the first member."""
        assert not bindings
        return self.ask(0, sql)

    def execute(self, sql: str, *bindings: Any) -> list[Any]:
        """Return the first column of that."""
        return [row[0] for row in self.rows(sql, *bindings)]

    def drop(self) -> None:
        """Remove it from all members."""
        self.galera.query(0, f"DROP DATABASE {self.name}")


@pytest.fixture
def cluster(galera: Galera) -> Galera:
    """Return the cluster when every member is up and synced."""
    if not all(galera.synced(number) for number in range(MEMBERS)):
        galera.heal()
    return galera


@pytest.fixture
def shared(cluster: Galera) -> Iterator[Shared]:
    """Make a database with empty tables."""
    shared = Shared(cluster)
    store = MysqlStore(shared.url)
    store.migrate()
    store.close()
    yield shared
    cluster.heal()
    shared.drop()


@pytest.fixture
def make(shared: Shared) -> Iterator[Callable[..., MysqlStore]]:
    """Return a function that opens a store by way of some members."""
    made: list[MysqlStore] = []

    def make(*members: int) -> MysqlStore:
        made.append(MysqlStore(parse_store(shared.by(*members))))
        return made[-1]

    yield make
    for store in made:
        store.close()


@pytest.fixture
def fleet(shared: Shared, tmp_path: Path) -> Iterator[Fleet]:
    """Return a fleet on the database."""
    fleet = Fleet(tmp_path, shared)
    yield fleet
    fleet.close()


@pytest.fixture
def spread(fleet: Fleet, shared: Shared) -> Callable[..., list[Child]]:
    """Return a function that starts a node on each member, one after the other."""

    def spread(*members: int, **plan: Any) -> list[Child]:
        children = []
        for member in members or range(MEMBERS):
            children.append(fleet.start(settings={"store": shared.from_(member)}, **plan))
            fleet.ready(children[-1])
        return children

    return spread
