-- What waits, clustered by its place: reading what is next is sequential at any size, and an event
-- whose id is its place costs no second index. STRICT keeps foreign writers from storing a text
-- where a number is compared.
CREATE TABLE {prefix}events(
    shard      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    tail       INTEGER NOT NULL,
    name       TEXT,
    kind       TEXT NOT NULL,
    payload    BLOB NOT NULL,
    attempt    INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    crashes    INTEGER NOT NULL,
    claim      INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    history    BLOB,
    PRIMARY KEY (shard, due_at, tail)
) STRICT, WITHOUT ROWID;

-- The ids that are not a place: given by the caller, moved, or dead (shard -2). Its primary key
-- alone decides that a name is unique.
CREATE TABLE {prefix}names(
    name   TEXT NOT NULL PRIMARY KEY,
    shard  INTEGER NOT NULL,
    due_at INTEGER NOT NULL,
    tail   INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE {prefix}dead(
    name       TEXT NOT NULL PRIMARY KEY,
    shard      INTEGER NOT NULL,
    due_at     INTEGER NOT NULL,
    tail       INTEGER NOT NULL,
    kind       TEXT NOT NULL,
    payload    BLOB NOT NULL,
    attempt    INTEGER NOT NULL,
    failures   INTEGER NOT NULL,
    crashes    INTEGER NOT NULL,
    created_at INTEGER NOT NULL,
    history    BLOB,
    died_at    INTEGER NOT NULL,
    reason     TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE INDEX {prefix}dead_by_time ON {prefix}dead(died_at, name);

CREATE TABLE {prefix}nodes(
    number  INTEGER NOT NULL PRIMARY KEY,
    id      TEXT NOT NULL,
    counter INTEGER NOT NULL,
    info    BLOB NOT NULL
) STRICT;

-- `shards` (how many slices events has) and `issued` (the highest node number given).
CREATE TABLE {prefix}meta(
    name  TEXT NOT NULL PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
