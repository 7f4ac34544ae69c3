-- Every statement of the MySQL and MariaDB store. Parameters are filled in by `literals.render`:
-- numbers as digits, texts and bytes as x'…', lists in parentheses; nothing else can get in.
-- Neither server compares rows of values by an index when the comparison is < or <=, so a range
-- is a plain BETWEEN on due_at, and the tail only narrows its last instant. Small tables would be
-- read whole, and every row that somebody else holds in them waited for: hence FORCE INDEX, and the
-- DELETE in the form that can have it. A list of places has two members at least: with one,
-- MariaDB's DELETE reads the whole table all the same.

-- name: version_table
-- Made before the first schema file, for it records that file too. Row 0 is there to be locked:
-- a migration holds it, for DDL would end a transaction of its own.
CREATE TABLE IF NOT EXISTS {prefix}version(
    number     INT NOT NULL PRIMARY KEY,
    name       VARBINARY(255) NOT NULL,
    checksum   VARBINARY(64) NOT NULL,
    applied_at BIGINT NOT NULL
) ENGINE=InnoDB ROW_FORMAT=DYNAMIC DEFAULT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

-- name: version_lock
-- Whoever migrates holds this row on a connection of its own.
SELECT number FROM {prefix}version WHERE number = 0 FOR UPDATE;

-- name: versions
-- In the order of the files, to be compared one by one.
SELECT number, checksum, name FROM {prefix}version WHERE number > 0 ORDER BY number;

-- name: record_version
-- After the step: DDL cannot be in one transaction with it, so each step can be taken again.
INSERT INTO {prefix}version(number, name, checksum, applied_at)
VALUES (%(number)s, %(name)s, %(checksum)s, %(at)s) ON DUPLICATE KEY UPDATE number = number;

-- name: set_meta
-- The first value stays: the number of shards is fixed when the tables are made.
INSERT INTO {prefix}meta(name, value) VALUES (%(name)s, %(value)s)
ON DUPLICATE KEY UPDATE name = name;

-- name: read_meta
-- A handful of rows at most.
SELECT value FROM {prefix}meta WHERE name = %(name)s;

-- name: clock
-- SYSDATE moves on inside a transaction, NOW does not; each session's zone is UTC.
SELECT CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED);

-- name: insert
-- Many rows in one statement, sorted by place; a repeated insert changes nothing. Not IGNORE, which
-- would store a text that is too long cut short.
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
VALUES %(rows)s ON DUPLICATE KEY UPDATE tail = tail;

-- name: insert_one
-- A caller that is alone pays one round trip: the question whether the event was moved meanwhile
-- is part of the statement.
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
SELECT %(row)s FROM DUAL
WHERE NOT EXISTS (SELECT 1 FROM {prefix}names WHERE name = %(name)s)
ON DUPLICATE KEY UPDATE tail = {prefix}events.tail;

-- name: insert_named
-- Its names were new in the same transaction, so a row in the way is another event's.
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
VALUES %(rows)s;

-- name: new_names
-- Without a question before it: the primary key refuses the whole statement if one is taken.
INSERT INTO {prefix}names(name, shard, due_at, tail) VALUES %(rows)s;

-- name: any_name_between
-- One seek tells whether any moved or dead event may have an id of this batch. Asked inside the
-- INSERT, in place of the first due time, which is NULL and refused if there is one. There MariaDB
-- locks what it reads, whatever the isolation: without NOWAIT a transaction of the user's that has
-- moved an event kept all waiting who stored events around that time.
SELECT 1 FROM {prefix}names WHERE name BETWEEN %(low)s AND %(high)s LIMIT 1 FOR UPDATE NOWAIT;

-- name: names_among
-- One statement for a batch; each name is one seek.
SELECT name FROM {prefix}names WHERE name IN %(names)s;

-- name: put_name
-- An event that moves on has its row already; all of its columns are given.
REPLACE INTO {prefix}names(name, shard, due_at, tail) VALUES %(rows)s;

-- name: drop_name
-- By name alone: their events went in the same transaction. MariaDB reads a small table whole for a
-- list of names, FORCE INDEX or not, and waits for any name in it that a transaction of the user's
-- holds; a join from a derived table is one seek a name.
DELETE n FROM (%(names)s) AS d STRAIGHT_JOIN {prefix}names AS n FORCE INDEX (PRIMARY)
    ON n.name = d.name;

-- name: drop_name_at
-- After a list of done rows of which some were stale: an event that has moved or still lies there
-- keeps its name.
DELETE FROM {prefix}names
WHERE name = %(name)s AND shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s
  AND NOT EXISTS (SELECT 1 FROM {prefix}events AS e
                  WHERE e.shard = %(shard)s AND e.due_at = %(due_at)s AND e.tail = %(tail)s);

-- name: read_at
-- Columns in the order of a Row.
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim,
       created_at, history
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s;

-- name: read_named
-- Events that are not where their id says, and the dead, in one statement: it sees one moment, so
-- an event on its way from one to the other is not missed.
SELECT e.due_at, e.tail, e.shard, e.name, e.kind, e.payload, e.attempt, e.failures, e.crashes,
       e.claim, e.created_at, e.history, NULL, NULL
FROM {prefix}names AS n
JOIN {prefix}events AS e ON e.shard = n.shard AND e.due_at = n.due_at AND e.tail = n.tail
WHERE n.name IN %(names)s
UNION ALL
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, 0,
       created_at, history, died_at, reason
FROM {prefix}dead WHERE name IN %(names)s;

-- name: cancel_at
-- The quick way for ids that are places: one compare-and-set, no read before it.
DELETE FROM {prefix}events
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s
  AND claim = 0 AND name IS NULL;

-- name: cancel_plain
-- As cancel_at, for many: if fewer go than were asked for, it is rolled back.
DELETE e FROM {prefix}events AS e FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s AND claim = 0 AND name IS NULL;

-- name: drop_at
-- Whoever deletes repeats the claim he saw; 0 is a cancel. The count tells whether all still held.
DELETE e FROM {prefix}events AS e FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s AND claim = %(claim)s;

-- name: reschedule_at
-- Only the place and the name change, and only while nobody has claimed it.
UPDATE {prefix}events
SET shard = %(new_shard)s, due_at = %(new_due_at)s, name = %(name)s
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s AND claim = 0;

-- name: database
-- Where the tables are, for callers' connections that may be elsewhere.
SELECT CAST(DATABASE() AS BINARY);

-- name: where_am_i
-- Asked of the caller's connection: whether its statements commit by themselves, and which server
-- it is: on another member of a cluster, what it has not committed is seen by itself alone.
SELECT CONCAT_WS(' ', IF(@@autocommit, 1, 0), @@port, @@hostname);

-- name: ends_after_waiting
-- A server may be set to roll back a whole transaction where others roll back one statement.
SELECT CONCAT('', IF(@@innodb_rollback_on_timeout, 1, 0));

-- name: take_free
-- In a transaction of the caller's, whatever its isolation: one row by its whole key, so that no
-- gap beside it is locked, and one that was seen to be free just before.
DELETE FROM {prefix}events
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s AND claim = 0;

-- name: hold_free
-- For a move to where it lies already, which would change nothing: its UPDATE counts as none where
-- a driver has not asked for the rows that matched.
SELECT 1 FROM {prefix}events
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s AND claim = 0 FOR UPDATE;

-- name: await_at
-- On a connection of our own: waits until whoever is changing this row has ended.
SELECT claim FROM {prefix}events
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s FOR UPDATE;

-- name: lead_name
-- As put_name, in a transaction of the caller's: REPLACE would lock the gap before the name.
INSERT INTO {prefix}names(name, shard, due_at, tail)
VALUES (%(name)s, %(shard)s, %(due_at)s, %(tail)s)
ON DUPLICATE KEY UPDATE shard = %(shard)s, due_at = %(due_at)s, tail = %(tail)s;

-- name: forget_name
-- As drop_name, for one: a list may be read as a whole table, and all of it locked.
DELETE FROM {prefix}names WHERE name = %(name)s;

-- name: own_at
-- What the caller's own transaction sees at a place, as one text: rows come in many shapes.
SELECT CONCAT_WS(' ', shard, due_at, tail, claim, HEX(IFNULL(name, '')))
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s;

-- name: own_named
-- As own_at, by name.
SELECT CONCAT_WS(' ', e.shard, e.due_at, e.tail, e.claim, HEX(e.name))
FROM {prefix}names AS n
JOIN {prefix}events AS e ON e.shard = n.shard AND e.due_at = n.due_at AND e.tail = n.tail
WHERE n.name = %(name)s;

-- name: peek
-- No order: up to the limit, what is there is sorted by whoever asked.
SELECT CONCAT_WS(x'1f', due_at, kind)
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
  AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
LIMIT %(limit)s;

-- name: peek_shard
-- One part of a UNION ALL, for when there is more than the limit: each is one seek and stops there.
SELECT CONCAT_WS(x'1f', due_at, kind)
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard = %(shard)s AND due_at BETWEEN %(low)s AND %(high)s
  AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
  AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
ORDER BY due_at LIMIT %(limit)s;

-- name: claim_count
-- Counts no further than it is asked, without locks: whether there is anything (if not, nothing is
-- written), and whether all of it may be taken by one statement.
SELECT COUNT(*) FROM (
    SELECT 1 AS one FROM {prefix}events FORCE INDEX (PRIMARY)
    WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
      AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
      AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
    LIMIT %(limit)s) AS counted;

-- name: claim_pick
-- Locks and reads the rows in one pass. SKIP LOCKED: a transaction of the user's that holds one of
-- them stalls none of the others. One column for a row: PyMySQL needs 6.0 µs for twelve columns,
-- 2.3 for this one, and no temporary table is made for it, as for GROUP_CONCAT (2.1). Below them
-- stands how many rows, and which (the sum of their random tails), lie there locked or not: 0.4 µs
-- a row, and a round trip less than a statement of its own.
(SELECT CONCAT_WS(x'1f', due_at, tail, shard, IFNULL(name, ''), kind, payload, attempt, failures,
                  crashes, created_at, IFNULL(CONCAT('+', history), ''), '')
 FROM {prefix}events FORCE INDEX (PRIMARY)
 WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
   AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
   AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
 ORDER BY shard, due_at, tail LIMIT %(limit)s FOR UPDATE SKIP LOCKED)
UNION ALL
(SELECT CONCAT_WS(x'1f', '#', COUNT(*), SUM(tail)) FROM (
    SELECT tail FROM {prefix}events FORCE INDEX (PRIMARY)
    WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
      AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
      AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
    ORDER BY shard, due_at, tail LIMIT %(limit)s) AS seen);

-- name: claim_places
-- Which rows the pick could have seen: those it did not bring are held by somebody else.
SELECT shard, due_at, tail FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND (due_at < %(high)s OR tail <= %(tail)s)
  AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
  AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s));

-- name: claim
-- One range and a number of its own: a third of the cost of a list of ids.
UPDATE {prefix}events FORCE INDEX (PRIMARY)
SET claim = %(number)s, attempt = attempt + 1
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND (due_at < %(high)s OR tail <= %(tail)s)
  AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
  AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s));

-- name: claim_around
-- As claim, around rows that somebody else holds. In READ COMMITTED an UPDATE that meets a lock
-- looks at the committed row first, and does not wait if that row is not wanted.
UPDATE {prefix}events FORCE INDEX (PRIMARY)
SET claim = %(number)s, attempt = attempt + 1
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND (due_at < %(high)s OR tail <= %(tail)s)
  AND claim = 0 AND crashes BETWEEN %(least)s AND %(most)s
  AND (%(all)s OR ((%(any)s OR kind IN %(only)s) AND kind NOT IN %(without)s))
  AND (shard, due_at, tail) NOT IN %(held)s;

-- name: claim_one
-- One picked row, when so many others are held that no list should name them.
UPDATE {prefix}events SET claim = %(number)s, attempt = attempt + 1
WHERE shard = %(shard)s AND due_at = %(due_at)s AND tail = %(tail)s AND claim = 0;

-- name: claimed
-- Reads what bears a number: for a claim that is asked for again, and when the UPDATE marked other
-- rows than were picked (some were stored in between). Plain columns, for payloads of any bytes.
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim,
       created_at, history
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s AND claim = %(number)s;

-- name: settle_range
-- One DELETE for a whole claim, half the cost of a list. The number keeps late arrivals safe; named
-- rows are left for their names row to go with them.
DELETE e FROM {prefix}events AS e FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND claim = %(number)s AND claim <> 0 AND name IS NULL;

-- name: range_places
-- A DELETE by range waits for any row in it that somebody else holds; one by places only for its
-- own. Asked after such a wait.
SELECT shard, due_at, tail FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at BETWEEN %(low)s AND %(high)s
  AND claim = %(number)s AND claim <> 0 AND name IS NULL;

-- name: settle_row
-- Done, by list, one claim at a time; claim 0 is nobody's.
DELETE e FROM {prefix}events AS e FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s AND claim = %(number)s AND claim <> 0;

-- name: held
-- Which of these rows still bear a claim, and locks them: what moves or dies is deleted and
-- written anew after it, four statements for any number of rows.
SELECT shard, due_at, tail, claim FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s AND claim <> 0 FOR UPDATE;

-- name: take_at
-- They were locked by `held` in the same transaction.
DELETE e FROM {prefix}events AS e FORCE INDEX (PRIMARY)
WHERE (shard, due_at, tail) IN %(places)s;

-- name: bury
-- After its row was deleted under its claim.
INSERT INTO {prefix}dead(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                         created_at, history, died_at, reason)
VALUES %(rows)s;

-- name: unbury
-- The row goes back to events in the same transaction; the count tells whether it was there.
DELETE FROM {prefix}dead WHERE name = %(name)s;

-- name: issue_number
-- Node numbers only grow: a number that was struck off never comes back.
UPDATE {prefix}meta SET value = value + 1 WHERE name = x'697373756564';

-- name: join
-- A node that asks again after a lost answer leaves its earlier number.
INSERT INTO {prefix}nodes(number, id, counter, info)
VALUES (%(number)s, %(node)s, 1, %(info)s);

-- name: leave
-- The earlier numbers of a node that joins (again).
DELETE FROM {prefix}nodes WHERE id = %(node)s;

-- name: beat
-- Number and id: a number struck off and the id of another are nobody's.
UPDATE {prefix}nodes SET counter = counter + 1, info = %(info)s
WHERE number = %(number)s AND id = %(node)s;

-- name: members
-- The whole roll, the highest number and the clock, in one statement: it sees one moment.
SELECT m.value, CAST(UNIX_TIMESTAMP(SYSDATE(6)) * 1000000 AS SIGNED),
       n.number, n.id, n.counter, n.info
FROM {prefix}meta AS m LEFT JOIN {prefix}nodes AS n ON n.number > 0
WHERE m.name = x'697373756564' ORDER BY n.number;

-- name: strike
-- Compare-and-set: a node that has beaten meanwhile stays.
DELETE FROM {prefix}nodes
WHERE number = %(number)s AND (%(counter)s IS NULL OR counter = %(counter)s);

-- name: owners
-- Reads the due part of these shards; what is not yet due is not looked at.
SELECT DISTINCT claim >> 32 FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at <= %(high)s AND claim <> 0;

-- name: rescue
-- A node's claims are its number << 32 and the 2^32 after it. Due by `suspects`: it may have run, a
-- crash; due later: it cannot have started, so the attempt is taken back.
UPDATE {prefix}events FORCE INDEX (PRIMARY)
SET claim = 0,
    crashes = crashes + (due_at <= %(suspects)s),
    attempt = GREATEST(attempt - (due_at > %(suspects)s), 0)
WHERE shard IN %(shards)s AND due_at <= %(high)s
  AND claim BETWEEN %(first)s AND %(last)s AND claim <> 0;

-- name: rescue_pick
-- Asked after a rescue had to wait: which rows nobody else holds. What the node itself holds, cut
-- off in the middle of a transaction, would otherwise hold up all the others.
SELECT shard, due_at, tail FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard IN %(shards)s AND due_at <= %(high)s
  AND claim BETWEEN %(first)s AND %(last)s AND claim <> 0
FOR UPDATE SKIP LOCKED;

-- name: rescue_at
-- As rescue, for rows that were picked in the same transaction.
UPDATE {prefix}events FORCE INDEX (PRIMARY)
SET claim = 0,
    crashes = crashes + (due_at <= %(suspects)s),
    attempt = GREATEST(attempt - (due_at > %(suspects)s), 0)
WHERE (shard, due_at, tail) IN %(places)s
  AND claim BETWEEN %(first)s AND %(last)s AND claim <> 0;

-- name: find
-- One shard from the last page's end on, a seek whatever the page, and only the places: a part of a
-- UNION ALL. The rows of the page itself are read by `read_at`.
SELECT CONCAT_WS(x'1f', due_at, shard, tail)
FROM {prefix}events FORCE INDEX (PRIMARY)
WHERE shard = %(shard)s AND due_at BETWEEN %(low)s AND %(high)s
  AND (due_at > %(low)s OR tail > %(tail)s)
  AND (%(kind)s IS NULL OR kind = %(kind)s)
  AND (%(claimed)s IS NULL OR (claim <> 0) = %(claimed)s)
ORDER BY due_at, tail LIMIT %(limit)s;

-- name: find_dead
-- By the index on (died_at, name), from the last page's end on.
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, 0,
       created_at, history, died_at, reason
FROM {prefix}dead
WHERE died_at >= %(died_at)s AND (died_at > %(died_at)s OR name > %(name)s)
  AND due_at BETWEEN %(low)s AND %(high)s AND (%(kind)s IS NULL OR kind = %(kind)s)
ORDER BY died_at, name LIMIT %(limit)s;

-- name: count_events
-- One pass over the table: for people, not for the hot path.
SELECT kind,
       CASE WHEN claim <> 0 THEN 'claimed' WHEN shard = -1 THEN 'parked' ELSE 'scheduled' END
           AS state,
       COUNT(*), CAST(SUM(due_at < %(now)s) AS SIGNED)
FROM {prefix}events GROUP BY kind, state;

-- name: count_dead
-- The dead are few.
SELECT kind, COUNT(*) FROM {prefix}dead GROUP BY kind;

-- name: settings
-- What `check` judges. By name, for a server that no longer has one of them must not fail the rest.
SHOW GLOBAL VARIABLES
WHERE Variable_name IN ('version', 'innodb_flush_log_at_trx_commit', 'sync_binlog', 'log_bin',
                        'binlog_format', 'read_only', 'max_allowed_packet', 'innodb_read_only');

-- name: galera
-- Empty on a server without Galera.
SHOW STATUS WHERE Variable_name IN ('wsrep_ready', 'wsrep_local_state_comment', 'wsrep_on',
                                    'wsrep_cluster_status', 'wsrep_cluster_size');

-- name: galera_settings
-- What a member must be set to. Empty, but for the first, on a server without Galera.
SHOW GLOBAL VARIABLES
WHERE Variable_name IN ('innodb_flush_log_at_trx_commit', 'wsrep_OSU_method', 'wsrep_sync_wait');

-- name: engines
-- How our tables were really made.
SELECT TABLE_NAME, ENGINE, TABLE_COLLATION FROM information_schema.TABLES
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN %(tables)s;

-- name: columns
-- Texts that are compared must be compared byte by byte.
SELECT TABLE_NAME, COLUMN_NAME, DATA_TYPE FROM information_schema.COLUMNS
WHERE TABLE_SCHEMA = DATABASE() AND TABLE_NAME IN %(tables)s
  AND COLUMN_NAME IN ('name', 'kind', 'id');
