"""Bare statements on the PostgreSQL tables of the engine, by the driver that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import psycopg

from benchmarks.raw import COLUMNS, Bounds, Raw, in_order
from duetime.event import Row

__all__ = ["RawPostgres"]

_TYPES = ("int8", "int8", "int2", "text", "text", "bytea", *["int4"] * 3, "int8", "int8", "bytea")
_MARKS = ", ".join(["%s"] * len(_TYPES))


class RawPostgres(Raw):
    """One connection; the driver prepares what is asked for again and again."""

    driver = "psycopg"

    def __init__(self, url: str, table: str) -> None:
        super().__init__(table)
        self.db: psycopg.Connection[Any] = psycopg.connect(url, autocommit=True)
        for setting in ("enable_seqscan", "enable_bitmapscan", "jit"):
            self._run(f"SET {setting} = off")  # as the engine tells the planner

    def _run(self, statement: str, values: Sequence[Any] | None = None) -> Any:
        return self.db.execute(statement.encode(), values)

    def close(self) -> None:
        self.db.close()

    def version(self) -> str:
        return str(self._run("SHOW server_version").fetchone()[0]).split()[0]

    def count(self) -> int:
        return int(self._run(f"SELECT count(*) FROM {self.table}").fetchone()[0])

    def clear(self, until: int | None = None) -> None:
        if until is None:
            self._run(f"TRUNCATE TABLE {self.table}")
        else:
            self._run(f"DELETE FROM {self.table} WHERE due_at < {until}")

    def settled(self) -> None:
        self._run(f"VACUUM ANALYZE {self.table}")

    def insert(self, rows: Sequence[Row]) -> None:
        if len(rows) == 1:
            self._run(f"INSERT INTO {self.table}({COLUMNS}) VALUES ({_MARKS})", rows[0])
        else:
            self._copy(self.table, rows)

    def _copy(self, table: str, rows: Sequence[Row]) -> None:
        statement = f"COPY {table}({COLUMNS}) FROM STDIN (FORMAT BINARY)"
        with self.db.cursor() as cursor, cursor.copy(statement.encode()) as copy:
            copy.set_types(_TYPES)
            for row in in_order(rows):
                copy.write_row(row)

    def delete(self, rows: Sequence[Row]) -> None:
        shards, dues, tails = zip(*((r[2], r[0], r[1]) for r in in_order(rows)), strict=True)
        self._run(
            f"DELETE FROM {self.table} e "
            "USING unnest(%s::smallint[], %s::bigint[], %s::bigint[]) AS w(shard, due_at, tail) "
            "WHERE e.shard=w.shard AND e.due_at=w.due_at AND e.tail=w.tail AND e.claim=0",
            (list(shards), list(dues), list(tails)),
        )

    def edge(self, shard: int, low: int, batch: int) -> int | None:
        row = self._run(
            f"SELECT due_at FROM {self.table} WHERE shard=%s AND due_at>=%s AND claim=0 "
            f"ORDER BY due_at LIMIT 1 OFFSET {batch - 1}",
            (shard, low),
        ).fetchone()
        return None if row is None else int(row[0])

    def claim(self, bounds: Bounds) -> list[Row]:
        shard, low, high, number = bounds
        where = "WHERE shard=%s AND due_at BETWEEN %s AND %s"
        self._run(
            f"UPDATE {self.table} SET claim=%s, attempt=attempt+1 {where} AND claim=0",
            (number, shard, low, high),
        )
        rows = self._run(f"SELECT {COLUMNS} FROM {self.table} {where} AND claim=%s", bounds)
        return cast(list[Row], rows.fetchall())

    def settle(self, bounds: Bounds) -> None:
        self._run(
            f"DELETE FROM {self.table} WHERE shard=%s AND due_at BETWEEN %s AND %s AND claim=%s",
            bounds,
        )

    def keep(self, rows: Sequence[Row]) -> None:
        self._run(f"DROP TABLE IF EXISTS {self.kept}")
        self._run(f"CREATE TABLE {self.kept} (LIKE {self.table})")
        self._copy(self.kept, rows)

    def refill(self, *, shift: int = 0, instant: int | None = None) -> None:
        due = f"due_at + {shift}" if instant is None else f"{instant}::bigint"
        self._run(
            f"INSERT INTO {self.table}({COLUMNS}) "
            f"SELECT {COLUMNS.replace('due_at', due, 1)} FROM {self.kept}"
        )

    def statements(self) -> int:
        """Each of the engine's statements in autocommit is a transaction, which is counted."""
        self._run("SELECT pg_stat_clear_snapshot()")
        row = self._run(
            "SELECT xact_commit + xact_rollback FROM pg_stat_database "
            "WHERE datname = current_database()"
        ).fetchone()
        return int(row[0])
