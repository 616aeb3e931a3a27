-- What a prune asks and drops: next_machines, lock_range_machines, drop_old_machines and drop_redundant_machines in
-- transactions of some machines each, and then the same for instances; a test holds them alike.
-- after, first and last are keys, as arrays of their columns. dry_run: count only.

-- wait_shortly ()
-- Lets this transaction wait only so long for a row that another one holds: the writers of all machines that it has
-- locked itself wait as long.
SET LOCAL lock_timeout = '200ms';

-- count_machines ()
-- Counts the machines, for the progress.
PREPARE count_machines AS
SELECT count(*) FROM vm_state;

-- next_machines (after, batch)
-- Returns the keys of the next machines, in the order in which all writers lock them.
PREPARE next_machines (text[], bigint) AS
SELECT s.cluster, s.namespace, s.name
FROM vm_state AS s
WHERE (s.cluster, s.namespace, s.name) > ($1[1], $1[2], $1[3])
ORDER BY s.cluster, s.namespace, s.name
LIMIT $2;

-- lock_range_machines (first, last)
-- Keeps the writers of these machines waiting until the end of the transaction: a version that came in between would
-- not be seen.
PREPARE lock_range_machines (text[], text[]) AS
SELECT count(*)
FROM (
    SELECT FROM vm_state AS s
    WHERE (s.cluster, s.namespace, s.name) BETWEEN ($1[1], $1[2], $1[3]) AND ($2[1], $2[2], $2[3])
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
) AS locked;

-- drop_old_machines (first, last, old, dry_run)
-- Drops, and counts, the versions that had a newer one in force by the time old.
PREPARE drop_old_machines (text[], text[], timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM vm_state AS s
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.effective_at, h.version_epoch, h.version_number, h.version_time,
               h.version_step
        FROM vm_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.effective_at <= $3
        ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
        OFFSET 1
    ) AS h
    WHERE (s.cluster, s.namespace, s.name) BETWEEN ($1[1], $1[2], $1[3]) AND ($2[1], $2[2], $2[3])
), dropped AS (
    DELETE FROM vm_history AS h
    USING doomed AS d
    WHERE NOT $4 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- drop_redundant_machines (first, last, old, redundant, dry_run)
-- Drops, and counts, the versions between the times old and redundant that were never in force, or have the same facts
-- as the version before them; but never the newest.
PREPARE drop_redundant_machines (text[], text[], timestamptz, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM vm_state AS s
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.effective_at, h.version_epoch, h.version_number, h.version_time,
               h.version_step,
               h.overtaken
               OR f.facts IS NOT DISTINCT FROM lag(f.facts) OVER versions AND lag(1) OVER versions = 1 AS silent
        FROM vm_history AS h
        CROSS JOIN LATERAL (
            SELECT ROW (h.kind, h.uid, h.cpucores, h.cpusockets, h.cputhreads, h.vcpus, h.memory, h.memory_bytes,
                        h.storageclass, h.network, h.instancetype, h.preference, h.run_strategy, h.status, h.os,
                        h.architecture, h.machine_type, h.disks, h.disk_bytes, h.labels, h.created_at, h.deleted_at)
        ) AS f (facts)
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.effective_at <= $4
        WINDOW versions AS (PARTITION BY h.overtaken ORDER BY h.effective_at)
        OFFSET 0
    ) AS h
    WHERE (s.cluster, s.namespace, s.name) BETWEEN ($1[1], $1[2], $1[3]) AND ($2[1], $2[2], $2[3])
      AND h.silent AND h.effective_at > $3
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          < (s.version_epoch, s.version_number, s.version_time, s.version_step)
), dropped AS (
    DELETE FROM vm_history AS h
    USING doomed AS d
    WHERE NOT $5 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- count_instances ()
-- Counts the instances, for the progress.
PREPARE count_instances AS
SELECT count(*) FROM vm_runtime;

-- next_instances (after, batch)
-- Returns the keys of the next instances, in the order in which all writers lock them.
PREPARE next_instances (text[], bigint) AS
SELECT s.cluster, s.namespace, s.name, s.owner_uid
FROM vm_runtime AS s
WHERE (s.cluster, s.namespace, s.name, s.owner_uid) > ($1[1], $1[2], $1[3], $1[4])
ORDER BY s.cluster, s.namespace, s.name, s.owner_uid
LIMIT $2;

-- lock_range_instances (first, last)
-- Keeps the writers of these instances waiting until the end of the transaction: a version that came in between would
-- not be seen.
PREPARE lock_range_instances (text[], text[]) AS
SELECT count(*)
FROM (
    SELECT FROM vm_runtime AS s
    WHERE (s.cluster, s.namespace, s.name, s.owner_uid) BETWEEN ($1[1], $1[2], $1[3], $1[4])
          AND ($2[1], $2[2], $2[3], $2[4])
    ORDER BY s.cluster, s.namespace, s.name, s.owner_uid
    FOR NO KEY UPDATE OF s
) AS locked;

-- drop_old_instances (first, last, old, dry_run)
-- Drops, and counts, the versions that had a newer one in force by the time old.
PREPARE drop_old_instances (text[], text[], timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM vm_runtime AS s
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.effective_at, h.version_epoch, h.version_number,
               h.version_time, h.version_step
        FROM vm_runtime_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
          AND h.effective_at <= $3
        ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
        OFFSET 1
    ) AS h
    WHERE (s.cluster, s.namespace, s.name, s.owner_uid) BETWEEN ($1[1], $1[2], $1[3], $1[4])
          AND ($2[1], $2[2], $2[3], $2[4])
), dropped AS (
    DELETE FROM vm_runtime_history AS h
    USING doomed AS d
    WHERE NOT $4 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND h.owner_uid = d.owner_uid
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- drop_redundant_instances (first, last, old, redundant, dry_run)
-- Drops, and counts, the versions between the times old and redundant that were never in force, or have the same facts
-- as the version before them; but never the newest.
PREPARE drop_redundant_instances (text[], text[], timestamptz, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM vm_runtime AS s
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.effective_at, h.version_epoch, h.version_number,
               h.version_time, h.version_step,
               h.overtaken
               OR f.facts IS NOT DISTINCT FROM lag(f.facts) OVER versions AND lag(1) OVER versions = 1 AS silent
        FROM vm_runtime_history AS h
        CROSS JOIN LATERAL (
            SELECT ROW (h.uid, h.node, h.ip_addresses, h.guest_os, h.phase, h.live_vcpus, h.live_memory_bytes,
                        h.deleted_at)
        ) AS f (facts)
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
          AND h.effective_at <= $4
        WINDOW versions AS (PARTITION BY h.overtaken ORDER BY h.effective_at)
        OFFSET 0
    ) AS h
    WHERE (s.cluster, s.namespace, s.name, s.owner_uid) BETWEEN ($1[1], $1[2], $1[3], $1[4])
          AND ($2[1], $2[2], $2[3], $2[4])
      AND h.silent AND h.effective_at > $3
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          < (s.version_epoch, s.version_number, s.version_time, s.version_step)
), dropped AS (
    DELETE FROM vm_runtime_history AS h
    USING doomed AS d
    WHERE NOT $5 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND h.owner_uid = d.owner_uid
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- find_months (history)
-- Returns the tables of the months of a history and each month's end, the first month first; without the tables before
-- the first and after the last.
PREPARE find_months (text) AS
SELECT p.relname, substring(pg_get_expr(p.relpartbound, p.oid) FROM $re$TO \('([^']+)'\)$re$)::timestamptz
FROM pg_inherits AS i
JOIN pg_class AS p ON p.oid = i.inhrelid
WHERE i.inhparent = $1::regclass AND p.relname NOT IN ($1 || '_before', $1 || '_after')
ORDER BY 2;

-- add_month (history)
-- Makes the table of the month after the last one; returns its name.
PREPARE add_month (text) AS
SELECT ledger_add_month($1);

-- find_times (months)
-- Returns now, and the time up to which months should be ready.
PREPARE find_times (integer) AS
SELECT now(), date_trunc('month', now()) + make_interval(months => $1);

-- drop_old_runs (old)
-- Drops the reconciles that began before the time old, but the newest of each cluster.
PREPARE drop_old_runs (timestamptz) AS
DELETE FROM reconcile_runs AS r
WHERE r.started_at < $1
  AND EXISTS (SELECT FROM reconcile_runs AS n WHERE n.cluster = r.cluster AND n.run > r.run AND NOT n.dry_run);

-- note_prune (old, redundant)
-- Notes that a prune came to its end, and drops the notes of those before the last hundred.
PREPARE note_prune (bigint, bigint) AS
WITH doomed AS (
    DELETE FROM prune_runs WHERE run <= (SELECT max(run) - 99 FROM prune_runs)
)
INSERT INTO prune_runs (old, redundant) VALUES ($1, $2);
