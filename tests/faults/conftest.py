"""What the tests of faults share: a database of their own, a proxy before it, or a whole server."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.faults.table import Record
from tests.processes.fleet import Fleet
from tests.processes.places import Place, ServerPlace, place_on
from tests.servers.local import KINDS, Address, LocalServer
from tests.servers.proxy import Proxy

_serial = count(1)


@pytest.fixture(params=KINDS)
def server_kind(request: pytest.FixtureRequest) -> str:
    """Name each server in turn."""
    kind: str = request.param
    return kind


@pytest.fixture
def address(server_kind: str, request: pytest.FixtureRequest) -> Address:
    """Return the address of the server that the session shares."""
    found: Address = request.getfixturevalue(server_kind)
    return found


@pytest.fixture
def fleets() -> list[Fleet]:
    """Collect what a test launches: it must have ended before its database goes."""
    return []


@pytest.fixture
def place(address: Address, fleets: list[Fleet]) -> Iterator[ServerPlace]:
    """Make a database of this test's own."""
    made = place_on(address)
    yield made
    for fleet in fleets:
        fleet.close()
    made.drop()


@pytest.fixture
def proxy(address: Address) -> Iterator[Proxy]:
    """Stand between the nodes and the server."""
    with Proxy(address.host, address.port) as made:
        yield made


@pytest.fixture
def serve(server_kind: str, own_servers: Path) -> Iterator[Callable[..., LocalServer]]:
    """Start a server that this test may kill, with the options it gives."""
    servers: list[LocalServer] = []

    def start(*options: str, environ: dict[str, str] | None = None) -> LocalServer:
        folder = own_servers / f"{server_kind}-{next(_serial)}"
        servers.append(LocalServer(server_kind, folder, options, environ))
        servers[-1].start()
        return servers[-1]

    yield start
    for server in servers:
        server.stop()
        shutil.rmtree(server.folder, ignore_errors=True)


@pytest.fixture
def launch(tmp_path: Path, fault: Record, fleets: list[Fleet]) -> Iterator[Callable[..., Fleet]]:
    """Make fleets, each in a folder of its own; they end before their database goes."""

    def make(place: Place, **settings: Any) -> Fleet:
        folder = tmp_path / str(len(fleets))
        folder.mkdir()
        fleets.append(Fleet(folder, place, **settings))
        fleets[-1].scheduler.store.migrate()
        return fleets[-1]

    yield make
    for fleet in fleets:
        fleet.close()
