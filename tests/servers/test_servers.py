"""Servers of the tests: they end with their session, and a missing one is not passed over."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.servers import local, plugin
from tests.servers.local import Address, MissingServerError
from tests.servers.proxy import Proxy

ROOT = Path(__file__).parents[2]


def wait_for(path: Path, *, there: bool, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if path.exists() is there:
            return
        time.sleep(0.02)
    pytest.fail(f"{path} is {'not there' if there else 'still there'} after {seconds} s")


@pytest.fixture
def folder(mariadb: Address) -> Path:
    """Return a folder beside the shared server's, which its user may reach."""
    parent = Path(mariadb.socket).parents[1] / f"own-{os.getpid()}"
    folder = parent / "server"
    for each in (parent, folder):
        each.mkdir()
        each.chmod(0o755)
    (parent / "lock").touch()
    return folder


@pytest.fixture
def session() -> Iterator[subprocess.Popen[bytes]]:
    """Return a process that stands for a test session."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        yield process
        process.kill()


@pytest.mark.parametrize(
    "kind", ["mariadb", "postgresql", pytest.param("galera", marks=pytest.mark.slow)]
)
def test_a_server_ends_when_its_session_is_killed(
    folder: Path, session: subprocess.Popen[bytes], kind: str
) -> None:
    """A server whose session died without a word is stopped, and its folder removed."""
    words = [sys.executable, "-m", "tests.servers.guardian", kind, str(folder), str(session.pid)]
    with subprocess.Popen(words, cwd=ROOT) as guardian:
        try:
            wait_for(folder / "ready", there=True)
            session.kill()
            session.wait()
            wait_for(folder.parent, there=False)
            assert guardian.wait(10) == 0
        finally:
            guardian.send_signal(signal.SIGTERM)


def test_a_session_that_is_told_to_end_leaves_nothing(mariadb: Address, tmp_path: Path) -> None:
    """A session that SIGTERM ends ends the servers that its tests have started themselves."""
    told = tmp_path / "told"
    test = tmp_path / "test_waits.py"
    test.write_text(WAITS.format(told=str(told)))
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", f"--rootdir={ROOT}"]
    with subprocess.Popen(
        [*words, "-p", "tests.servers.plugin", str(test)],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    ) as run:
        wait_for(told, there=True)
        run.terminate()
        assert run.wait(30) == pytest.ExitCode.INTERRUPTED
    pid, folder = told.read_text().split()
    assert not Path(folder).exists()
    assert not Path(f"/proc/{pid}").exists()


WAITS = """
import time
from pathlib import Path
from tests.servers.local import running

def test_waits(own_servers):
    with running("mariadb", own_servers / "mariadb") as server:
        draft = Path({told!r} + ".part")
        draft.write_text(f"{{server.pid}} {{own_servers}}")
        draft.rename({told!r})
        time.sleep(60)
"""


def test_a_missing_server_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """A server that is not installed is told with what to do."""
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(MissingServerError) as caught:
        local.program("mariadbd-of-tomorrow")
    assert "scripts/servers" in str(caught.value)
    assert "DUETIME_TEST_STORES" in str(caught.value)


def test_stores_can_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """DUETIME_TEST_STORES chooses, and a name that is none is refused."""
    monkeypatch.delenv("DUETIME_TEST_STORES", raising=False)
    assert set(plugin.wanted()) == {
        "memory",
        "sqlite",
        "mariadb",
        "postgresql",
        "galera",
    }
    monkeypatch.setenv("DUETIME_TEST_STORES", "sqlite, mariadb")
    assert plugin.wanted() == ("sqlite", "mariadb")
    monkeypatch.setenv("DUETIME_TEST_STORES", "mysql")
    assert plugin.wanted() == ("mysql",)
    monkeypatch.setenv("DUETIME_TEST_STORES", "oracle")
    with pytest.raises(pytest.UsageError):
        plugin.wanted()


def test_a_given_server_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """DUETIME_TEST_MYSQL_URL stands for a MySQL that the tests start; a bad one is refused."""
    url = "DUETIME_TEST_MYSQL_URL"
    monkeypatch.setenv(url, "mysql://ada:p%40%3A@db.example:3307/any")
    address = plugin.server_address("mysql")
    assert address[:4] == ("mysql", "db.example", 3307, "ada")
    assert address.url("x") == "mysql://ada:p%40%3A@db.example:3307/x"
    for wrong in ("postgresql://ada@db.example", "db.example", "mysql://db.example"):
        monkeypatch.setenv(url, wrong)
        with pytest.raises(pytest.UsageError):
            plugin.server_address("mysql")


def collected(path: str, **environment: str) -> str:
    """Return what pytest says when it only looks which tests there are."""
    words = [sys.executable, "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider"]
    run = subprocess.run(
        [*words, path],
        cwd=ROOT,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    return run.stdout


def test_what_a_given_server_is_spared_is_said() -> None:
    """Tests that would stop a server of their own are left out for a given one, each by name."""
    given = "mysql://ada@db.example"
    said = collected(
        "tests/stores/mysql/test_tls.py",
        DUETIME_TEST_STORES="mysql",
        DUETIME_TEST_MYSQL_URL=given,
    )
    names, told = said.split("left out, for DUETIME_TEST_MYSQL_URL is not ours to stop")
    assert "test_a_stranger_is_refused" not in names
    assert "test_a_stranger_is_refused" in told
    assert "test_certificates_that_cannot_be_read_are_told" in names
    assert "left out" not in collected(
        "tests/stores/mysql/test_tls.py",
        DUETIME_TEST_STORES="mariadb",
        DUETIME_TEST_MYSQL_URL=given,
    )


@pytest.mark.parametrize(("stores", "left_out"), [("mariadb", False), ("sqlite", True)])
def test_what_is_left_out_is_said(
    stores: str,
    left_out: bool,  # noqa: FBT001 - a parameter
) -> None:
    """Tests of a server that is not wanted are deselected in sight; others are collected."""
    said = collected("tests/stores/mysql/test_locks.py", DUETIME_TEST_STORES=stores)
    assert ("deselected" in said) is left_out
    assert ("test_a_held_row_stalls_no_claim" in said) is not left_out


def test_a_proxy_that_is_closed_lets_go(mariadb: Address) -> None:
    """After a proxy is closed nobody listens on its port."""
    with Proxy(mariadb.host, mariadb.port) as proxy:
        port = proxy.port
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), 1)
