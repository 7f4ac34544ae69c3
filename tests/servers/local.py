"""Starts a database server of its own: a free port, a temporary folder, a user of its own.

Durability is the default one, so that what a test sees is what users get. Everything else that a
store must not depend on (character set, SQL mode, time zone) is set to something unusual.
"""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

__all__ = ["KINDS", "LocalServer", "MissingServerError", "running"]

KINDS = ("mariadb", "postgresql", "mysql")
_ROOT = Path(__file__).parents[2]
_PLACES = ["/usr/sbin", "/usr/local/sbin", "/usr/bin", "/usr/local/bin"]
_TRIES = 3  # another process may take the port between choosing and using it
_START, _STOP = 60.0, 20.0  # s


class MissingServerError(Exception):
    """A program that a test needs is not on this machine."""


class Address(NamedTuple):
    """Where a server listens."""

    kind: str
    host: str
    port: int
    user: str
    socket: str
    password: str = ""

    def url(self, database: str) -> str:
        """Return the URL of a database for a store."""
        scheme = {"mariadb": "mysql"}.get(self.kind, self.kind)
        login = ":".join(quote(part, safe="") for part in (self.user, self.password) if part)
        return f"{scheme}://{login}@{self.host}:{self.port}/{database}"


def program(name: str) -> str:
    """Return the path of a server's program, the newest version of it. Raises if it is missing."""
    versions = sorted(
        Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name)
    )
    places = [str(path) for path in reversed(versions)] + _PLACES
    found = shutil.which(name, path=os.pathsep.join(places)) or shutil.which(name)
    if found is None:
        raise MissingServerError(
            f"{name} is not installed: run scripts/servers as root, install MariaDB and "
            "PostgreSQL yourself, or say with DUETIME_TEST_STORES=memory,sqlite that they are "
            "not to be tested."
        )
    return found


def mysqld() -> str:
    """Return the path of what starts MySQL. Raises if it was not fetched."""
    words = [str(_ROOT / "scripts" / "mysql"), "--where"]
    found = subprocess.run(words, capture_output=True, check=True, text=True).stdout.strip()
    if not (path := Path(found) / "mysqld").exists():
        raise MissingServerError(
            "MySQL is not there: run scripts/mysql, or give a server's address with "
            "DUETIME_TEST_MYSQL_URL=mysql://user:password@host:port."
        )
    return str(path)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port


class LocalServer:
    """One server; `start`, `stop`, `kill` and `start` again find the same data and port."""

    def __init__(
        self,
        kind: str,
        folder: Path,
        options: tuple[str, ...] = (),
        environ: Mapping[str, str] | None = None,
    ) -> None:
        """`environ` is added to the environment of the server alone."""
        self.kind = kind
        self._environ = environ or {}
        self.folder = folder
        self.port = 0
        self._options = options
        self._user = self._own_user()
        self._process: subprocess.Popen[bytes] | None = None

    def _own_user(self) -> str | None:
        """Return the user that root starts the server as; others start it as themselves."""
        if os.geteuid() != 0:
            return None
        wanted = "postgres" if self.kind == "postgresql" else "mysql"
        try:
            return pwd.getpwnam(wanted).pw_name
        except KeyError:
            return "nobody"

    @property
    def address(self) -> Address:
        user = "postgres" if self.kind == "postgresql" else "root"
        return Address(self.kind, "127.0.0.1", self.port, user, str(self._socket))

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def _socket(self) -> Path:
        if self.kind == "postgresql":
            return self.folder / f".s.PGSQL.{self.port}"
        return self.folder / "server.sock"

    def start(self) -> None:
        """Make the data folder if there is none, start, and wait until it answers."""
        if not (self.folder / "data").exists():
            self._make()
        for tries in range(_TRIES):
            self.port = self.port or free_port()
            self._launch()
            if self._answers():
                return
            self.stop()
            if tries < _TRIES - 1:
                self.port = 0
        raise RuntimeError(f"{self.kind} did not start:\n{self.log()[-4000:]}")

    def log(self) -> str:
        """Return what the server has written."""
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def kill(self) -> None:
        """End it as a crash would."""
        self._end(signal.SIGKILL)

    def crash(self) -> None:
        """End it and all its processes without a last write; it recovers at its next start."""
        self._end(signal.SIGKILL if self.kind == "mariadb" else signal.SIGQUIT)

    def stop(self) -> None:
        """End it in order, or by force when that takes too long."""
        self._end(signal.SIGINT if self.kind == "postgresql" else signal.SIGTERM)

    def _end(self, how: signal.Signals) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.send_signal(how)
        try:
            process.wait(_STOP)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _make(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        (self.folder / "tmp").mkdir(exist_ok=True)
        if self._user is not None:
            for path in (self.folder, self.folder / "tmp"):
                shutil.chown(path, self._user)
        data = str(self.folder / "data")
        if self.kind == "mariadb":
            command = [
                *(program("mariadb-install-db"), "--no-defaults", f"--datadir={data}"),
                *("--auth-root-authentication-method=normal", "--skip-test-db"),
                *("--skip-name-resolve", f"--tmpdir={self.folder / 'tmp'}"),
            ]
            command += [f"--user={self._user}"] if self._user else []
            self._run(command, as_user=False)
        elif self.kind == "mysql":
            # Its own root may come by the socket alone. Each statement stands on one line.
            (self.folder / "users.sql").write_text(
                "CREATE USER root@'%';\nGRANT ALL ON *.* TO root@'%' WITH GRANT OPTION;\n"
            )
            command = [mysqld(), "--initialize-insecure", f"--datadir={data}"]
            command += [f"--init-file={self.folder / 'users.sql'}", "--secure-file-priv=NULL"]
            self._run([*command, f"--tmpdir={self.folder / 'tmp'}"], as_user=True)
        else:
            command = [program("initdb"), "-D", data, "-U", "postgres", "--auth=trust"]
            self._run([*command, "--encoding=UTF8", "--locale=C", "--no-sync"], as_user=True)

    def _run(self, command: list[str], *, as_user: bool) -> None:
        user = self._user if as_user else None
        done = subprocess.run(
            command, capture_output=True, check=False, user=user, cwd=self.folder, env=_clean()
        )
        if done.returncode:
            text = (done.stdout + done.stderr).decode(errors="replace")
            raise RuntimeError(f"{command[0]} failed:\n{text[-4000:]}")

    def _launch(self) -> None:
        with (self.folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                self._command(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=self._user,
                group=None if self._user is None else pwd.getpwnam(self._user).pw_gid,
                extra_groups=None if self._user is None else [],
                cwd=self.folder,
                env={**_clean(), **self._environ},
                start_new_session=True,
            )

    def _command(self) -> list[str]:
        if self.kind == "postgresql":
            return self._postgres()
        folder = self.folder
        return [
            *([mysqld()] if self.kind == "mysql" else [program("mariadbd"), "--no-defaults"]),
            *(f"--datadir={folder / 'data'}", f"--tmpdir={folder / 'tmp'}"),
            *(f"--socket={self._socket}", f"--port={self.port}", "--bind-address=127.0.0.1"),
            *(f"--pid-file={folder / 'pid'}", "--skip-name-resolve", "--max-connections=400"),
            *("--innodb-buffer-pool-size=256M", "--character-set-server=latin1", "--sql-mode="),
            "--default-time-zone=+05:30",
            *{
                "mariadb": ("--performance-schema=OFF", "--innodb-log-file-size=256M"),
                "mysql": (
                    *("--mysqlx=OFF", "--secure-file-priv=NULL", "--sql-require-primary-key=ON"),
                    "--innodb-redo-log-capacity=512M",
                ),
            }[self.kind],
            *self._options,
        ]

    def _postgres(self) -> list[str]:
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": str(self.folder),
            "max_connections": "200",
            "shared_buffers": "256MB",
            "timezone": "Asia/Kolkata",
            "standard_conforming_strings": "off",
        }
        settings = [part for item in options.items() for part in ("-c", "=".join(item))]
        data = ["-D", str(self.folder / "data"), "-p", str(self.port)]
        return [program("postgres"), *data, *settings, *self._options]

    def _answers(self) -> bool:
        """Wait until the server greets a client."""
        deadline = time.monotonic() + _START
        ready = _says_ready if self.kind == "postgresql" else _greets
        while time.monotonic() < deadline and self.alive:
            if ready(self):
                return True
            time.sleep(0.02)
        return False


def _greets(server: LocalServer) -> bool:
    """MariaDB and MySQL speak first: a packet with the protocol's number, 10."""
    try:
        with socket.create_connection(("127.0.0.1", server.port), 1) as client:
            client.settimeout(1)
            return client.recv(5)[4:5] == b"\x0a"
    except OSError:
        return False


def _says_ready(server: LocalServer) -> bool:
    """PostgreSQL marks the eighth line of its pid file, which a killed one leaves behind."""
    try:
        lines = (server.folder / "data" / "postmaster.pid").read_text().splitlines()
    except OSError:
        return False
    return len(lines) >= 8 and lines[0] == str(server.pid) and lines[7].strip() == "ready"


def _clean() -> dict[str, str]:
    """Return an environment without what could lead a server astray."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")}
    return {**kept, "LC_ALL": "C"}


@contextmanager
def running(kind: str, folder: Path, *options: str) -> Iterator[LocalServer]:
    """Run a server that one test has for itself, to be killed and restarted at will."""
    server = LocalServer(kind, folder, options)
    try:
        server.start()
        yield server
    finally:
        server.stop()
