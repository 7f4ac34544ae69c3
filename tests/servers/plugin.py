"""Gives tests real servers: started once per session, beside the first tests, ended with it.

A test that names the fixture `mariadb`, `mysql` or `postgresql` gets the address. A server that is
missing fails such tests; DUETIME_TEST_STORES=memory,sqlite leaves them out, and pytest says so.
MySQL is tested where DUETIME_TEST_STORES names it. DUETIME_TEST_MYSQL_URL is the address of a
server to be used instead; what would kill or restart it is then left out, each test by name.
"""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest

from tests.servers.galera import Galera
from tests.servers.local import KINDS, Address

__all__ = ["galera", "mariadb", "mysql", "own_servers", "postgresql", "server_address", "wanted"]

_FOLDER, _OWNER = "DUETIME_TEST_SERVERS", "DUETIME_TEST_OWNER"
_STORES, _GIVEN = "DUETIME_TEST_STORES", "DUETIME_TEST_MYSQL_URL"
_DEFAULT = ("memory", "sqlite", "mariadb", "postgresql", "galera")
_ALL = (*_DEFAULT, "mysql")
_WAIT = 90.0  # s for a server to start, on a machine that does much else
_ROOT = Path(__file__).parents[2]
_FIXTURES = {*KINDS, "galera"}


def wanted() -> tuple[str, ...]:
    """Return the stores that are to be tested."""
    names = os.environ.get(_STORES, "").replace(" ", "")
    chosen = tuple(names.split(",")) if names else _DEFAULT
    if unknown := set(chosen) - set(_ALL):
        raise pytest.UsageError(f"{_STORES} names {', '.join(unknown)}; known: {', '.join(_ALL)}")
    return chosen


def pytest_configure(config: pytest.Config) -> None:
    """Choose the folder that all workers of this session share."""
    wanted()
    # A session that is asked to end tidies up as after Ctrl-C: tests have servers of their own.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    if hasattr(config, "workerinput") or _FOLDER in os.environ:
        return
    folder = Path(tempfile.gettempdir()) / f"duetime-servers-{os.getpid()}-{os.urandom(4).hex()}"
    os.environ[_FOLDER] = str(folder)
    os.environ[_OWNER] = str(os.getpid())
    config.add_cleanup(lambda: _end_all(folder))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out the tests of servers that are not wanted, or that are not ours to end."""
    out = _FIXTURES - set(wanted())
    left = {item for item in items if out & _servers_of(item)}
    foreign = {item for item in items if item not in left and _is_ours_alone(item)}
    _left_out(config).extend(item.nodeid for item in items if item in foreign)
    if left | foreign:
        config.hook.pytest_deselected(items=[*left, *foreign])
        items[:] = [item for item in items if item not in left | foreign]


def _servers_of(item: pytest.Item) -> set[str]:
    """Return the kinds of servers that a test needs, by fixture or parameter."""
    given = getattr(item, "callspec", None)
    values = given.params.values() if given else ()
    return _FIXTURES & {*getattr(item, "fixturenames", ()), *filter(_is_text, values)}


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_ours_alone(item: pytest.Item) -> bool:
    """Tell whether a test starts a MySQL of its own, which a given server stands for."""
    starts = "own_servers" in getattr(item, "fixturenames", ())
    return bool(os.environ.get(_GIVEN)) and starts and "mysql" in _servers_of(item)


_KEY = pytest.StashKey[list[str]]()


def _left_out(config: pytest.Config) -> list[str]:
    return config.stash.setdefault(_KEY, [])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Let a worker tell the session what it has left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["left_out"] = _left_out(session.config)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Hear from a worker what it has left out; all leave out the same."""
    told = getattr(node, "workeroutput", {}).get("left_out", [])
    _left_out(node.config)[:] = told


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    """Name what a given server was spared."""
    if names := _left_out(config):
        terminalreporter.section(f"left out, for {_GIVEN} is not ours to stop", red=True)
        for name in names:
            terminalreporter.write_line(name)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Start what will be needed, beside the tests that come first."""
    if session.config.option.collectonly:
        return
    needed = set().union(*map(_servers_of, session.items)) if session.items else set()
    for kind in KINDS:
        if kind in needed and not (kind == "mysql" and os.environ.get(_GIVEN)):
            _begin(kind)


@pytest.fixture(scope="session")
def mariadb() -> Address:
    """Return the address of a MariaDB server that all tests of this session share."""
    return server_address("mariadb")


@pytest.fixture(scope="session")
def mysql() -> Address:
    """Return the address of a MySQL server that all tests of this session share."""
    return server_address("mysql")


@pytest.fixture(scope="session")
def postgresql() -> Address:
    """Return the address of a PostgreSQL server that all tests of this session share."""
    return server_address("postgresql")


@pytest.fixture(scope="session")
def galera() -> Galera:
    """Return a Galera cluster of three members: begun by the first test that asks for it."""
    return Galera(**_told("galera"))


@pytest.fixture(scope="module")
def own_servers() -> Iterator[Path]:
    """Return a folder for servers of the test's own, which their users may reach."""
    folder = Path(tempfile.mkdtemp(prefix="duetime-own-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


def _begin(kind: str) -> Path:
    """Start a guardian for a server, unless there is one; return its folder."""
    folder = Path(os.environ[_FOLDER])
    place = folder / kind
    folder.mkdir(exist_ok=True)
    with _alone(folder):
        if not place.exists():
            folder.chmod(0o755)  # the servers run as users of their own
            place.mkdir()
            place.chmod(0o755)
            words = [sys.executable, "-m", "tests.servers.guardian", kind, str(place)]
            words.append(os.environ[_OWNER])
            log = os.open(place / "log", os.O_CREAT | os.O_WRONLY, 0o644)
            pid = os.posix_spawn(
                words[0],
                words,
                {**os.environ, "PYTHONPATH": str(_ROOT)},
                file_actions=[(os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)],
                setsid=True,
            )
            os.close(log)
            (place.parent / f"{kind}.pid").write_text(str(pid))
    return place


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Let one worker at a time pass."""
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def server_address(kind: str) -> Address:
    """Return where the shared server of a kind listens; wait until it does."""
    if kind == "mysql" and (given := os.environ.get(_GIVEN)):
        return _given(given)
    return Address(**_told(kind))


def _told(kind: str) -> dict[str, Any]:
    """Return what a guardian tells of its server; wait until it does."""
    place = _begin(kind)
    deadline = time.monotonic() + _WAIT
    while time.monotonic() < deadline:
        if (place / "ready").exists():
            told: dict[str, Any] = json.loads((place / "ready").read_text())
            return told
        if (place / "failed").exists():
            pytest.fail((place / "failed").read_text(), pytrace=False)
        time.sleep(0.02)
    log = (place / "log").read_text(errors="replace") if place.exists() else "its folder is gone"
    pytest.fail(f"{kind} did not start within {_WAIT:g} s: {log[-2000:]}", pytrace=False)


def _given(url: str) -> Address:
    """Take an address apart; the name of a database in it is not used."""
    parts = urlsplit(url)
    if parts.scheme not in ("mysql", "mariadb") or not (parts.hostname and parts.username):
        raise pytest.UsageError(f"{_GIVEN} must be mysql://user:password@host:port")
    login = map(unquote, (parts.username, parts.password or ""))
    user, password = login
    return Address("mysql", parts.hostname, parts.port or 3306, user, "", password)


def _end_all(folder: Path) -> None:
    """Ask each guardian to stop its server, see it go, and clean up."""
    pids = [int(path.read_text()) for path in folder.glob("*.pid")]
    for pid in pids:
        _signal(pid, signal.SIGTERM)
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline and any(map(_lives, pids)):
        time.sleep(0.02)
    for pid in filter(_lives, pids):
        _signal(pid, signal.SIGKILL)
    shutil.rmtree(folder, ignore_errors=True)
    for name in (_FOLDER, _OWNER):
        os.environ.pop(name, None)


def _signal(pid: int, which: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, which)


def _lives(pid: int) -> bool:
    """Tell whether a process runs; one that has ended may wait as a zombie for its parent."""
    with suppress(ChildProcessError):
        os.waitpid(pid, os.WNOHANG)
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"
