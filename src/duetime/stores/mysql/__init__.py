"""MySQL and MariaDB, Galera too: many nodes on one database server."""

from __future__ import annotations

from duetime.stores.mysql.store import MysqlStore

__all__ = ["MysqlStore"]
