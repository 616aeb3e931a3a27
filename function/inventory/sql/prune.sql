-- What a prune asks and drops: next_machines or next_due_machines, lock_pruned_machines, forget_dead_machines,
-- drop_old_machines, drop_redundant_machines and end_due_machines in transactions of some machines each, and then the
-- same for instances; a test holds them alike.
-- after: a key, as an array of its columns. rows: keys, as JSON objects. dry_run: count only.

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

-- lock_pruned_machines (rows)
-- Keeps the writers of these machines waiting until the end of the transaction: a version that came in between would
-- not be seen.
PREPARE lock_pruned_machines (json) AS
SELECT count(*)
FROM (
    SELECT
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
) AS locked;

-- find_due_machines (since, old_before, old, redundant_before, redundant)
-- Notes the machines of which a version was recorded since then, or has become old enough since the cuts of before.
PREPARE find_due_machines (timestamptz, timestamptz, timestamptz, timestamptz, timestamptz) AS
WITH due AS MATERIALIZED (
    SELECT cluster, namespace, name FROM vm_history WHERE effective_at > $2 AND effective_at <= $3
    UNION
    SELECT cluster, namespace, name FROM vm_history WHERE effective_at > $4 AND effective_at <= $5
    UNION
    SELECT cluster, namespace, name FROM vm_history WHERE recorded_at > $1 AND effective_at <= $5
)
INSERT INTO prune_due (objects, cluster, namespace, name)
SELECT 'machines', cluster, namespace, name FROM due
ON CONFLICT DO NOTHING;

-- next_due_machines (after, batch)
-- Returns the keys of the next machines that are due, in the order in which all writers lock them.
PREPARE next_due_machines (text[], bigint) AS
SELECT cluster, namespace, name
FROM prune_due
WHERE objects = 'machines' AND (cluster, namespace, name) > ($1[1], $1[2], $1[3])
ORDER BY cluster, namespace, name
LIMIT $2;

-- leave_machines (rows)
-- Notes machines that the next run has to look at.
PREPARE leave_machines (json) AS
WITH due AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
)
INSERT INTO prune_due (objects, cluster, namespace, name)
SELECT 'machines', cluster, namespace, name FROM due
ON CONFLICT DO NOTHING;

-- end_due_machines (rows)
-- Notes that machines were looked at.
PREPARE end_due_machines (json) AS
DELETE FROM prune_due AS p
USING json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
WHERE p.objects = 'machines' AND p.cluster = r.cluster AND p.namespace = r.namespace AND p.name = r.name;

-- forget_dead_machines (rows, old, dry_run)
-- Lets go, with all their versions, of the machines that are gone since before the time old, and returns their keys.
-- Only of those whose tombstone is not newer than the last complete list: by that, an event that comes later still
-- cannot raise them. As long as a cluster has no such list, they stay.
PREPARE forget_dead_machines (json, timestamptz, boolean) AS
WITH dead AS MATERIALIZED (
    SELECT s.cluster, s.namespace, s.name
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    JOIN clusters AS c ON c.cluster = s.cluster
    WHERE s.deleted_at IS NOT NULL AND s.effective_at <= $2
      AND coalesce(s.known_at, s.effective_at) <= c.machines_time
      AND (s.version_number < 0
           OR (s.version_epoch, s.version_number) <= (c.machines_epoch, c.machines_version))
), versions AS (
    DELETE FROM vm_history AS h
    USING dead AS d
    WHERE NOT $3 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
), states AS (
    DELETE FROM vm_state AS s
    USING dead AS d
    WHERE NOT $3 AND s.cluster = d.cluster AND s.namespace = d.namespace AND s.name = d.name
)
SELECT cluster, namespace, name FROM dead;

-- drop_old_machines (rows, old, dry_run)
-- Drops, and counts, the versions that had a newer one in force by the time old.
PREPARE drop_old_machines (json, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.effective_at, h.version_epoch, h.version_number, h.version_time,
               h.version_step
        FROM vm_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.effective_at <= $2
        ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
        OFFSET 1
    ) AS h
), dropped AS (
    DELETE FROM vm_history AS h
    USING doomed AS d
    WHERE NOT $3 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- drop_redundant_machines (rows, old, redundant, dry_run)
-- Drops, and counts, the versions between the times old and redundant that were never in force, or have the same facts
-- as the version before them; but never the newest.
PREPARE drop_redundant_machines (json, timestamptz, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.effective_at, h.version_epoch, h.version_number, h.version_time,
               h.version_step,
               h.overtaken
               OR f.facts IS NOT DISTINCT FROM lag(f.facts) OVER versions AND lag(1) OVER versions = 1 AS silent
        FROM vm_history AS h
        CROSS JOIN LATERAL (
            SELECT ROW (h.kind, h.uid, h.cpucores, h.cpusockets, h.cputhreads, h.vcpus, h.memory, h.memory_bytes,
                        h.storageclass, h.network, h.instancetype, h.preference, h.run_strategy, h.status, h.os,
                        h.architecture, h.machine_type, h.disks, h.disk_bytes, h.labels, h.owner, h.created_at,
                        h.deleted_at)
        ) AS f (facts)
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.effective_at <= $3
        WINDOW versions AS (
            PARTITION BY h.overtaken
            ORDER BY h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
        )
        OFFSET 0
    ) AS h
    WHERE h.silent AND h.effective_at > $2
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          < (s.version_epoch, s.version_number, s.version_time, s.version_step)
), dropped AS (
    DELETE FROM vm_history AS h
    USING doomed AS d
    WHERE NOT $4 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
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

-- lock_pruned_instances (rows)
-- Keeps the writers of these instances waiting until the end of the transaction: a version that came in between would
-- not be seen.
PREPARE lock_pruned_instances (json) AS
SELECT count(*)
FROM (
    SELECT
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    JOIN vm_runtime AS s
        ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    ORDER BY s.cluster, s.namespace, s.name, s.owner_uid
    FOR NO KEY UPDATE OF s
) AS locked;

-- find_due_instances (since, old_before, old, redundant_before, redundant)
-- Notes the instances of which a version was recorded since then, or has become old enough since the cuts of before.
PREPARE find_due_instances (timestamptz, timestamptz, timestamptz, timestamptz, timestamptz) AS
WITH due AS MATERIALIZED (
    SELECT cluster, namespace, name, owner_uid FROM vm_runtime_history WHERE effective_at > $2 AND effective_at <= $3
    UNION
    SELECT cluster, namespace, name, owner_uid FROM vm_runtime_history WHERE effective_at > $4 AND effective_at <= $5
    UNION
    SELECT cluster, namespace, name, owner_uid FROM vm_runtime_history WHERE recorded_at > $1 AND effective_at <= $5
)
INSERT INTO prune_due (objects, cluster, namespace, name, owner_uid)
SELECT 'instances', cluster, namespace, name, owner_uid FROM due
ON CONFLICT DO NOTHING;

-- next_due_instances (after, batch)
-- Returns the keys of the next instances that are due, in the order in which all writers lock them.
PREPARE next_due_instances (text[], bigint) AS
SELECT cluster, namespace, name, owner_uid
FROM prune_due
WHERE objects = 'instances' AND (cluster, namespace, name, owner_uid) > ($1[1], $1[2], $1[3], $1[4])
ORDER BY cluster, namespace, name, owner_uid
LIMIT $2;

-- leave_instances (rows)
-- Notes instances that the next run has to look at.
PREPARE leave_instances (json) AS
WITH due AS MATERIALIZED (
    SELECT *
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
)
INSERT INTO prune_due (objects, cluster, namespace, name, owner_uid)
SELECT 'instances', cluster, namespace, name, owner_uid FROM due
ON CONFLICT DO NOTHING;

-- end_due_instances (rows)
-- Notes that instances were looked at.
PREPARE end_due_instances (json) AS
DELETE FROM prune_due AS p
USING json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
WHERE p.objects = 'instances' AND p.cluster = r.cluster AND p.namespace = r.namespace AND p.name = r.name
  AND p.owner_uid = r.owner_uid;

-- forget_dead_instances (rows, old, dry_run)
-- As forget_dead_machines; the instances of a machine that is known by that uid stay, because it shows them.
PREPARE forget_dead_instances (json, timestamptz, boolean) AS
WITH dead AS MATERIALIZED (
    SELECT s.cluster, s.namespace, s.name, s.owner_uid
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    JOIN vm_runtime AS s
        ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    JOIN clusters AS c ON c.cluster = s.cluster
    WHERE s.deleted_at IS NOT NULL AND s.effective_at <= $2
      AND coalesce(s.known_at, s.effective_at) <= c.instances_time
      AND (s.version_number < 0
           OR (s.version_epoch, s.version_number) <= (c.instances_epoch, c.instances_version))
      AND NOT EXISTS (
          SELECT FROM vm_state AS m
          WHERE m.cluster = s.cluster AND m.namespace = s.namespace AND m.name = s.name AND m.uid = s.owner_uid
          OFFSET 0
      )
), versions AS (
    DELETE FROM vm_runtime_history AS h
    USING dead AS d
    WHERE NOT $3 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND h.owner_uid = d.owner_uid
), states AS (
    DELETE FROM vm_runtime AS s
    USING dead AS d
    WHERE NOT $3 AND s.cluster = d.cluster AND s.namespace = d.namespace AND s.name = d.name
      AND s.owner_uid = d.owner_uid
)
SELECT cluster, namespace, name, owner_uid FROM dead;

-- drop_old_instances (rows, old, dry_run)
-- Drops, and counts, the versions that had a newer one in force by the time old.
PREPARE drop_old_instances (json, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    JOIN vm_runtime AS s
        ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    CROSS JOIN LATERAL (
        SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.effective_at, h.version_epoch, h.version_number,
               h.version_time, h.version_step
        FROM vm_runtime_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
          AND h.effective_at <= $2
        ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
        OFFSET 1
    ) AS h
), dropped AS (
    DELETE FROM vm_runtime_history AS h
    USING doomed AS d
    WHERE NOT $3 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND h.owner_uid = d.owner_uid
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- drop_redundant_instances (rows, old, redundant, dry_run)
-- Drops, and counts, the versions between the times old and redundant that were never in force, or have the same facts
-- as the version before them; but never the newest.
PREPARE drop_redundant_instances (json, timestamptz, timestamptz, boolean) AS
WITH doomed AS MATERIALIZED (
    SELECT h.*
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    JOIN vm_runtime AS s
        ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
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
          AND h.effective_at <= $3
        WINDOW versions AS (
            PARTITION BY h.overtaken
            ORDER BY h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
        )
        OFFSET 0
    ) AS h
    WHERE h.silent AND h.effective_at > $2
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          < (s.version_epoch, s.version_number, s.version_time, s.version_step)
), dropped AS (
    DELETE FROM vm_runtime_history AS h
    USING doomed AS d
    WHERE NOT $4 AND h.cluster = d.cluster AND h.namespace = d.namespace AND h.name = d.name
      AND h.owner_uid = d.owner_uid
      AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (d.effective_at, d.version_epoch, d.version_number, d.version_time, d.version_step)
)
SELECT count(*) FROM doomed;

-- leave_instances_of (rows)
-- Notes the instances of machines that were let go: nothing shows them any more.
PREPARE leave_instances_of (json) AS
WITH due AS MATERIALIZED (
    SELECT i.cluster, i.namespace, i.name, i.owner_uid
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    JOIN vm_runtime AS i ON i.cluster = r.cluster AND i.namespace = r.namespace AND i.name = r.name
)
INSERT INTO prune_due (objects, cluster, namespace, name, owner_uid)
SELECT 'instances', cluster, namespace, name, owner_uid FROM due
ON CONFLICT DO NOTHING;

-- find_looked_through (objects)
-- Returns what is known of the last time that a history was looked through, and the time of the database.
PREPARE find_looked_through (text) AS
SELECT l.looked_at, l.old, l.redundant, l.whole_at, now()
FROM (SELECT) AS one
LEFT JOIN prune_looked AS l ON l.objects = $1;

-- note_looked_through (objects, looked_at, old, redundant, whole_at)
-- Notes that a history was looked through.
PREPARE note_looked_through (text, timestamptz, timestamptz, timestamptz, timestamptz) AS
INSERT INTO prune_looked AS l (objects, looked_at, old, redundant, whole_at)
VALUES ($1, $2, $3, $4, $5)
ON CONFLICT (objects) DO UPDATE
SET (looked_at, old, redundant, whole_at)
  = (excluded.looked_at, excluded.old, excluded.redundant, excluded.whole_at);

-- count_left (objects)
-- Counts the objects of a kind that are due, for the progress.
PREPARE count_left (text) AS
SELECT count(*) FROM prune_due WHERE objects = $1;

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
