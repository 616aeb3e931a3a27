-- The statements that write virtual machines: tables vm_state and vm_history.
-- instances.sql has the same for their instances; a test holds the two files alike.
-- Paste a statement into psql, then: EXPLAIN EXECUTE append_machines ('[...]', true, 1, '');

-- append_machines (rows, lists, given, batch)
-- Stores the changes that are plainly newer: of a newer version than the state, and known since it counts.
-- Such a change counts since the time that it claims, but never before the state's version.
-- The history cannot hold such a version yet, so it is not searched; nearly every event ends here.
-- All other changes are left out and go through lock_machines and merge_machines.
--   rows: the changes, at most one for each machine, as versions.Change.payload writes them.
--   lists: whether complete lists deny changes under their floor; false for what comes from a list itself.
--   given: how many changes there are. batch: what the answer begins with.
-- Returns nothing more where all are stored, as mostly; else, as JSON, what identifies each stored change in its batch.
-- The setting vmledger.machines has the same once the transaction is committed: the driver shows what the last
-- statement of a message returns, and nothing of a message that fails later.
-- Locks the rows of vm_state in the order of their keys, so that two writers never wait for each other.
-- A new row takes what vm_runtime already has of the machine; an existing row keeps it, because the uid is the same.
PREPARE append_machines (json, boolean, integer, text) AS
WITH incoming AS MATERIALIZED (
    SELECT r.*, e.version_epoch, e.effective_at, e.known_at,
           c.cluster IS NOT NULL AND CASE
               WHEN r.version_number < 0 THEN e.known_at <= c.machines_time
               ELSE (e.version_epoch, r.version_number) <= (c.machines_epoch, c.machines_version)
           END AS under_floor
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", type text, id text COLLATE "C",
        time timestamptz, uid text, resource_version bigint, changed_by text, object_time timestamptz, kind text,
        generation bigint, cpucores integer, cpusockets integer, cputhreads integer, vcpus integer, memory text,
        memory_bytes bigint, storageclass text, network text, instancetype text, preference text, run_strategy text,
        status text, os text, architecture text, machine_type text, disks integer, disk_bytes bigint, labels jsonb,
        owner text, created_at timestamptz, deleted_at timestamptz, version_number bigint, version_time timestamptz,
        version_step smallint, shape smallint, digest bigint
    )
    LEFT JOIN clusters AS c ON c.cluster = r.cluster
    CROSS JOIN LATERAL (
        SELECT least(r.object_time, coalesce(r.time, now())), coalesce(r.time, now()),
               coalesce(width_bucket(coalesce(r.time, 'infinity'), c.epochs), 0)::smallint
    ) AS e (effective_at, known_at, version_epoch)
), moved AS (
    INSERT INTO vm_state AS s (
        cluster, namespace, name, type, id, time, uid, resource_version, changed_by, kind, generation, cpucores,
        cpusockets, cputhreads, spec_vcpus, memory, spec_memory_bytes, storageclass, network, instancetype, preference,
        run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at,
        version_epoch, version_number, version_time, version_step, shape, digest, object_time, known_at, effective_at,
        updated_at, node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at
    )
    SELECT r.cluster, r.namespace, r.name, r.type, r.id, r.time, r.uid, r.resource_version, r.changed_by, r.kind,
           r.generation, r.cpucores, r.cpusockets, r.cputhreads, r.vcpus, r.memory, r.memory_bytes, r.storageclass,
           r.network, r.instancetype, r.preference, r.run_strategy, r.status, r.os, r.architecture, r.machine_type,
           r.disks, r.disk_bytes, r.labels, r.owner, r.created_at, r.deleted_at, r.version_epoch, r.version_number,
           r.version_time, r.version_step, r.shape, r.digest, r.object_time, r.known_at, r.effective_at, now(),
           i.node, i.ip_addresses, i.guest_os, i.phase, i.live_vcpus, i.live_memory_bytes, i.effective_at
    FROM incoming AS r
    LEFT JOIN LATERAL (
        SELECT * FROM vm_runtime AS i
        WHERE i.cluster = r.cluster AND i.namespace = r.namespace AND i.name = r.name AND i.owner_uid = r.uid
        LIMIT 1
    ) AS i ON true
    WHERE NOT (r.under_floor AND $2)
    ORDER BY r.cluster, r.namespace, r.name
    ON CONFLICT (cluster, namespace, name) DO UPDATE
    SET (type, id, time, uid, resource_version, changed_by, kind, generation, cpucores, cpusockets, cputhreads,
         spec_vcpus, memory, spec_memory_bytes, storageclass, network, instancetype, preference, run_strategy, status,
         os, architecture, machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at, version_epoch,
         version_number, version_time, version_step, shape, digest, object_time, known_at, effective_at, updated_at)
      = (excluded.type, excluded.id, excluded.time, excluded.uid, excluded.resource_version, excluded.changed_by,
         excluded.kind, excluded.generation, excluded.cpucores, excluded.cpusockets, excluded.cputhreads,
         excluded.spec_vcpus, excluded.memory, excluded.spec_memory_bytes, excluded.storageclass, excluded.network,
         excluded.instancetype, excluded.preference, excluded.run_strategy, excluded.status, excluded.os,
         excluded.architecture, excluded.machine_type, excluded.disks, excluded.disk_bytes, excluded.labels,
         excluded.owner, excluded.created_at, excluded.deleted_at, excluded.version_epoch, excluded.version_number,
         excluded.version_time, excluded.version_step, excluded.shape, excluded.digest, excluded.object_time,
         excluded.known_at, greatest(s.effective_at, excluded.effective_at), excluded.updated_at)
    WHERE (excluded.version_epoch, excluded.version_number, excluded.version_time, excluded.version_step)
          > (s.version_epoch, s.version_number, s.version_time, s.version_step)
      AND excluded.known_at >= s.effective_at
      AND (excluded.uid, excluded.instancetype) IS NOT DISTINCT FROM (s.uid, s.instancetype)
    RETURNING s.*
), added AS (
    INSERT INTO vm_history (
        cluster, namespace, name, type, id, time, uid, resource_version, changed_by, kind, generation, cpucores,
        cpusockets, cputhreads, vcpus, memory, memory_bytes, storageclass, network, instancetype, preference,
        run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at,
        version_epoch, version_number, version_time, version_step, shape, digest, object_time, known_at, effective_at
    )
    SELECT cluster, namespace, name, type, id, time, uid, resource_version, changed_by, kind, generation, cpucores,
           cpusockets, cputhreads, spec_vcpus, memory, spec_memory_bytes, storageclass, network, instancetype,
           preference, run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, owner,
           created_at, deleted_at, version_epoch, version_number, version_time, version_step, shape, digest,
           object_time, known_at, effective_at
    FROM moved
    RETURNING cluster, namespace, name, version_number, version_step, digest
)
SELECT set_config('vmledger.machines', $4 || CASE WHEN (SELECT count(*) FROM added) < $3 THEN (
    SELECT coalesce(json_agg(json_build_array(
        cluster, namespace, name, version_number, version_step, digest
    )), '[]')
    FROM added
)::text ELSE '' END, false);

-- lock_machines (rows)
-- Locks the state's row of each machine of the changes, so that the statements after it see all that other writers of
-- these machines have committed: writers of one machine take turns, and merge_machines may search before it writes.
-- A machine without a row gets one that is older than any version; merge_machines raises it in the same transaction.
-- SELECT ... FOR UPDATE would not do: two writers of a new machine would find nothing to lock.
-- Locks vm_state in the order of the keys, FOR NO KEY UPDATE, and writes no row that was there.
PREPARE lock_machines (json) AS
INSERT INTO vm_state AS s (
    cluster, namespace, name, type, id, kind, version_epoch, version_number, version_time, version_step, shape, digest,
    effective_at
)
SELECT DISTINCT cluster, namespace, name, '', '', '', -1, -1, '-infinity'::timestamptz, 0, 0, 0,
       '-infinity'::timestamptz
FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
ORDER BY cluster, namespace, name
ON CONFLICT (cluster, namespace, name) DO UPDATE SET updated_at = s.updated_at WHERE false;

-- merge_machines (rows, lists)
-- Stores any changes: stale ones, versions that are known, other uids, machines that a complete list lacked.
-- The history has each version once, as the change of the first rank says it; the state follows the newest version.
--   rows, lists: as for append_machines.
-- What became of each change is read by outcomes_machines after it, in the same transaction.
-- Locks nothing that lock_machines, which runs before it in the same transaction, has not locked.
-- It is one statement, so that the changes are read once and a version is written once, as it stays. With a statement
-- for each step (add, improve, date, mark, follow) Postgres took twice the time, and wrote each stale version twice.
PREPARE merge_machines (json, boolean) AS
WITH incoming AS MATERIALIZED (
    SELECT r.*, e.version_epoch, e.effective_at, e.known_at, c.machines_epoch, c.machines_version, c.machines_time,
           c.cluster IS NOT NULL AND CASE
               WHEN r.version_number < 0 THEN e.known_at <= c.machines_time
               ELSE (e.version_epoch, r.version_number) <= (c.machines_epoch, c.machines_version)
           END AS under_floor
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", type text, id text COLLATE "C",
        time timestamptz, uid text, resource_version bigint, changed_by text, object_time timestamptz, kind text,
        generation bigint, cpucores integer, cpusockets integer, cputhreads integer, vcpus integer, memory text,
        memory_bytes bigint, storageclass text, network text, instancetype text, preference text, run_strategy text,
        status text, os text, architecture text, machine_type text, disks integer, disk_bytes bigint, labels jsonb,
        owner text, created_at timestamptz, deleted_at timestamptz, version_number bigint, version_time timestamptz,
        version_step smallint, shape smallint, digest bigint
    )
    LEFT JOIN clusters AS c ON c.cluster = r.cluster
    CROSS JOIN LATERAL (
        SELECT least(r.object_time, coalesce(r.time, now())), coalesce(r.time, now()),
               coalesce(width_bucket(coalesce(r.time, 'infinity'), c.epochs), 0)::smallint
    ) AS e (effective_at, known_at, version_epoch)

), denied AS MATERIALIZED (
    -- A complete list implies that anything older which it lacks was deleted, except the exact version of a live
    -- machine, which it contained. Where it denies the newest change of a machine, the list's version is its tombstone.
    SELECT r.*
    FROM (
        SELECT DISTINCT ON (cluster, namespace, name) *
        FROM incoming
        ORDER BY cluster, namespace, name, version_epoch DESC, version_number DESC, version_time DESC,
                 version_step DESC
    ) AS r
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    WHERE $2 AND r.under_floor
      AND (r.version_epoch, r.version_number, r.version_time, r.version_step)
          > (s.version_epoch, s.version_number, s.version_time, s.version_step)
      AND NOT (s.deleted_at IS NULL AND s.version_number >= 0
               AND (s.version_epoch, s.version_number) = (r.version_epoch, r.version_number))

), candidates AS MATERIALIZED (
    SELECT * FROM incoming
    UNION ALL
    SELECT cluster, namespace, name, 'vmledger.reconcile.delete', 'list-' || machines_version, machines_time, NULL,
           machines_version, NULL, NULL, 'VirtualMachine', NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL,
           NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, machines_time,
           CASE WHEN version_number < 0 THEN -1 ELSE machines_version END,
           CASE WHEN version_number < 0 THEN machines_time ELSE '-infinity' END,
           2, 1, 0, machines_epoch, machines_time, machines_time, NULL, NULL, NULL, NULL
    FROM denied

), kept AS MATERIALIZED (
    -- For each version the change of the first rank and the earliest time, beside what the history has of that version.
    -- Only the index by version finds it at once; by the primary key, all versions of the machine would be read.
    SELECT k.*, h.effective_at AS held_at, h.overtaken AS held_overtaken,
           h.object_time AS held_object, held.known_at AS held_known,
           least(k.earliest_object, h.object_time) AS object_from, least(k.earliest_known, held.known_at) AS known_from,
           least(k.earliest_object, h.object_time, k.earliest_known, held.known_at) AS claimed_from,
           coalesce((-k.shape, coalesce(k.time, 'infinity'), k.id, k.digest)
                    < (-h.shape, coalesce(h.time, 'infinity'), h.id, h.digest), false) AS better
    FROM (
        SELECT DISTINCT ON (cluster, namespace, name, version_epoch, version_number, version_time, version_step) *,
               min(object_time) OVER same AS earliest_object, min(known_at) OVER same AS earliest_known
        FROM candidates
        WINDOW same AS (
            PARTITION BY cluster, namespace, name, version_epoch, version_number, version_time, version_step
        )
        ORDER BY cluster, namespace, name, version_epoch, version_number, version_time, version_step,
                 shape DESC, time NULLS LAST, id, digest
    ) AS k
    LEFT JOIN vm_history AS h
        ON h.version_number = k.version_number AND h.version_time = k.version_time
       AND (h.cluster, h.namespace, h.name, h.version_epoch, h.version_step)
           IS NOT DISTINCT FROM (k.cluster, k.namespace, k.name, k.version_epoch, k.version_step)
    CROSS JOIN LATERAL (SELECT coalesce(h.known_at, h.effective_at)) AS held (known_at)

), span AS MATERIALIZED (
    -- Of each machine, the first of these changes by version, the earliest time that one of them claims, and the last
    -- version in force that is before both: what is not after that one stays as it is.
    SELECT s.cluster, s.namespace, s.name, before.effective_at AS floor_at, before.version_epoch, before.version_number,
           before.version_time, before.version_step
    FROM (
        SELECT DISTINCT ON (cluster, namespace, name)
               cluster, namespace, name, version_epoch, version_number, version_time, version_step,
               min(claimed_from) OVER (PARTITION BY cluster, namespace, name) AS earliest
        FROM kept
        ORDER BY cluster, namespace, name, version_epoch, version_number, version_time, version_step
    ) AS s
    LEFT JOIN LATERAL (
        SELECT h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
        FROM vm_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
          AND h.effective_at < s.earliest
          AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
              < (s.version_epoch, s.version_number, s.version_time, s.version_step)
        ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                 h.version_step DESC
        LIMIT 1
    ) AS before ON true

), timeline AS MATERIALIZED (
    -- These changes, and what the history has after that one and in force.
    SELECT k.cluster, k.namespace, k.name, k.version_epoch, k.version_number, k.version_time, k.version_step,
           k.object_from, k.known_from, k.claimed_from, k.held_at, k.held_overtaken, k.held_object, k.held_known,
           k.better, s.floor_at
    FROM kept AS k
    JOIN span AS s ON s.cluster = k.cluster AND s.namespace = k.namespace AND s.name = k.name
    UNION ALL
    SELECT h.cluster, h.namespace, h.name, h.version_epoch, h.version_number, h.version_time, h.version_step,
           h.object_time, held.known_at, held.claimed_at, h.effective_at, false, h.object_time, held.known_at, false,
           s.floor_at
    FROM span AS s
    JOIN vm_history AS h
        ON h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
       AND h.effective_at >= coalesce(s.floor_at, '-infinity')
       AND (s.floor_at IS NULL OR
            (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
            > (s.floor_at, s.version_epoch, s.version_number, s.version_time, s.version_step))
    CROSS JOIN LATERAL (
        SELECT coalesce(h.known_at, h.effective_at), coalesce(least(h.object_time, h.known_at), h.effective_at)
    ) AS held (known_at, claimed_at)
    WHERE NOT EXISTS (
        SELECT FROM kept AS k
        WHERE k.cluster = h.cluster AND k.namespace = h.namespace AND k.name = h.name
          AND (k.version_epoch, k.version_number, k.version_time, k.version_step)
              = (h.version_epoch, h.version_number, h.version_time, h.version_step)
    )

), settled AS MATERIALIZED (
    -- A version is overtaken if a newer one was known before the time that it claims. All others count since the time
    -- that they claim, but never before an older one.
    SELECT v.*, CASE WHEN v.overtaken THEN v.claimed_from
                ELSE greatest(v.floor_at, max(v.claimed_from) FILTER (WHERE NOT v.overtaken) OVER earlier)
           END AS effective_from
    FROM (
        SELECT t.*, t.claimed_from > min(t.known_from) OVER later AS overtaken
        FROM timeline AS t
        WINDOW later AS (
            PARTITION BY t.cluster, t.namespace, t.name
            ORDER BY t.version_epoch DESC, t.version_number DESC, t.version_time DESC, t.version_step DESC
        )
    ) AS v
    WINDOW earlier AS (
        PARTITION BY v.cluster, v.namespace, v.name
        ORDER BY v.version_epoch, v.version_number, v.version_time, v.version_step
    )

), judged AS MATERIALIZED (
    SELECT k.*, s.effective_from, s.overtaken
    FROM kept AS k
    JOIN settled AS s
        ON s.cluster = k.cluster AND s.namespace = k.namespace AND s.name = k.name
       AND (s.version_epoch, s.version_number, s.version_time, s.version_step)
           = (k.version_epoch, k.version_number, k.version_time, k.version_step)

), added AS (
    INSERT INTO vm_history (
        cluster, namespace, name, type, id, time, uid, resource_version, changed_by, kind, generation, cpucores,
        cpusockets, cputhreads, vcpus, memory, memory_bytes, storageclass, network, instancetype, preference,
        run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at,
        version_epoch, version_number, version_time, version_step, shape, digest, object_time, known_at, effective_at,
        overtaken
    )
    SELECT cluster, namespace, name, type, id, time, uid, resource_version, changed_by, kind, generation, cpucores,
           cpusockets, cputhreads, vcpus, memory, memory_bytes, storageclass, network, instancetype, preference,
           run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, owner, created_at,
           deleted_at, version_epoch, version_number, version_time, version_step, shape, digest, object_from,
           known_from, effective_from, overtaken
    FROM judged WHERE held_at IS NULL
    RETURNING *

), improved AS (
    UPDATE vm_history AS h
    SET (type, id, time, uid, resource_version, changed_by, kind, generation, cpucores, cpusockets, cputhreads, vcpus,
         memory, memory_bytes, storageclass, network, instancetype, preference, run_strategy, status, os, architecture,
         machine_type, disks, disk_bytes, labels, owner, created_at, deleted_at, shape, digest, object_time, known_at,
         effective_at, overtaken, recorded_at)
      = (k.type, k.id, k.time, k.uid, k.resource_version, k.changed_by, k.kind, k.generation, k.cpucores, k.cpusockets,
         k.cputhreads, k.vcpus, k.memory, k.memory_bytes, k.storageclass, k.network, k.instancetype, k.preference,
         k.run_strategy, k.status, k.os, k.architecture, k.machine_type, k.disks, k.disk_bytes, k.labels, k.owner,
         k.created_at, k.deleted_at, k.shape, k.digest, k.object_from, k.known_from, k.effective_from, k.overtaken,
         now())
    FROM judged AS k
    WHERE k.better AND h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name
      AND h.effective_at = k.held_at
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (k.version_epoch, k.version_number, k.version_time, k.version_step)
    RETURNING h.*

), dated AS (
    UPDATE vm_history AS h
    SET (effective_at, object_time, known_at, overtaken) = (k.effective_from, k.object_from, k.known_from, k.overtaken)
    FROM settled AS k
    WHERE NOT k.better
      AND (k.effective_from, k.object_from, k.known_from, k.overtaken)
          IS DISTINCT FROM (k.held_at, k.held_object, k.held_known, k.held_overtaken)
      AND h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name AND h.effective_at = k.held_at
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (k.version_epoch, k.version_number, k.version_time, k.version_step)
    RETURNING h.*

), newest AS MATERIALIZED (
    SELECT DISTINCT ON (cluster, namespace, name) *
    FROM (SELECT * FROM added UNION ALL SELECT * FROM improved UNION ALL SELECT * FROM dated) AS h
    ORDER BY cluster, namespace, name, version_epoch DESC, version_number DESC, version_time DESC, version_step DESC
)

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
FROM newest AS n
LEFT JOIN vm_runtime AS i
    ON i.cluster = n.cluster AND i.namespace = n.namespace AND i.name = n.name AND i.owner_uid = n.uid
WHERE s.cluster = n.cluster AND s.namespace = n.namespace AND s.name = n.name
  AND (n.version_epoch, n.version_number, n.version_time, n.version_step)
      >= (s.version_epoch, s.version_number, s.version_time, s.version_step);

-- outcomes_machines (rows)
-- Returns, for each change that the history took in this transaction, what identifies it in its batch; whether it is
-- the newest version; and whether it has no resource version although the newest one has.
PREPARE outcomes_machines (json) AS
SELECT h.cluster, h.namespace, h.name, h.version_number, h.version_step, h.digest,
       (h.version_epoch, h.version_number, h.version_time, h.version_step)
       = (s.version_epoch, s.version_number, s.version_time, s.version_step),
       h.version_number < 0 AND s.version_number >= 0
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", id text COLLATE "C",
    version_number bigint, version_time timestamptz, version_step smallint, digest bigint
)
CROSS JOIN LATERAL (
    SELECT * FROM vm_history AS h
    WHERE h.version_number = r.version_number AND h.version_time = r.version_time
      AND (h.cluster, h.namespace, h.name, h.version_step, h.id, h.digest, h.recorded_at)
          IS NOT DISTINCT FROM (r.cluster, r.namespace, r.name, r.version_step, r.id, r.digest, now())
    LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT * FROM vm_state AS s
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    LIMIT 1
) AS s;

-- known_machine (cluster, namespace, name)
-- Returns, as JSON, what the state has of a machine, deleted or not; with its version number and effective time.
PREPARE known_machine (text, text, text) AS
SELECT (to_jsonb(s) || jsonb_build_object('vcpus', s.spec_vcpus, 'memory_bytes', s.spec_memory_bytes))::text,
       s.version_number, s.effective_at
FROM vm_state AS s
WHERE s.cluster = $1 AND s.namespace = $2 AND s.name = $3;
