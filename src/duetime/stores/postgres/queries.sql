-- Every statement of the PostgreSQL store. Lists come as arrays, so that one statement serves any
-- number of them; a statement with CTEs writes to several tables in one round trip and one commit.

-- name: version_table
-- Made before the first schema file, for it records that file too.
CREATE TABLE IF NOT EXISTS {prefix}version(
    number     INTEGER NOT NULL PRIMARY KEY,
    name       TEXT NOT NULL,
    checksum   TEXT NOT NULL,
    applied_at BIGINT NOT NULL
);

-- name: version_exists
-- Asked first: a database without our tables is not an error of SQL but a missing schema.
SELECT to_regclass('{prefix}version') IS NOT NULL;

-- name: version_lock
-- Two migrations at once take turns; whoever reads the version meanwhile does not wait.
LOCK TABLE {prefix}version IN SHARE ROW EXCLUSIVE MODE;

-- name: versions
-- In the order of the files, to be compared one by one.
SELECT number, checksum, name FROM {prefix}version ORDER BY number;

-- name: record_version
-- In the transaction of the step itself: a half-run migration does not exist.
INSERT INTO {prefix}version(number, name, checksum, applied_at)
VALUES (%(number)s, %(name)s, %(checksum)s, %(at)s);

-- name: set_meta
-- The first value stays: the number of shards is fixed when the tables are made.
INSERT INTO {prefix}meta(name, value) VALUES (%(name)s, %(value)s) ON CONFLICT DO NOTHING;

-- name: read_meta
-- A handful of rows at most.
SELECT value FROM {prefix}meta WHERE name = %(name)s;

-- name: session
-- Asked of each new connection: the version, whether it is a replica, and whether the limits that
-- were sent as start-up options are in force (a pooler in between may have dropped them).
SELECT version(), current_setting('server_version_num')::int, pg_is_in_recovery(),
       current_setting('server_encoding'), current_setting('lock_timeout'),
       current_setting('default_transaction_isolation');

-- name: clock
-- The clock of the wall, which moves on within a transaction.
SELECT floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint;

-- name: insert_one
-- One row is quicker without COPY: 272 µs against 455. The look at `names` is for an insert that is
-- asked again after its event moved.
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
SELECT %s::bigint, %s::bigint, %s::smallint, %s::text, %s::text, %s::bytea, %s::int, %s::int,
       %s::int, %s::bigint, %s::bigint, %s::bytea
WHERE NOT EXISTS (SELECT 1 FROM {prefix}names WHERE name = %s)
ON CONFLICT DO NOTHING;

-- name: insert
-- Many rows, binary: 148,000 a second against 84,000 by arrays. Columns in the order of a Row.
COPY {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                    claim, created_at, history) FROM STDIN (FORMAT BINARY);

-- name: insert_again
-- Many rows of which some are there already, or have moved: what COPY refuses as a whole.
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
SELECT w.due_at, w.tail, w.shard, NULL, w.kind, w.payload, w.attempt, w.failures, w.crashes,
       w.claim, w.created_at, w.history
FROM unnest(%(due_at)s::bigint[], %(tail)s::bigint[], %(shard)s::smallint[], %(name)s::text[],
            %(kind)s::text[], %(payload)s::bytea[], %(attempt)s::int[], %(failures)s::int[],
            %(crashes)s::int[], %(claim)s::bigint[], %(created_at)s::bigint[],
            %(history)s::bytea[])
     AS w(due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created_at,
          history)
WHERE NOT EXISTS (SELECT 1 FROM {prefix}names n WHERE n.name = w.name)
ON CONFLICT DO NOTHING;

-- name: insert_named
-- The primary key of `names` decides who is first; only the winners' rows are stored. In the order
-- of names, so that two such inserts never wait for each other in a circle.
WITH wanted AS MATERIALIZED (
    SELECT *
    FROM unnest(%(due_at)s::bigint[], %(tail)s::bigint[], %(shard)s::smallint[], %(name)s::text[],
                %(kind)s::text[], %(payload)s::bytea[], %(attempt)s::int[], %(failures)s::int[],
                %(crashes)s::int[], %(claim)s::bigint[], %(created_at)s::bigint[],
                %(history)s::bytea[])
         AS w(due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim,
              created_at, history)
), new AS (
    INSERT INTO {prefix}names(name, shard, due_at, tail)
    SELECT name, shard, due_at, tail FROM wanted ORDER BY name
    ON CONFLICT DO NOTHING
    RETURNING name
), stored AS (
    INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures,
                               crashes, claim, created_at, history)
    SELECT w.due_at, w.tail, w.shard, w.name, w.kind, w.payload, w.attempt, w.failures,
           w.crashes, w.claim, w.created_at, w.history
    FROM wanted w JOIN new ON new.name = w.name
)
SELECT name FROM new;

-- name: any_name_between
-- One seek tells whether any moved or dead event may have an id of this batch.
SELECT 1 FROM {prefix}names WHERE name BETWEEN %(low)s AND %(high)s LIMIT 1;

-- name: read
-- Many ids at once, where `names` says or else at the place that the id carries; the dead have a
-- second part, with what death added.
SELECT e.due_at, e.tail, e.shard, e.name, e.kind, e.payload, e.attempt, e.failures, e.crashes,
       e.claim, e.created_at, e.history, NULL::bigint, NULL::text
FROM unnest(%(ids)s::text[], %(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[])
     AS w(id, shard, due_at, tail)
     LEFT JOIN {prefix}names n ON n.name = w.id
     CROSS JOIN LATERAL (
         SELECT * FROM {prefix}events i
         WHERE i.shard = coalesce(n.shard, w.shard) AND i.due_at = coalesce(n.due_at, w.due_at)
           AND i.tail = coalesce(n.tail, w.tail) AND i.name IS NOT DISTINCT FROM n.name
         LIMIT 1) e
UNION ALL
SELECT d.due_at, d.tail, d.shard, d.name, d.kind, d.payload, d.attempt, d.failures, d.crashes,
       0, d.created_at, d.history, d.died_at, d.reason
FROM {prefix}dead d WHERE d.name = ANY(%(ids)s::text[]);

-- name: cancel_at
-- The quick way for ids that are places: one compare-and-set, no read before it.
DELETE FROM {prefix}events e
USING unnest(%(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[])
      AS w(shard, due_at, tail)
WHERE e.shard = w.shard AND e.due_at = w.due_at AND e.tail = w.tail
  AND e.claim = 0 AND e.name IS NULL
RETURNING e.due_at, e.shard, e.tail;

-- name: cancel_named
-- An event goes with its name; whoever moves an event locks its row before its name, as here.
WITH gone AS (
    DELETE FROM {prefix}events e USING {prefix}names n
    WHERE n.name = ANY(%(ids)s::text[]) AND e.shard = n.shard AND e.due_at = n.due_at
      AND e.tail = n.tail AND e.name = n.name AND e.claim = 0
    RETURNING e.name
), dropped AS (
    DELETE FROM {prefix}names n USING gone g WHERE n.name = g.name
)
SELECT name FROM gone;

-- name: reschedule_at
-- Compare-and-set on the place and the name that were read, and only while nobody has claimed it.
WITH moved AS (
    UPDATE {prefix}events e
    SET shard = w.to_shard, due_at = w.to_due_at, name = w.to_name
    FROM unnest(%(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[],
                %(names)s::text[], %(to_shards)s::smallint[], %(to_due_at)s::bigint[],
                %(to_names)s::text[])
         AS w(shard, due_at, tail, name, to_shard, to_due_at, to_name)
    WHERE e.shard = w.shard AND e.due_at = w.due_at AND e.tail = w.tail
      AND e.claim = 0 AND e.name IS NOT DISTINCT FROM w.name
    RETURNING e.due_at, e.tail, e.shard, e.name
), named AS (
    INSERT INTO {prefix}names(name, shard, due_at, tail)
    SELECT name, shard, due_at, tail FROM moved WHERE name IS NOT NULL
    ON CONFLICT (name) DO UPDATE
    SET shard = excluded.shard, due_at = excluded.due_at, tail = excluded.tail
)
SELECT due_at, tail, shard FROM moved;

-- name: unbury
-- The rows go back to events in the same transaction.
DELETE FROM {prefix}dead WHERE name = ANY(%(ids)s::text[])
RETURNING due_at, tail, shard, name, kind, payload, attempt, failures, crashes, 0, created_at,
          history;

-- name: put_again
-- What was dead keeps its name, which led to its grave.
WITH wanted AS MATERIALIZED (
    SELECT *
    FROM unnest(%(due_at)s::bigint[], %(tail)s::bigint[], %(shard)s::smallint[], %(name)s::text[],
                %(kind)s::text[], %(payload)s::bytea[], %(attempt)s::int[], %(failures)s::int[],
                %(crashes)s::int[], %(claim)s::bigint[], %(created_at)s::bigint[],
                %(history)s::bytea[])
         AS w(due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim,
              created_at, history)
), named AS (
    INSERT INTO {prefix}names(name, shard, due_at, tail)
    SELECT name, shard, due_at, tail FROM wanted
    ON CONFLICT (name) DO UPDATE
    SET shard = excluded.shard, due_at = excluded.due_at, tail = excluded.tail
)
INSERT INTO {prefix}events(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                           claim, created_at, history)
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created_at,
       history
FROM wanted;

-- name: schema
-- Where the tables are, for callers' connections whose search path may be another.
SELECT current_database(), n.nspname
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE c.oid = to_regclass('{prefix}events');

-- name: enter
-- In a transaction of the caller's: which database it is, and what its limits are. Who waits for
-- locks without end waits for a limited time while he is here.
SELECT current_database(), current_setting('transaction_isolation'),
       current_setting('lock_timeout'),
       CASE current_setting('lock_timeout')
            WHEN '0' THEN set_config('lock_timeout', %(wait)s, true) ELSE '' END;

-- name: leave_limit
-- The limit goes before the caller goes on.
SELECT set_config('lock_timeout', '0', true);

-- name: ring
-- A hint to the nodes, in a transaction of its own that does not wait for the disk: a notification
-- in that of an insert would hold a lock that all notifying transactions share while it is flushed.
SELECT set_config('synchronous_commit', 'off', true),
       pg_notify('{prefix}due', %(due_at)s::bigint::text);

-- name: listen
-- On a connection of its own. Behind a pooler that lends connections it may fail or hear nothing.
LISTEN "{prefix}due";

-- name: peek
-- One statement for all shards: each is one seek and stops at the limit.
SELECT e.due_at, e.kind
FROM unnest(%(shards)s::smallint[]) AS s(shard)
     CROSS JOIN LATERAL (
         SELECT i.due_at, i.kind FROM {prefix}events i
         WHERE i.shard = s.shard AND i.due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
           AND i.claim = 0 AND i.crashes BETWEEN %(least)s::int AND %(most)s::int
           AND (%(only)s::text[] IS NULL OR i.kind = ANY(%(only)s::text[]))
           AND i.kind <> ALL(%(without)s::text[])
         ORDER BY i.due_at LIMIT %(limit)s::bigint) e
ORDER BY e.due_at LIMIT %(limit)s::bigint;

-- name: claim
-- Shard by shard, soonest first, each row locked as it is picked: what another transaction holds is
-- passed by, so that nobody's open transaction stalls the rest. The loop over the shards stops at
-- the limit. The picked rows are marked by their ctid, which their locks hold in place: 140,000 to
-- 189,000 rows/s, against 50,000 to 64,000 by joining their keys and 187,000 by a range that waits
-- for locks. An array is computed once under every plan: joined as a subquery, the pick was run per
-- row and claimed 500 rows for a limit of 10.
WITH picked AS MATERIALIZED (
    SELECT e.at
    FROM unnest(%(shards)s::smallint[]) AS s(shard)
         CROSS JOIN LATERAL (
             SELECT i.ctid AS at FROM {prefix}events i
             WHERE i.shard = s.shard AND i.due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
               AND i.claim = 0 AND i.crashes BETWEEN %(least)s::int AND %(most)s::int
               AND (%(only)s::text[] IS NULL OR i.kind = ANY(%(only)s::text[]))
               AND i.kind <> ALL(%(without)s::text[])
             ORDER BY i.due_at, i.tail LIMIT %(limit)s::bigint
             FOR UPDATE SKIP LOCKED) e
    LIMIT %(limit)s::bigint
)
UPDATE {prefix}events e SET claim = %(number)s::bigint, attempt = e.attempt + 1
WHERE e.ctid = ANY(ARRAY(SELECT at FROM picked)) AND e.claim = 0
RETURNING e.due_at, e.tail, e.shard, e.name, e.kind, e.payload, e.attempt, e.failures, e.crashes,
          e.claim, e.created_at, e.history;

-- name: claim_by_key
-- For engines that speak this language and have no ctid (CockroachDB, YugabyteDB): the picked rows
-- are found again by their keys, each once. On PostgreSQL 54,000 to 64,000 rows/s, a third of the
-- other.
WITH picked AS MATERIALIZED (
    SELECT e.shard, e.due_at, e.tail
    FROM unnest(%(shards)s::smallint[]) AS s(shard)
         CROSS JOIN LATERAL (
             SELECT i.shard, i.due_at, i.tail FROM {prefix}events i
             WHERE i.shard = s.shard AND i.due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
               AND i.claim = 0 AND i.crashes BETWEEN %(least)s::int AND %(most)s::int
               AND (%(only)s::text[] IS NULL OR i.kind = ANY(%(only)s::text[]))
               AND i.kind <> ALL(%(without)s::text[])
             ORDER BY i.due_at, i.tail LIMIT %(limit)s::bigint
             FOR UPDATE SKIP LOCKED) e
    LIMIT %(limit)s::bigint
)
UPDATE {prefix}events e SET claim = %(number)s::bigint, attempt = e.attempt + 1
FROM picked p
WHERE e.shard = p.shard AND e.due_at = p.due_at AND e.tail = p.tail AND e.claim = 0
RETURNING e.due_at, e.tail, e.shard, e.name, e.kind, e.payload, e.attempt, e.failures, e.crashes,
          e.claim, e.created_at, e.history;

-- name: claimed
-- All that bears a number: for a claim that is asked for again after its answer was lost.
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, claim, created_at,
       history
FROM {prefix}events
WHERE shard = ANY(%(shards)s::smallint[]) AND due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
  AND claim = %(number)s::bigint;

-- name: settle_range
-- One DELETE for a whole claim: 500,000 to 900,000 rows/s against 100,000 by keys. The number keeps
-- late arrivals safe; named rows are left for their names row to go with them.
DELETE FROM {prefix}events
WHERE shard = ANY(%(shards)s::smallint[]) AND due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
  AND claim = %(number)s::bigint AND claim <> 0 AND name IS NULL;

-- name: settle_row
-- Done, by places; claim 0 is nobody's. A name goes only with its event.
WITH gone AS (
    DELETE FROM {prefix}events e
    USING unnest(%(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[],
                 %(claims)s::bigint[]) AS w(shard, due_at, tail, claim)
    WHERE e.shard = w.shard AND e.due_at = w.due_at AND e.tail = w.tail
      AND e.claim = w.claim AND e.claim <> 0
    RETURNING e.name
), dropped AS (
    DELETE FROM {prefix}names n USING gone g WHERE n.name = g.name
)
SELECT count(*) FROM gone;

-- name: settle_move
-- Retried, parked or given back: free again, at another place (with a name from then on) or its
-- own.
WITH moved AS (
    UPDATE {prefix}events e
    SET shard = w.to_shard, due_at = w.to_due_at, payload = w.payload, attempt = w.attempt,
        failures = w.failures, crashes = w.crashes, history = w.history, name = w.to_name,
        claim = 0
    FROM unnest(%(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[],
                %(claims)s::bigint[], %(to_shards)s::smallint[], %(to_due_at)s::bigint[],
                %(payloads)s::bytea[], %(attempts)s::int[], %(failures)s::int[],
                %(crashes)s::int[], %(histories)s::bytea[], %(to_names)s::text[])
         AS w(shard, due_at, tail, claim, to_shard, to_due_at, payload, attempt, failures,
              crashes, history, to_name)
    WHERE e.shard = w.shard AND e.due_at = w.due_at AND e.tail = w.tail
      AND e.claim = w.claim AND e.claim <> 0
    RETURNING e.due_at, e.tail, e.shard, e.name
), named AS (
    INSERT INTO {prefix}names(name, shard, due_at, tail)
    SELECT name, shard, due_at, tail FROM moved WHERE name IS NOT NULL
    ON CONFLICT (name) DO UPDATE
    SET shard = excluded.shard, due_at = excluded.due_at, tail = excluded.tail
)
SELECT count(*) FROM moved;

-- name: bury
-- From one table to the other under its claim; the name then leads to the grave, shard -2.
WITH gone AS (
    DELETE FROM {prefix}events e
    USING unnest(%(shards)s::smallint[], %(due_at)s::bigint[], %(tails)s::bigint[],
                 %(claims)s::bigint[], %(names)s::text[], %(failures)s::int[],
                 %(histories)s::bytea[], %(died_at)s::bigint[], %(reasons)s::text[])
          AS w(shard, due_at, tail, claim, name, failures, history, died_at, reason)
    WHERE e.shard = w.shard AND e.due_at = w.due_at AND e.tail = w.tail
      AND e.claim = w.claim AND e.claim <> 0
    RETURNING e.due_at, e.tail, e.shard, w.name, e.kind, e.payload, e.attempt, w.failures,
              e.crashes, e.created_at, w.history, w.died_at, w.reason
), buried AS (
    INSERT INTO {prefix}dead(due_at, tail, shard, name, kind, payload, attempt, failures, crashes,
                             created_at, history, died_at, reason)
    SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, created_at,
           history, died_at, reason
    FROM gone
), named AS (
    INSERT INTO {prefix}names(name, shard, due_at, tail)
    SELECT name, -2, 0, 0 FROM gone
    ON CONFLICT (name) DO UPDATE SET shard = -2, due_at = 0, tail = 0
)
SELECT count(*) FROM gone;

-- name: issue_number
-- Node numbers only grow: a number that was struck off never comes back.
UPDATE {prefix}meta SET value = value + 1 WHERE name = 'issued' RETURNING value;

-- name: join
-- A node that asks again after a lost answer leaves its earlier number.
INSERT INTO {prefix}nodes(number, id, counter, info) VALUES (%(number)s, %(node)s, 1, %(info)s);

-- name: leave
-- The earlier numbers of a node that joins (again).
DELETE FROM {prefix}nodes WHERE id = %(node)s;

-- name: beat
-- Number and id: a number struck off and the id of another are nobody's.
UPDATE {prefix}nodes SET counter = counter + 1, info = %(info)s
WHERE number = %(number)s AND id = %(node)s;

-- name: members
-- The whole roll, a handful of rows; one without a node when it is empty. With the clock: one
-- round trip less per beat.
SELECT m.value, floor(extract(epoch FROM clock_timestamp()) * 1000000)::bigint,
       n.number, n.id, n.counter, n.info
FROM {prefix}meta m LEFT JOIN {prefix}nodes n ON true
WHERE m.name = 'issued' ORDER BY n.number;

-- name: strike
-- Compare-and-set: a node that has beaten meanwhile stays.
DELETE FROM {prefix}nodes
WHERE number = %(number)s AND (%(counter)s::bigint IS NULL OR counter = %(counter)s::bigint);

-- name: owners
-- Reads the due part of these shards; what is not yet due is not looked at.
SELECT DISTINCT claim >> 32 FROM {prefix}events
WHERE shard = ANY(%(shards)s::smallint[]) AND due_at <= %(high)s::bigint AND claim <> 0;

-- name: rescue
-- A node's numbers are those from its own << 32 on. Due by `suspects`: it may have run, a crash;
-- due later: it cannot have started, so the attempt is taken back. What somebody else holds (the
-- node itself, perhaps, cut off in the middle of a transaction) is left for the next time: it would
-- hold up all the others.
WITH free AS MATERIALIZED (
    SELECT shard, due_at, tail FROM {prefix}events
    WHERE shard = ANY(%(shards)s::smallint[]) AND due_at <= %(high)s::bigint
      AND claim BETWEEN %(first)s::bigint AND %(last)s::bigint AND claim <> 0
    FOR UPDATE SKIP LOCKED
)
UPDATE {prefix}events e
SET claim = 0,
    crashes = e.crashes + CASE WHEN e.due_at <= %(suspects)s::bigint THEN 1 ELSE 0 END,
    attempt = greatest(e.attempt - CASE WHEN e.due_at > %(suspects)s::bigint THEN 1 ELSE 0 END, 0)
FROM free f
WHERE e.shard = f.shard AND e.due_at = f.due_at AND e.tail = f.tail
  AND e.claim BETWEEN %(first)s::bigint AND %(last)s::bigint AND e.claim <> 0;

-- name: find
-- Each shard from the last page's end on: one seek a shard, whatever the page.
SELECT e.due_at, e.tail, e.shard, e.name, e.kind, e.payload, e.attempt, e.failures, e.crashes,
       e.claim, e.created_at, e.history
FROM unnest(%(shards)s::smallint[], %(lows)s::bigint[], %(tails)s::bigint[])
     AS s(shard, low, tail)
     CROSS JOIN LATERAL (
         SELECT * FROM {prefix}events i
         WHERE i.shard = s.shard AND (i.due_at, i.tail) > (s.low, s.tail)
           AND i.due_at <= %(high)s::bigint
           AND (%(kind)s::text IS NULL OR i.kind = %(kind)s::text)
           AND (%(claimed)s::boolean IS NULL OR (i.claim <> 0) = %(claimed)s::boolean)
         ORDER BY i.due_at, i.tail LIMIT %(limit)s::bigint) e
ORDER BY e.due_at, e.shard, e.tail LIMIT %(limit)s::bigint;

-- name: find_dead
-- By the index on (died_at, name), from the last page's end on.
SELECT due_at, tail, shard, name, kind, payload, attempt, failures, crashes, 0, created_at,
       history, died_at, reason
FROM {prefix}dead
WHERE (died_at, name) > (%(died_at)s::bigint, %(name)s::text)
  AND due_at BETWEEN %(low)s::bigint AND %(high)s::bigint
  AND (%(kind)s::text IS NULL OR kind = %(kind)s::text)
ORDER BY died_at, name LIMIT %(limit)s::bigint;

-- name: count_events
-- One pass over the table: for people, not for the hot path.
SELECT kind,
       CASE WHEN claim <> 0 THEN 'claimed' WHEN shard = -1 THEN 'parked' ELSE 'scheduled' END,
       count(*), count(*) FILTER (WHERE due_at < %(now)s::bigint)
FROM {prefix}events GROUP BY 1, 2;

-- name: count_dead
-- The dead are few.
SELECT kind, count(*) FROM {prefix}dead GROUP BY kind;

-- name: settings
-- What decides whether the promises hold, for `duetime check`.
SELECT current_setting('server_version'), current_setting('server_version_num')::int,
       current_setting('server_encoding'), current_setting('fsync'),
       current_setting('full_page_writes'), current_setting('synchronous_commit'),
       current_setting('autovacuum'), current_setting('default_transaction_read_only'),
       pg_is_in_recovery();

-- name: tables
-- What this role may do with each table, and what was set for it.
SELECT c.relname, c.relpersistence, coalesce(array_to_string(c.reloptions, ','), ''),
       has_table_privilege(c.oid, 'SELECT')
       AND (c.relname = '{prefix}version' OR has_table_privilege(c.oid, 'INSERT')
            AND has_table_privilege(c.oid, 'UPDATE') AND has_table_privilege(c.oid, 'DELETE'))
FROM pg_class c
WHERE c.oid IN (SELECT to_regclass(t.name) FROM unnest(%(tables)s::text[]) AS t(name));

-- name: oldest
-- Whoever has been in a transaction for longest: until it ends, no dead row can be cleared.
SELECT pid, coalesce(usename, ''), coalesce(application_name, ''), coalesce(state, ''),
       floor(extract(epoch FROM xact_start) * 1000000)::bigint
FROM pg_stat_activity
WHERE datname = current_database() AND xact_start IS NOT NULL AND pid <> pg_backend_pid()
ORDER BY xact_start LIMIT 1;
