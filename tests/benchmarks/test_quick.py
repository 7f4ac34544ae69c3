"""Every benchmark runs at a tiny size on every store, so that none rots."""

from __future__ import annotations

import os
from pathlib import Path

import msgspec
import pytest

from benchmarks.__main__ import main
from benchmarks.result import Result
from benchmarks.suite import BENCHMARKS
from tests.servers.local import Address

# What needs no store runs once, and what starts many nodes is the same on each.
STORELESS = ("handover", "imports")
ON_STORES = [name for name in BENCHMARKS if name not in STORELESS]
WITH_LIMITS = {"create", "drain", "cancel", "handover"}


def measured(name: str, path: Path, *options: str) -> list[Result]:
    """Run a benchmark; return its results, which are those in the file."""
    assert main([name, "--quick", "--json", str(path), *options]) == 0
    results = msgspec.json.decode(path.read_bytes(), type=list[Result])
    assert results
    for found in results:
        assert found.low <= found.value <= found.high
        assert found.runs == 1
        assert found.machine.cores > 0
        assert found.versions["duetime"]
        assert found.settings["level"] == "quick"
        assert found.commit
        if name in WITH_LIMITS and "nodes" not in found.settings:
            assert found.value > 0
            assert found.limit
            assert found.ratio == found.value / found.limit
        if found.name.endswith("earliest"):
            assert found.value >= 0
    return results


def url_of(server: Address) -> str:
    """Return the URL of a database of this process's own."""
    name = f"bench_{os.getpid()}"
    if server.kind == "postgresql":
        import psycopg

        with psycopg.connect(server.url("postgres"), autocommit=True) as db:
            if not db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [name]).fetchall():
                db.execute(f"CREATE DATABASE {name}".encode())
    else:
        import pymysql

        link = pymysql.connect(host=server.host, port=server.port, user=server.user)
        link.cursor().execute(f"CREATE DATABASE IF NOT EXISTS {name}")
        link.close()
    return server.url(name)


@pytest.mark.bench
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ON_STORES)
def test_benchmark_runs_on_sqlite(name: str, tmp_path: Path) -> None:
    """A benchmark runs on SQLite to its end and leaves figures with their limits and origin."""
    results = measured(name, tmp_path / "results.json", "--store", "sqlite")
    assert {found.store for found in results} == {"sqlite"}
    assert all(found.versions["sqlite"] for found in results)


@pytest.mark.bench
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ON_STORES)
def test_benchmark_runs_on_mariadb(name: str, tmp_path: Path, mariadb: Address) -> None:
    """A benchmark runs on a MySQL or MariaDB server that is named by its URL."""
    url = f"mariadb={url_of(mariadb)}"
    results = measured(name, tmp_path / "results.json", "--store", "mariadb", "--url", url)
    assert {found.store for found in results} == {"mariadb"}


@pytest.mark.bench
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", ON_STORES)
def test_benchmark_runs_on_postgresql(name: str, tmp_path: Path, postgresql: Address) -> None:
    """A benchmark runs on PostgreSQL to its end."""
    url = f"postgresql={url_of(postgresql)}"
    results = measured(name, tmp_path / "results.json", "--store", "postgresql", "--url", url)
    assert {found.store for found in results} == {"postgresql"}


@pytest.mark.bench
@pytest.mark.timeout(240)
@pytest.mark.parametrize("name", STORELESS)
def test_benchmark_without_a_store_runs(name: str, tmp_path: Path) -> None:
    """What needs no database is measured once and not for each."""
    results = measured(name, tmp_path / "results.json", "--store", "sqlite")
    assert {found.store for found in results} == {"none"}


def test_unknown_names_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """A name that is no benchmark, store or system is refused before anything is measured."""
    for words in (["drian"], ["--store", "oracle"], ["--system", "cron"]):
        assert main(words) == 2
        assert words[-1] in capsys.readouterr().err
