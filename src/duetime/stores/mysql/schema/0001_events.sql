-- What waits, clustered by its place: reading what is next is sequential at any size, and an event
-- whose id is its place costs no second index. Texts are VARBINARY: the binary collation that both
-- MySQL and MariaDB have takes 'a' and 'a ' for one.
CREATE TABLE IF NOT EXISTS {prefix}events(
    shard      SMALLINT NOT NULL,
    due_at     BIGINT NOT NULL,
    tail       BIGINT NOT NULL,
    name       VARBINARY(64),
    kind       VARBINARY(256) NOT NULL,
    payload    LONGBLOB NOT NULL,
    attempt    INT NOT NULL,
    failures   INT NOT NULL,
    crashes    INT NOT NULL,
    claim      BIGINT NOT NULL,
    created_at BIGINT NOT NULL,
    history    LONGBLOB,
    PRIMARY KEY (shard, due_at, tail)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- The ids that are not a place: given by the caller, moved, or dead (shard -2). Its primary key
-- alone decides that a name is unique.
CREATE TABLE IF NOT EXISTS {prefix}names(
    name   VARBINARY(64) NOT NULL PRIMARY KEY,
    shard  SMALLINT NOT NULL,
    due_at BIGINT NOT NULL,
    tail   BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}dead(
    name       VARBINARY(64) NOT NULL PRIMARY KEY,
    shard      SMALLINT NOT NULL,
    due_at     BIGINT NOT NULL,
    tail       BIGINT NOT NULL,
    kind       VARBINARY(256) NOT NULL,
    payload    LONGBLOB NOT NULL,
    attempt    INT NOT NULL,
    failures   INT NOT NULL,
    crashes    INT NOT NULL,
    created_at BIGINT NOT NULL,
    history    LONGBLOB,
    died_at    BIGINT NOT NULL,
    reason     MEDIUMBLOB NOT NULL,
    KEY {prefix}dead_by_time (died_at, name)
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS {prefix}nodes(
    number  INT NOT NULL PRIMARY KEY,
    id      VARBINARY(64) NOT NULL,
    counter BIGINT NOT NULL,
    info    BLOB NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- `shards` (how many slices events has) and `issued` (the highest node number given).
CREATE TABLE IF NOT EXISTS {prefix}meta(
    name  VARBINARY(32) NOT NULL PRIMARY KEY,
    value BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;
