"""An order and its expiry are committed together, or neither is: SQLAlchemy and Duetime on a file.

Run it: python transaction.py (it needs SQLAlchemy; the file is a temporary one).
"""

from __future__ import annotations

import logging
import tempfile
from contextlib import suppress
from pathlib import Path
from threading import Event as Signal

import sqlalchemy

from duetime import Event, Scheduler


class PaymentRefused(Exception):
    """The customer's bank said no."""


def order(engine: sqlalchemy.Engine, scheduler: Scheduler, number: int, *, refused: bool) -> None:
    """Store an order and its expiry; a refused payment takes back both."""
    with engine.begin() as tx:
        tx.execute(sqlalchemy.text("INSERT INTO orders VALUES (:number)"), {"number": number})
        scheduler.schedule("order.expire", number, after=0.5, within=tx)
        if refused:
            raise PaymentRefused


def main(folder: str) -> None:
    """Make two orders, of which one fails, and let the other expire."""
    file = Path(folder) / "shop.db"
    engine = sqlalchemy.create_engine(f"sqlite:///{file}")
    # SQLAlchemy opens the file with Python's sqlite3, so Duetime does, too.
    with Scheduler(f"sqlite+sqlite3:///{file}") as scheduler:
        expired = Signal()

        @scheduler.on("order.expire")
        def expire(event: Event) -> None:
            with engine.begin() as tx:
                numbers = tx.execute(sqlalchemy.text("SELECT number FROM orders")).scalars().all()
            print(f"order {event.payload} expires; orders in the table: {numbers}")
            expired.set()

        with engine.begin() as tx:
            tx.execute(sqlalchemy.text("CREATE TABLE orders (number INTEGER PRIMARY KEY)"))
        scheduler.store.migrate()
        order(engine, scheduler, 1, refused=False)
        with suppress(PaymentRefused):
            order(engine, scheduler, 2, refused=True)
        print(f"scheduled: {[event.payload for event in scheduler.find()]}")
        scheduler.start()
        expired.wait(10)
    engine.dispose()


if __name__ == "__main__":
    # Python's SQLite may be one with a known bug, of which Duetime warns; see docs/transactions.md.
    logging.getLogger("duetime").setLevel(logging.ERROR)
    with tempfile.TemporaryDirectory() as folder:
        main(folder)
