-- How a reconcile refutes: what the API server's list proves to be untrue leaves the order of the versions.
-- A list's version is at least that of everything that existed when it was asked for. So a greater version of its epoch
-- that was stored before the list began, by the database's clock, was made up, or belongs to a timeline that a restored
-- backup has ended. The history keeps it in epoch -1, below every other, as never in force; its version_time is then
-- the time at which it was refuted, so the same version can be refuted more than once.
-- The statements for instances are those for machines with other tables and columns, as in the store's files.
-- Rows are found by the primary key: IS NOT DISTINCT FROM keeps Postgres from the index by version, in which any number
-- of made-up rows may have the same version.
-- A portion of the objects is one transaction, which takes their locks as their writers do, in the order of the keys.

-- doubtful_machines (cluster, epoch, version, began, namespace, name, batch)
-- Returns the machines whose state is a version that the list refutes, with its number: the next ones after a namespace
-- and name.
PREPARE doubtful_machines (text, smallint, bigint, timestamptz, text, text, bigint) AS
SELECT s.namespace, s.name, s.version_number
FROM vm_state AS s
WHERE s.cluster = $1 AND s.version_epoch = $2 AND s.version_number > $3
  AND EXISTS (
      SELECT FROM vm_history AS h
      WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name
        AND h.effective_at = s.effective_at AND h.recorded_at < $4
        AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
            IS NOT DISTINCT FROM (s.version_epoch, s.version_number, s.version_time, s.version_step)
      OFFSET 0
  )
  AND (s.namespace, s.name) > ($5, $6)
ORDER BY s.namespace, s.name
LIMIT $7;

-- refute_machines (rows, epoch, version, began)
-- Moves what the list refutes to epoch -1, and decides anew, as merge_machines does, whether the machine's other
-- versions were ever in force, and since when.
PREPARE refute_machines (json, smallint, bigint, timestamptz) AS
UPDATE vm_history AS h
SET version_epoch = CASE WHEN k.refuted THEN -1 ELSE h.version_epoch END,
    version_time = CASE WHEN k.refuted THEN now() + k.number * interval '1 microsecond' ELSE h.version_time END,
    overtaken = k.overtaken_now, effective_at = k.effective_now
FROM (
    SELECT v.*, row_number() OVER () AS number
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    CROSS JOIN LATERAL (
        SELECT v.*, CASE
                   WHEN v.refuted THEN v.effective_at
                   WHEN v.overtaken_now THEN v.claimed_at
                   ELSE max(v.claimed_at) FILTER (WHERE NOT v.overtaken_now) OVER earlier
               END AS effective_now
        FROM (
            SELECT v.*, v.refuted OR v.claimed_at > min(v.seen_at) FILTER (WHERE NOT v.refuted) OVER later
                   AS overtaken_now
            FROM (
                SELECT h.*, h.version_epoch = $2 AND h.version_number > $3 AND h.recorded_at < $4 AS refuted,
                       coalesce(h.known_at, h.effective_at) AS seen_at,
                       coalesce(least(h.object_time, h.known_at), h.effective_at) AS claimed_at
                FROM vm_history AS h
                WHERE h.cluster = r.cluster AND h.namespace = r.namespace AND h.name = r.name AND h.version_epoch >= 0
            ) AS v
            WINDOW later AS (
                ORDER BY v.version_epoch DESC, v.version_number DESC, v.version_time DESC, v.version_step DESC
            )
        ) AS v
        WINDOW earlier AS (ORDER BY v.version_epoch, v.version_number, v.version_time, v.version_step)
        OFFSET 0
    ) AS v
    WHERE v.refuted OR (v.overtaken_now, v.effective_now) <> (v.overtaken, v.effective_at)
) AS k
WHERE h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name AND h.effective_at = k.effective_at
  AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
      IS NOT DISTINCT FROM (k.version_epoch, k.version_number, k.version_time, k.version_step);

-- restore_machines (rows)
-- Lets the state be the newest version that is left; the refuted one itself where none is, until the list corrects it.
PREPARE restore_machines (json) AS
UPDATE vm_state AS s
SET (type, id, time, uid, resource_version, changed_by, kind, generation, cpucores, cpusockets, cputhreads, spec_vcpus,
     memory, spec_memory_bytes, storageclass, network, instancetype, preference, run_strategy, status, os, architecture,
     machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at, version_epoch, version_number,
     version_time, version_step, shape, digest, object_time, known_at, effective_at, updated_at, node, ip_addresses,
     guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at)
  = (n.type, n.id, n.time, n.uid, n.resource_version, n.changed_by, n.kind, n.generation, n.cpucores, n.cpusockets,
     n.cputhreads, n.vcpus, n.memory, n.memory_bytes, n.storageclass, n.network, n.instancetype, n.preference,
     n.run_strategy, n.status, n.os, n.architecture, n.machine_type, n.disks, n.disk_bytes, n.labels, n.owner,
     n.created_at, n.deleted_at, n.version_epoch, n.version_number, n.version_time, n.version_step, n.shape, n.digest,
     n.object_time, n.known_at, n.effective_at, now(), i.node, i.ip_addresses, i.guest_os, i.phase, i.live_vcpus,
     i.live_memory_bytes, i.effective_at),
    -- A size that was looked up holds for the same machine and the same instancetype.
    instancetype_vcpus = CASE WHEN (s.uid, s.instancetype) IS NOT DISTINCT FROM (n.uid, n.instancetype)
                         THEN s.instancetype_vcpus END,
    instancetype_memory_bytes = CASE WHEN (s.uid, s.instancetype) IS NOT DISTINCT FROM (n.uid, n.instancetype)
                                THEN s.instancetype_memory_bytes END,
    instancetype_revision = CASE WHEN (s.uid, s.instancetype) IS NOT DISTINCT FROM (n.uid, n.instancetype)
                            THEN s.instancetype_revision END
FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
CROSS JOIN LATERAL (
    SELECT * FROM vm_history AS h
    WHERE h.cluster = r.cluster AND h.namespace = r.namespace AND h.name = r.name
    ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
    LIMIT 1
) AS n
LEFT JOIN vm_runtime AS i
    ON i.cluster = n.cluster AND i.namespace = n.namespace AND i.name = n.name AND i.owner_uid = n.uid
WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
  AND (s.version_epoch, s.version_number, s.version_time, s.version_step)
      IS DISTINCT FROM (n.version_epoch, n.version_number, n.version_time, n.version_step);

-- doubtful_instances (cluster, epoch, version, began, namespace, name, owner_uid, batch)
-- See doubtful_machines.
PREPARE doubtful_instances (text, smallint, bigint, timestamptz, text, text, text, bigint) AS
SELECT s.namespace, s.name, s.owner_uid, s.version_number
FROM vm_runtime AS s
WHERE s.cluster = $1 AND s.version_epoch = $2 AND s.version_number > $3
  AND EXISTS (
      SELECT FROM vm_runtime_history AS h
      WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
        AND h.effective_at = s.effective_at AND h.recorded_at < $4
        AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
            IS NOT DISTINCT FROM (s.version_epoch, s.version_number, s.version_time, s.version_step)
      OFFSET 0
  )
  AND (s.namespace, s.name, s.owner_uid) > ($5, $6, $7)
ORDER BY s.namespace, s.name, s.owner_uid
LIMIT $8;

-- hold_instances (rows)
-- Locks the states of instances in the order of their keys, as all writers do.
PREPARE hold_instances (json) AS
SELECT count(*)
FROM (
    SELECT
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    JOIN vm_runtime AS s USING (cluster, namespace, name, owner_uid)
    ORDER BY s.cluster, s.namespace, s.name, s.owner_uid
    FOR NO KEY UPDATE OF s
) AS locked;

-- refute_instances (rows, epoch, version, began)
-- See refute_machines.
PREPARE refute_instances (json, smallint, bigint, timestamptz) AS
UPDATE vm_runtime_history AS h
SET version_epoch = CASE WHEN k.refuted THEN -1 ELSE h.version_epoch END,
    version_time = CASE WHEN k.refuted THEN now() + k.number * interval '1 microsecond' ELSE h.version_time END,
    overtaken = k.overtaken_now, effective_at = k.effective_now
FROM (
    SELECT v.*, row_number() OVER () AS number
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
    CROSS JOIN LATERAL (
        SELECT v.*, CASE
                   WHEN v.refuted THEN v.effective_at
                   WHEN v.overtaken_now THEN v.claimed_at
                   ELSE max(v.claimed_at) FILTER (WHERE NOT v.overtaken_now) OVER earlier
               END AS effective_now
        FROM (
            SELECT v.*, v.refuted OR v.claimed_at > min(v.seen_at) FILTER (WHERE NOT v.refuted) OVER later
                   AS overtaken_now
            FROM (
                SELECT h.*, h.version_epoch = $2 AND h.version_number > $3 AND h.recorded_at < $4 AS refuted,
                       coalesce(h.known_at, h.effective_at) AS seen_at,
                       coalesce(least(h.object_time, h.known_at), h.effective_at) AS claimed_at
                FROM vm_runtime_history AS h
                WHERE h.cluster = r.cluster AND h.namespace = r.namespace AND h.name = r.name
                  AND h.owner_uid = r.owner_uid AND h.version_epoch >= 0
            ) AS v
            WINDOW later AS (
                ORDER BY v.version_epoch DESC, v.version_number DESC, v.version_time DESC, v.version_step DESC
            )
        ) AS v
        WINDOW earlier AS (ORDER BY v.version_epoch, v.version_number, v.version_time, v.version_step)
        OFFSET 0
    ) AS v
    WHERE v.refuted OR (v.overtaken_now, v.effective_now) <> (v.overtaken, v.effective_at)
) AS k
WHERE h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name AND h.owner_uid = k.owner_uid
  AND h.effective_at = k.effective_at
  AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
      IS NOT DISTINCT FROM (k.version_epoch, k.version_number, k.version_time, k.version_step);

-- restore_instances (rows)
-- See restore_machines; what the machines show of it follows.
PREPARE restore_instances (json) AS
UPDATE vm_runtime AS s
SET (type, id, time, uid, resource_version, changed_by, node, ip_addresses, guest_os, phase, live_vcpus,
     live_memory_bytes, deleted_at, version_epoch, version_number, version_time, version_step, shape, digest,
     object_time, known_at, effective_at, updated_at)
  = (n.type, n.id, n.time, n.uid, n.resource_version, n.changed_by, n.node, n.ip_addresses, n.guest_os, n.phase,
     n.live_vcpus, n.live_memory_bytes, n.deleted_at, n.version_epoch, n.version_number, n.version_time, n.version_step,
     n.shape, n.digest, n.object_time, n.known_at, n.effective_at, now())
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
)
CROSS JOIN LATERAL (
    SELECT * FROM vm_runtime_history AS h
    WHERE h.cluster = r.cluster AND h.namespace = r.namespace AND h.name = r.name AND h.owner_uid = r.owner_uid
    ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
    LIMIT 1
) AS n
WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
  AND (s.version_epoch, s.version_number, s.version_time, s.version_step)
      IS DISTINCT FROM (n.version_epoch, n.version_number, n.version_time, n.version_step);
