"""A Galera cluster of three members on this machine, which tests kill, wipe and cut off at will.

A guardian runs `Cluster` and ends it with the session; tests hold a `Galera`, which asks it by a
socket. The members' data is made once and copied, so that the cluster stands without a transfer.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, NamedTuple

import pymysql

from tests.servers.local import Address, LocalServer, MissingServerError

__all__ = ["MEMBERS", "Cluster", "Galera"]

MEMBERS = 3
_PROVIDERS = ("/usr/lib/galera/libgalera_smm.so", "/usr/lib64/galera-4/libgalera_smm.so")
_READY = 60.0  # s until a member is synced, on a machine that does much else
_LOOK = 0.05  # s
_POSITION = re.compile(r"Recovered position: ([0-9a-f-]{36}:-?[0-9]+)")
_UNKNOWN = "00000000-0000-0000-0000-000000000000:-1"


def provider() -> str:
    """Return the path of Galera's library. Raises if it is missing."""
    found = next((path for path in _PROVIDERS if Path(path).exists()), None)
    if found is None or shutil.which("rsync") is None:
        raise MissingServerError(
            "Galera is not installed: run scripts/servers as root, or say with "
            "DUETIME_TEST_STORES=memory,sqlite that it is not to be tested."
        )
    return found


class _Ports(NamedTuple):
    """What a member listens on: clients, the group, incremental and whole state transfers."""

    clients: int
    group: int
    ist: int
    sst: int


def _free_ports(count: int) -> list[int]:
    """Return ports that nobody uses, all different."""
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in listeners:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in listeners]


class Member(LocalServer):
    """One member; it takes up its data again where a crash has left it."""

    def __init__(self, folder: Path, ports: _Ports, group: list[int]) -> None:
        super().__init__("mariadb", folder)
        self.port = ports.clients
        self._ports = ports
        self._group = group
        self._more: tuple[str, ...] = ()

    def _command(self) -> list[str]:
        return [*super()._command(), *self._wsrep(), *self._more]

    def _wsrep(self) -> list[str]:
        ports = self._ports
        cluster = ",".join(f"127.0.0.1:{port}" for port in self._group)
        options = {
            "base_port": f"{ports.group}",
            "gmcast.listen_addr": f"tcp://127.0.0.1:{ports.group}",
            "ist.recv_addr": f"127.0.0.1:{ports.ist}",
            "gcache.size": "64M",
        }
        return [
            *("--wsrep-on=ON", f"--wsrep-provider={provider()}", "--wsrep-cluster-name=duetime"),
            *(f"--wsrep-cluster-address=gcomm://{cluster}", "--wsrep-node-address=127.0.0.1"),
            *(f"--wsrep-node-name={self.folder.name}", "--wsrep-sst-method=rsync"),
            f"--wsrep-sst-receive-address=127.0.0.1:{ports.sst}",
            "--wsrep-provider-options=" + ";".join(f"{k}={v}" for k, v in options.items()),
            *("--binlog-format=ROW", "--innodb-autoinc-lock-mode=2", "--innodb-log-file-size=48M"),
            *("--innodb-buffer-pool-size=128M", "--wsrep-slave-threads=2"),
        ]

    def install(self) -> None:
        """Make the data of an empty server."""
        self._make()

    def copy_from(self, other: Member) -> None:
        """Begin with the data of another member, which is stopped."""
        self.folder.mkdir(parents=True)
        (self.folder / "tmp").mkdir()
        self.own()
        subprocess.run(
            ["cp", "-a", str(other.folder / "data"), str(self.folder / "data")], check=True
        )

    def own(self) -> None:
        """Give the folders to the user that the server runs as."""
        if self._user is not None:
            for path in (self.folder, self.folder / "tmp"):
                shutil.chown(path, self._user)

    def wipe(self) -> None:
        """Lose all data, as with a new disk: the member needs a whole state transfer."""
        assert not self.alive
        shutil.rmtree(self.folder / "data")
        (self.folder / "data").mkdir()
        if self._user is not None:
            shutil.chown(self.folder / "data", self._user)

    def launch(self, *, bootstrap: bool = False) -> None:
        """Start without waiting; with `bootstrap` as the first of a new cluster."""
        position = self.position()
        self._more = ("--wsrep-new-cluster",) if bootstrap else ()
        if position != _UNKNOWN:
            self._more += (f"--wsrep-start-position={position}",)
        if bootstrap:
            state = self.folder / "data" / "grastate.dat"
            if state.exists():
                text = state.read_text().replace("safe_to_bootstrap: 0", "safe_to_bootstrap: 1")
                state.write_text(text)
        self._launch()

    def position(self) -> str:
        """Return up to where this member, which is stopped, has all changes."""
        state = self.folder / "data" / "grastate.dat"
        if not state.exists():
            return _UNKNOWN
        text = state.read_text()
        uuid, seqno = (re.search(rf"{name}: +(\S+)", text) for name in ("uuid", "seqno"))
        assert uuid is not None
        assert seqno is not None
        if seqno[1] != "-1":
            return f"{uuid[1]}:{seqno[1]}"
        done = subprocess.run(
            [*super()._command(), *self._wsrep(), "--wsrep-recover"],
            capture_output=True,
            check=False,
            user=self._user,
            cwd=self.folder,
            text=True,
        )
        found = _POSITION.search(done.stderr + done.stdout)
        return found[1] if found else _UNKNOWN

    def end_group(self, how: signal.Signals) -> None:
        """End the server and what it has started (a transfer, perhaps)."""
        group = self.pid if self._process is not None else 0
        self._end(how)
        if group:
            with suppress(ProcessLookupError):
                os.killpg(group, signal.SIGKILL)


def query(address: Address, statement: str, database: str | None = None) -> list[tuple[Any, ...]]:
    """Return what one member answers. Raises pymysql.MySQLError."""
    connection = pymysql.connect(
        host=address.host,
        port=address.port,
        user=address.user,
        database=database,
        autocommit=True,
        connect_timeout=5,
        read_timeout=60,
    )
    try:
        with connection.cursor() as cursor:
            cursor.execute(statement)
            return list(cursor.fetchall())
    finally:
        connection.close()


def status_of(address: Address) -> dict[str, str]:
    """Return what a member says of itself, nothing if it does not answer."""
    try:
        return dict(query(address, "SHOW GLOBAL STATUS LIKE 'wsrep%'"))
    except pymysql.MySQLError:
        return {}


def is_synced(status: dict[str, str]) -> bool:
    wanted = {
        "wsrep_ready": "ON",
        "wsrep_cluster_status": "Primary",
        "wsrep_local_state_comment": "Synced",
    }
    return wanted.items() <= status.items()


class Entrance(NamedTuple):
    """What the guardian tells of a cluster that stands."""

    control: str  # a Unix socket that takes commands
    addresses: list[Address]


class Cluster:
    """The side of the guardian: starts, kills and restarts the members."""

    def __init__(self, folder: Path) -> None:
        ports = _free_ports(4 * MEMBERS)
        each = [_Ports(*ports[4 * n : 4 * n + 4]) for n in range(MEMBERS)]
        group = [one.group for one in each]
        self.folder = folder
        self.members = [Member(folder / f"member{n}", each[n], group) for n in range(MEMBERS)]
        self._listener: socket.socket | None = None
        self._lock = threading.Lock()

    @property
    def address(self) -> Entrance:
        """Return where the members and their keeper are."""
        return Entrance(self._control, [member.address for member in self.members])

    @property
    def _control(self) -> str:
        return str(self.folder / "control")

    def start(self) -> None:
        """Make the data, start all members, and take commands from then on."""
        provider()
        self.folder.mkdir(parents=True, exist_ok=True)
        first, *others = self.members
        first.install()
        first.launch(bootstrap=True)
        self._wait(0)
        first.end_group(signal.SIGTERM)
        for member in others:
            member.copy_from(first)
        first.launch(bootstrap=True)
        self._wait(0)
        for member in others:
            member.launch()
        for number in range(MEMBERS):
            self._wait(number)
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(self._control)
        Path(self._control).chmod(0o600)
        self._listener.listen()
        threading.Thread(target=self._serve, daemon=True).start()

    def stop(self) -> None:
        """End every member by force: nobody needs the data any more."""
        if self._listener is not None:
            self._listener.close()
        for member in self.members:
            member.end_group(signal.SIGKILL)

    def _wait(self, number: int) -> None:
        member = self.members[number]
        deadline = time.monotonic() + _READY
        while time.monotonic() < deadline and member.alive:
            if is_synced(status_of(member.address)):
                return
            time.sleep(_LOOK)
        raise RuntimeError(f"member {number} was not synced in time:\n{member.log()[-4000:]}")

    def _serve(self) -> None:
        assert self._listener is not None
        with suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                with client, client.makefile("rw") as file:
                    do, *numbers = json.loads(file.readline())
                    try:
                        with self._lock:
                            answer = getattr(self, f"do_{do}")(*numbers)
                    except Exception as error:  # noqa: BLE001 - the test shall tell
                        answer = {"error": f"{type(error).__name__}: {error}"}
                    file.write(json.dumps(answer) + "\n")

    def do_kill(self, *numbers: int) -> None:
        """End members as a crash would, all at once."""
        processes = [self.members[number] for number in numbers]
        for member in processes:
            os.kill(member.pid, signal.SIGKILL)
        for member in processes:
            member.end_group(signal.SIGKILL)

    def do_wipe(self, number: int) -> None:
        """Remove the data of a member that is down."""
        self.members[number].wipe()

    def do_launch(self, number: int) -> None:
        """Start a member that is down, without waiting for it."""
        self.members[number].launch()

    def do_heal(self) -> list[int]:
        """Start every member that is down, as an administrator would; return which."""
        down = [number for number, member in enumerate(self.members) if not member.alive]
        if len(down) == MEMBERS:
            positions = [int(member.position().rpartition(":")[2]) for member in self.members]
            newest = positions.index(max(positions))
            self.members[newest].launch(bootstrap=True)
            self._wait(newest)
        for number in down:
            if not self.members[number].alive:
                self.members[number].launch()
                self._wait(number)
        for number in range(MEMBERS):
            self._wait(number)
        return down

    def do_log(self, number: int) -> str:
        """Return what a member has written so far."""
        return self.members[number].log()

    def do_pid(self, number: int) -> int:
        """Return the process of a member."""
        return self.members[number].pid


class Galera:
    """The side of the tests."""

    def __init__(self, control: str, addresses: list[list[Any]]) -> None:
        self._control = control
        self.addresses = [Address(*each) for each in addresses]

    def ask(self, do: str, *numbers: int) -> Any:
        """Let the guardian do something. Raises RuntimeError with what it said."""
        with socket.socket(socket.AF_UNIX) as link:
            link.connect(self._control)
            with link.makefile("rw") as file:
                file.write(json.dumps([do, *numbers]) + "\n")
                file.flush()
                answer = json.loads(file.readline())
        if isinstance(answer, dict):
            raise RuntimeError(answer["error"])  # noqa: TRY004 - what the guardian met
        return answer

    def kill(self, *numbers: int) -> None:
        """End members as a crash would, all at once."""
        self.ask("kill", *numbers)

    def heal(self) -> None:
        """Bring all members back to a cluster in which everyone is synced."""
        for address in self.addresses:
            with suppress(pymysql.MySQLError):
                query(address, "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=0'")
        self.ask("heal")

    def query(self, number: int, statement: str, database: str | None = None) -> Any:
        """Return what one member answers."""
        return query(self.addresses[number], statement, database)

    def status(self, number: int) -> dict[str, str]:
        """Return what a member says of itself, nothing if it does not answer."""
        return status_of(self.addresses[number])

    def synced(self, number: int) -> bool:
        """Tell whether a member takes part."""
        return is_synced(self.status(number))

    def isolate(self, *numbers: int) -> None:
        """Cut members off from all others: they neither hear nor are heard."""
        for number in numbers:
            self.query(number, "SET GLOBAL wsrep_provider_options = 'gmcast.isolate=1'")

    def counter(self, name: str) -> int:
        """Return the sum of one counter over all members that answer."""
        return sum(int(self.status(number).get(name, 0)) for number in range(MEMBERS))

    def url(self, database: str, *numbers: int) -> str:
        """Return the URL of a database by way of these members, in this order."""
        some = [self.addresses[number] for number in numbers or range(MEMBERS)]
        places = ",".join(f"{each.host}:{each.port}" for each in some)
        return f"mysql://{some[0].user}@{places}/{database}"
