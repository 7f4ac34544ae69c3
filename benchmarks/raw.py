"""The same tables in the barest way: what the database gives to one connection and one loop.

Nothing here is shared with the engine but the table: statements, batches and transactions are the
cheapest known for it, measured one by one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast

import apsw

from duetime.event import Event, Row

__all__ = ["RawSqlite"]

_COLUMNS = (
    "due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created_at, "
    "history"
)
_CLAIMED = "WHERE shard=? AND due_at BETWEEN ? AND ? AND claim=?"
Bounds = tuple[int, int, int, int]  # shard, first and last due time, claim number


class RawSqlite:
    """One connection to the file of the engine, set as the engine sets it."""

    shards = 32

    def __init__(self, path: str, table: str) -> None:
        self.table = table
        self.db = apsw.Connection(path)
        self.db.set_busy_timeout(20_000)
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "wal_autocheckpoint=20000"):
            self.db.execute(f"PRAGMA {pragma}")
        self._insert = f"INSERT INTO {table}({_COLUMNS}) VALUES (?,?,?,?,?,?,?,?,?,?,?,?)"

    def close(self) -> None:
        """Let go of the file."""
        self.db.close()

    def clear(self) -> None:
        """Empty the table, and put the log back into the file, so that every run starts alike."""
        self.db.execute(f"DELETE FROM {self.table}")
        self.db.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def count(self) -> int:
        """Count the rows."""
        return int(self.db.execute(f"SELECT count(*) FROM {self.table}").get)

    def insert(self, rows: Sequence[Row], batch: int) -> float:
        """Insert rows, so many per transaction, each in the order of the key; return rows/s."""
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            some = sorted(rows[start : start + batch], key=lambda row: (row[2], row[0], row[1]))
            with self.db:
                self.db.executemany(self._insert, some)
        return len(rows) / (time.perf_counter() - began)

    def delete(self, rows: Sequence[Row], batch: int) -> float:
        """Delete rows by their places if unclaimed, so many per transaction; return rows/s."""
        statement = (
            f"DELETE FROM {self.table} WHERE shard = ? AND due_at = ? AND tail = ? AND claim = 0"
        )
        began = time.perf_counter()
        for start in range(0, len(rows), batch):
            places = sorted((row[2], row[0], row[1]) for row in rows[start : start + batch])
            with self.db:
                self.db.executemany(statement, places)
        return len(rows) / (time.perf_counter() - began)

    def drain(self, handler: Callable[[Event], object], until: int, batch: int) -> float:
        """Claim, read, handle and settle by range until nothing is left; return rows/s."""
        done = 0
        began = time.perf_counter()
        for rows, bounds in self.claims(until, batch):
            for row in rows:
                handler(Event(row))
            self.settle(bounds)
            done += len(rows)
        return done / (time.perf_counter() - began)

    def claims(self, until: int, batch: int) -> Iterator[tuple[list[Row], Bounds]]:
        """Claim what is due by then, so many rows of one shard at a time; each with its bounds."""
        table, number = self.table, 0
        low = dict.fromkeys(range(self.shards), 0)
        while low:
            for shard in list(low):
                number += 1
                edge = self.db.execute(
                    f"SELECT due_at FROM {table} WHERE shard=? AND due_at>=? AND claim=0 "
                    f"ORDER BY due_at LIMIT 1 OFFSET {batch - 1}",
                    (shard, low[shard]),
                ).get
                bounds = (shard, low[shard], until if edge is None else edge, number)
                self.db.execute(
                    f"UPDATE {table} SET claim=?4, attempt=attempt+1 "
                    "WHERE shard=?1 AND due_at BETWEEN ?2 AND ?3 AND claim=0",
                    bounds,
                )
                rows = self.db.execute(f"SELECT {_COLUMNS} FROM {table} {_CLAIMED}", bounds)
                yield cast(list[Row], rows.fetchall()), bounds
                low[shard] = bounds[2]
                if edge is None:
                    del low[shard]

    def settle(self, bounds: Bounds) -> None:
        """Delete what one claim holds."""
        self.db.execute(f"DELETE FROM {self.table} {_CLAIMED}", bounds)
