"""The databases to measure on: servers of our own, on free ports in a temporary folder."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from benchmarks.raw import Raw
from benchmarks.result import ROOT
from duetime import Scheduler
from duetime.config import parse_store
from tests.servers import local

__all__ = ["NAMESPACE", "STORES", "Database", "MissingRedisError", "opened"]

STORES = ("sqlite", "mariadb", "postgresql", "mysql", "redis")  # redis: for peers alone
NAMESPACE = "bench"
# Room for millions of rows; durability is each server's default.
_OPTIONS = {
    "mariadb": ("--innodb-buffer-pool-size=2G", "--innodb-log-file-size=1G"),
    "mysql": ("--innodb-buffer-pool-size=2G", "--innodb-redo-log-capacity=2G"),
    "postgresql": (
        *("-c", "shared_buffers=1GB", "-c", "max_wal_size=4GB"),
        *("-c", "standard_conforming_strings=on"),  # what a peer may rely on
    ),
}
_WAIT = 20.0  # s for Redis to answer


class MissingRedisError(Exception):
    """Redis is not on this machine and cannot be installed by this user."""


class Database:
    """One database: where the engine, its limits and peers write."""

    def __init__(self, store: str, url: str) -> None:
        self.store = store
        self.url = url

    def scheduler(self, namespace: str = NAMESPACE, **settings: Any) -> Scheduler:
        """Return a scheduler on it, with default settings but for those given."""
        options = {"namespace": namespace, "stats_every": 0.0, **settings}
        return Scheduler(self.url, **options)

    def raw(self, namespace: str = NAMESPACE) -> Raw:
        """Return a bare connection to the same tables, which are made if there are none."""
        with self.scheduler(namespace) as scheduler:
            scheduler.store.migrate()
            assert scheduler.store.shards == Raw.shards
        return self.connect(namespace)

    def connect(self, namespace: str = NAMESPACE) -> Raw:
        """Return a bare connection to tables that are there. A driver is imported when needed."""
        url, table = parse_store(self.url), f"{namespace}_events"
        if url.scheme == "sqlite":
            from benchmarks.raw_sqlite import RawSqlite

            return RawSqlite(url.path, table)
        if url.scheme == "mysql":
            from benchmarks.raw_mysql import RawMysql

            return RawMysql(url, table)
        from benchmarks.raw_postgres import RawPostgres

        return RawPostgres(self.url, table)

    def settings(self) -> dict[str, Any]:
        """Return what was set on the server."""
        options = [part for part in _OPTIONS.get(self.store, ()) if part != "-c"]
        return {"server": [option.removeprefix("--") for option in options]} if options else {}


@contextmanager
def opened(stores: Sequence[str], folder: Path, urls: dict[str, str]) -> Iterator[list[Database]]:
    """Start what is to be measured on; `urls` name those that run already."""
    with ExitStack() as stack:
        found = []
        for store in stores:
            url = urls.get(store)
            if url is None:
                url = stack.enter_context(_started(store, folder / store))
            found.append(Database(store, url))
        yield found


@contextmanager
def _started(store: str, folder: Path) -> Iterator[str]:
    if store == "sqlite":
        folder.mkdir(parents=True)
        yield f"sqlite:///{folder}/bench.db"
    elif store == "redis":
        with _redis(folder) as url:
            yield url
    else:
        if store == "mysql":
            subprocess.run([ROOT / "scripts" / "mysql"], check=True)
        with local.running(store, folder, *_OPTIONS[store]) as server:
            yield _with_database(server.address)


def _with_database(address: local.Address) -> str:
    """Return the URL of a database made for this run."""
    if address.kind == "postgresql":
        import psycopg

        with psycopg.connect(address.url("postgres"), autocommit=True) as db:
            db.execute("CREATE DATABASE bench")
    else:
        import pymysql

        link = pymysql.connect(host=address.host, port=address.port, user=address.user)
        link.cursor().execute("CREATE DATABASE bench")
        link.close()
    return address.url("bench")


@contextmanager
def _redis(folder: Path) -> Iterator[str]:
    """Run Redis as Debian ships it, but for its port and folder."""
    folder.mkdir(parents=True)
    port = local.free_port()
    words = [_redis_program(), "--port", str(port), "--dir", str(folder), "--bind", "127.0.0.1"]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(words, stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + _WAIT
        while not _greets(port):
            if time.monotonic() > deadline or server.poll() is not None:
                raise RuntimeError(f"Redis did not start:\n{(folder / 'log').read_text()[-2000:]}")
            time.sleep(0.02)
        yield f"redis://127.0.0.1:{port}/0"
    finally:
        server.terminate()
        server.wait(_WAIT)


def _greets(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), 1) as client:
            client.sendall(b"PING\r\n")
            return client.recv(5) == b"+PONG"
    except OSError:
        return False


def _redis_program() -> str:
    found = shutil.which("redis-server")
    if found is None and os.geteuid() == 0 and shutil.which("apt-get"):
        # It is the peers' alone, so it is installed here and not with what the tests need.
        environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update"], ["install", "-y", "--no-install-recommends", "redis-server"]):
            subprocess.run(["apt-get", "-qq", *words], check=True, env=environment)
        found = shutil.which("redis-server")
    if found is None:
        raise MissingRedisError("Redis is missing: apt-get install redis-server.")
    return found
