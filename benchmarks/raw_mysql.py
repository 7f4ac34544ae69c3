"""Bare statements on the MySQL or MariaDB tables of the engine, by the driver that it uses."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import pymysql
from pymysql.constants import CLIENT

from benchmarks.raw import COLUMNS, Bounds, Raw, in_order
from duetime.event import Row
from duetime.store_url import StoreUrl

__all__ = ["RawMysql"]

_AT_ONCE = 500  # places in one list: longer ones are read as a subquery, which is slower


class RawMysql(Raw):
    """One connection; values go out as digits and hexadecimal literals, which need no escaping."""

    driver = "pymysql"

    def __init__(self, url: StoreUrl, table: str) -> None:
        super().__init__(table)
        self.db: Any = pymysql.connect(
            host=url.host,
            port=url.port,
            user=url.user or None,
            password=url.password,
            database=url.database,
            autocommit=True,
            client_flag=CLIENT.FOUND_ROWS,
        )
        self._cursor = self.db.cursor()
        self._run("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")

    def _run(self, statement: str) -> Any:
        self._cursor.execute(statement)
        return self._cursor

    def close(self) -> None:
        self.db.close()

    def version(self) -> str:
        return str(self._run("SELECT VERSION()").fetchone()[0])

    def count(self) -> int:
        return int(self._run(f"SELECT count(*) FROM {self.table}").fetchone()[0])

    def clear(self, until: int | None = None) -> None:
        if until is None:
            self._run(f"TRUNCATE TABLE {self.table}")
        else:
            self._run(f"DELETE FROM {self.table} WHERE due_at < {until}")

    def settled(self) -> None:
        self._run(f"ANALYZE TABLE {self.table}").fetchall()

    def insert(self, rows: Sequence[Row]) -> None:
        self._insert(self.table, rows)

    def _insert(self, table: str, rows: Sequence[Row]) -> None:
        values = ",".join(
            f"({r[0]},{r[1]},{r[2]},NULL,x'{r[4].encode().hex()}',x'{r[5].hex()}',"
            f"{r[6]},{r[7]},{r[8]},{r[9]},{r[10]},NULL)"
            for r in in_order(rows)
        )
        self._run(f"INSERT INTO {table}({COLUMNS}) VALUES {values}")

    def delete(self, rows: Sequence[Row]) -> None:
        places = sorted((row[2], row[0], row[1]) for row in rows)
        if len(places) == 1:  # MariaDB reads the whole table for a list of one
            self._run(
                f"DELETE FROM {self.table} "
                f"WHERE shard=%d AND due_at=%d AND tail=%d AND claim=0" % places[0]
            )
            return
        self._run("START TRANSACTION")
        for start in range(0, len(places), _AT_ONCE):
            some = ",".join(f"({s},{d},{t})" for s, d, t in places[start : start + _AT_ONCE])
            self._run(f"DELETE FROM {self.table} WHERE (shard,due_at,tail) IN ({some}) AND claim=0")
        self._run("COMMIT")

    def edge(self, shard: int, low: int, batch: int) -> int | None:
        row = self._run(
            f"SELECT due_at FROM {self.table} WHERE shard={shard} AND due_at>={low} AND claim=0 "
            f"ORDER BY due_at LIMIT 1 OFFSET {batch - 1}"
        ).fetchone()
        return None if row is None else int(row[0])

    def claim(self, bounds: Bounds) -> list[Row]:
        shard, low, high, number = bounds
        where = f"WHERE shard={shard} AND due_at BETWEEN {low} AND {high} AND claim="
        self._run(f"UPDATE {self.table} SET claim={number}, attempt=attempt+1 {where}0")
        rows = self._run(f"SELECT {COLUMNS} FROM {self.table} {where}{number}").fetchall()
        return cast(list[Row], rows)

    def settle(self, bounds: Bounds) -> None:
        shard, low, high, number = bounds
        self._run(
            f"DELETE FROM {self.table} "
            f"WHERE shard={shard} AND due_at BETWEEN {low} AND {high} AND claim={number}"
        )

    def keep(self, rows: Sequence[Row]) -> None:
        self._run(f"DROP TABLE IF EXISTS {self.kept}")
        self._run(f"CREATE TABLE {self.kept} LIKE {self.table}")
        for start in range(0, len(rows), 1000):
            self._insert(self.kept, rows[start : start + 1000])

    def refill(self, *, shift: int = 0, instant: int | None = None) -> None:
        due = f"due_at + {shift}" if instant is None else str(instant)
        self._run(
            f"INSERT INTO {self.table}({COLUMNS}) "
            f"SELECT {COLUMNS.replace('due_at', due, 1)} FROM {self.kept}"
        )

    def statements(self) -> int:
        return int(self._run("SHOW GLOBAL STATUS LIKE 'Questions'").fetchone()[1])
