"""Bare statements on the SQLite file of the engine."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import apsw

from benchmarks.raw import COLUMNS, Bounds, Raw, in_order
from duetime.event import Row

__all__ = ["RawSqlite"]

_CLAIMED = "WHERE shard=? AND due_at BETWEEN ? AND ? AND claim=?"


class RawSqlite(Raw):
    """One connection to the file: SQLite has one writer."""

    threads = 1
    driver = "apsw"

    def __init__(self, path: str, table: str) -> None:
        super().__init__(table)
        self.db = apsw.Connection(path)
        self.db.set_busy_timeout(20_000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=20000"):
            self.db.execute(f"PRAGMA {pragma}")
        self._insert = f"INSERT INTO {{}}({COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"

    def close(self) -> None:
        self.db.close()

    def version(self) -> str:
        return apsw.sqlite_lib_version()

    def count(self) -> int:
        return int(self.db.execute(f"SELECT count(*) FROM {self.table}").get)

    def clear(self, until: int | None = None) -> None:
        some = "" if until is None else f" WHERE due_at < {until}"
        self.db.execute(f"DELETE FROM {self.table}{some}")
        self.settled()

    def settled(self) -> None:
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def insert(self, rows: Sequence[Row]) -> None:
        with self.db:
            self.db.executemany(self._insert.format(self.table), in_order(rows))

    def delete(self, rows: Sequence[Row]) -> None:
        places = sorted((row[2], row[0], row[1]) for row in rows)
        with self.db:
            self.db.executemany(
                f"DELETE FROM {self.table} WHERE shard=? AND due_at=? AND tail=? AND claim=0",
                places,
            )

    def edge(self, shard: int, low: int, batch: int) -> int | None:
        found = self.db.execute(
            f"SELECT due_at FROM {self.table} WHERE shard=? AND due_at>=? AND claim=0 "
            f"ORDER BY due_at LIMIT 1 OFFSET {batch - 1}",
            (shard, low),
        ).get
        return cast(int | None, found)

    def claim(self, bounds: Bounds) -> list[Row]:
        self.db.execute(
            f"UPDATE {self.table} SET claim=?4, attempt=attempt+1 "
            "WHERE shard=?1 AND due_at BETWEEN ?2 AND ?3 AND claim=0",
            bounds,
        )
        rows = self.db.execute(f"SELECT {COLUMNS} FROM {self.table} {_CLAIMED}", bounds)
        return cast(list[Row], rows.fetchall())

    def settle(self, bounds: Bounds) -> None:
        self.db.execute(f"DELETE FROM {self.table} {_CLAIMED}", bounds)

    def keep(self, rows: Sequence[Row]) -> None:
        self.db.execute(f"DROP TABLE IF EXISTS {self.kept}")
        self.db.execute(f"CREATE TABLE {self.kept} AS SELECT * FROM {self.table} LIMIT 0")
        with self.db:
            self.db.executemany(self._insert.format(self.kept), in_order(rows))

    def refill(self, *, shift: int = 0, instant: int | None = None) -> None:
        due = f"due_at + {shift}" if instant is None else str(instant)
        self.db.execute(
            f"INSERT INTO {self.table}({COLUMNS}) "
            f"SELECT {COLUMNS.replace('due_at', due, 1)} FROM {self.kept} ORDER BY rowid"
        )

    def statements(self) -> int:
        return 0
