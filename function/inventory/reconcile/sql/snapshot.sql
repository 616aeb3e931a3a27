-- What a reconcile asks of the database about one cluster, beside the rows that the store writes for it.
-- epoch, version and began are those of a complete list: the epoch of the cluster, the list's resource version, and the
-- database's time when the list began.
-- What was just filled has no statistics yet, so plans must go by index from the start: LIMIT 1 and OFFSET 0 keep
-- Postgres from turning a search for each row into a join that reads a whole table.

-- release_turn ()
-- Gives the lock of the run back at once; the server would notice the end of the connection a moment later.
PREPARE release_turn AS
SELECT pg_advisory_unlock_all();

-- find_cluster (cluster)
-- Returns what is known of a cluster: its uid, its epoch, now (not before the epoch), and the greatest version of a
-- complete list of the epoch. What events brought does not count here: anybody can send a great number.
PREPARE find_cluster (text) AS
SELECT c.uid, e.epoch, greatest(clock_timestamp(), c.epochs[e.epoch]),
       greatest(
           -1,
           CASE WHEN c.machines_epoch = e.epoch THEN c.machines_version END,
           CASE WHEN c.instances_epoch = e.epoch THEN c.instances_version END
       )
FROM (SELECT) AS one
LEFT JOIN clusters AS c ON c.cluster = $1
CROSS JOIN LATERAL (SELECT coalesce(cardinality(c.epochs), 0)) AS e (epoch);

-- adopt_cluster (cluster, uid)
-- Stores the identity of a cluster at its first list.
PREPARE adopt_cluster (text, text) AS
INSERT INTO clusters AS known (cluster, uid) VALUES ($1, $2)
ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid WHERE known.uid IS NULL;

-- begin_epoch (cluster, uid)
-- Begins a new epoch, after the last one: whatever is sent from now on outranks whatever was sent before.
-- Runs alone (see the statement of that name), so that no writer orders its changes by the old epochs afterwards.
PREPARE begin_epoch (text, text) AS
WITH begun AS MATERIALIZED (
    SELECT greatest(clock_timestamp(), c.epochs[cardinality(c.epochs)] + interval '1 microsecond') AS at
    FROM (SELECT) AS one
    LEFT JOIN clusters AS c ON c.cluster = $1
)
INSERT INTO clusters AS known (cluster, uid, epochs)
SELECT $1, $2, ARRAY[at] FROM begun
ON CONFLICT (cluster) DO UPDATE SET uid = excluded.uid, epochs = known.epochs || excluded.epochs;

-- forget_seen (cluster, kinds)
-- Forgets what this run, or one that was killed, has noted under some kinds.
PREPARE forget_seen (text, text[]) AS
DELETE FROM reconcile_seen WHERE cluster = $1 AND kind = ANY ($2);

-- note_seen (cluster, kind, namespaces, names, uids)
-- Notes objects of a page of the list; returns how many were not noted before.
PREPARE note_seen (text, text, text[], text[], text[]) AS
WITH noted AS (
    INSERT INTO reconcile_seen (cluster, kind, namespace, name, uid)
    SELECT $1, $2, * FROM unnest($3, $4, $5)
    ON CONFLICT DO NOTHING
    RETURNING 1
)
SELECT count(*) FROM noted;

-- count_seen (cluster, kind)
-- Counts what is noted. The table is not logged: after a crash of the server it is empty.
PREPARE count_seen (text, text) AS
SELECT count(*) FROM reconcile_seen WHERE cluster = $1 AND kind = $2;

-- compare_machines (rows, epoch, began)
-- Returns the machines of a page that the state lacks, or has otherwise, with the state's version of each. Recent is a
-- state without a resource version that is newer than the list's beginning by its time, and was stored after it too:
-- the source's clock may be wrong.
-- A row of an earlier epoch differs, whatever it says: late events of that epoch would still outrank it. So does a row
-- of which this run has refuted a version, so that the list's word follows the lie. An owner that was not kept when the
-- version was stored is no difference: take_owners adds it.
-- The comparison is made here, page by page, so that no more than a page is ever sent or held in memory.
PREPARE compare_machines (json, smallint, timestamptz) AS
SELECT r.namespace, r.name, s.deleted_at IS NULL, s.version_epoch, s.version_number,
       nullif(s.version_time, '-infinity'), s.version_step, s.shape,
       s.version_number < 0 AND least(s.effective_at, s.updated_at) > $3 AND NOT wrong.refuted, s.resource_version,
       wrong.refuted
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", uid text, resource_version bigint,
    kind text, generation bigint, cpucores integer, cpusockets integer, cputhreads integer, vcpus integer, memory text,
    memory_bytes bigint, storageclass text, network text, instancetype text, preference text, run_strategy text,
    status text, os text, architecture text, machine_type text, disks integer, disk_bytes bigint, labels jsonb,
    owner text, created_at timestamptz
)
LEFT JOIN LATERAL (
    SELECT * FROM vm_state AS s
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    LIMIT 1
) AS s ON true
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM reconcile_seen AS seen
        WHERE seen.cluster = r.cluster AND seen.kind = 'VirtualMachine refuted'
          AND seen.namespace = r.namespace AND seen.name = r.name AND seen.uid = ''
        OFFSET 0
    )
) AS wrong (refuted)
WHERE s.cluster IS NULL OR s.deleted_at IS NOT NULL OR s.version_epoch <> $2 OR wrong.refuted
   OR (s.uid, s.resource_version, s.kind, s.generation, s.cpucores, s.cpusockets, s.cputhreads, s.spec_vcpus, s.memory,
       s.spec_memory_bytes, s.storageclass, s.network, s.instancetype, s.preference, s.run_strategy, s.status, s.os,
       s.architecture, s.machine_type, s.disks, s.disk_bytes, s.labels, s.created_at)
      IS DISTINCT FROM
      (r.uid, r.resource_version, r.kind, r.generation, r.cpucores, r.cpusockets, r.cputhreads, r.vcpus, r.memory,
       r.memory_bytes, r.storageclass, r.network, r.instancetype, r.preference, r.run_strategy, r.status, r.os,
       r.architecture, r.machine_type, r.disks, r.disk_bytes, r.labels, r.created_at)
   OR s.owner IS DISTINCT FROM r.owner AND (s.owner IS NOT NULL OR NOT EXISTS (
      SELECT FROM vm_history AS h
      WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name
        AND h.effective_at = s.effective_at AND NOT h.owner_kept AND h.shape = 1
        AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
            IS NOT DISTINCT FROM (s.version_epoch, s.version_number, s.version_time, s.version_step)
      OFFSET 0
   ));

-- take_owners (rows)
-- Gives machines that were stored before owners were kept the owner that the list has, where the ledger has just that
-- version of them: in the state and in the history. It was their owner all along, so nothing counts as missed.
-- Locks the rows of vm_state in the order of their keys, as all writers do.
PREPARE take_owners (json) AS
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", uid text, resource_version bigint,
        owner text
    )
    ORDER BY r.cluster, r.namespace, r.name
), locked AS MATERIALIZED (
    SELECT s.*, r.owner
    FROM given AS r
    CROSS JOIN LATERAL (
        SELECT s.cluster, s.namespace, s.name, s.effective_at, s.version_epoch, s.version_number, s.version_time,
               s.version_step
        FROM vm_state AS s
        WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
          AND s.owner IS NULL AND s.shape = 1 AND s.deleted_at IS NULL
          AND (s.uid, s.resource_version) = (r.uid, r.resource_version)
        LIMIT 1
        FOR NO KEY UPDATE
    ) AS s
    CROSS JOIN LATERAL (
        SELECT FROM vm_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name
          AND h.effective_at = s.effective_at AND NOT h.owner_kept AND h.owner IS NULL
          AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
              IS NOT DISTINCT FROM (s.version_epoch, s.version_number, s.version_time, s.version_step)
        LIMIT 1
    ) AS before
), versions AS (
    UPDATE vm_history AS h
    SET owner = l.owner
    FROM locked AS l
    WHERE h.cluster = l.cluster AND h.namespace = l.namespace AND h.name = l.name AND h.effective_at = l.effective_at
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (l.version_epoch, l.version_number, l.version_time, l.version_step)
    RETURNING h.cluster, h.namespace, h.name, h.owner
)
UPDATE vm_state AS s
SET owner = v.owner, updated_at = now()
FROM versions AS v
WHERE s.cluster = v.cluster AND s.namespace = v.namespace AND s.name = v.name;

-- compare_instances (rows, epoch, began)
-- The same for instances.
PREPARE compare_instances (json, smallint, timestamptz) AS
SELECT r.namespace, r.name, r.owner_uid, s.deleted_at IS NULL, s.version_epoch, s.version_number,
       nullif(s.version_time, '-infinity'), s.version_step, s.shape,
       s.version_number < 0 AND least(s.effective_at, s.updated_at) > $3 AND NOT wrong.refuted, s.resource_version,
       wrong.refuted
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C", uid text,
    resource_version bigint, node text, ip_addresses text[], guest_os text, phase text, live_vcpus integer,
    live_memory_bytes bigint
)
LEFT JOIN LATERAL (
    SELECT * FROM vm_runtime AS s
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    LIMIT 1
) AS s ON true
CROSS JOIN LATERAL (
    SELECT EXISTS (
        SELECT FROM reconcile_seen AS seen
        WHERE seen.cluster = r.cluster AND seen.kind = 'VirtualMachineInstance refuted'
          AND seen.namespace = r.namespace AND seen.name = r.name AND seen.uid = r.owner_uid
        OFFSET 0
    )
) AS wrong (refuted)
WHERE s.cluster IS NULL OR s.deleted_at IS NOT NULL OR s.version_epoch <> $2 OR wrong.refuted
   OR (s.uid, s.resource_version, s.node, s.ip_addresses, s.guest_os, s.phase, s.live_vcpus, s.live_memory_bytes)
      IS DISTINCT FROM
      (r.uid, r.resource_version, r.node, r.ip_addresses, r.guest_os, r.phase, r.live_vcpus, r.live_memory_bytes);

-- count_missing (cluster, epoch, version, began)
-- Counts the live machines that the last complete list contained, that this one does not, and that nothing after it is
-- about. Where the cluster has no complete list yet, it counts all that this one does not contain.
-- This one contained what is noted; recent ones (see compare_machines) may be newer than it. What the last one
-- contained is the newest version up to its own: a machine of which only events told since then needs no second
-- thought.
PREPARE count_missing (text, smallint, bigint, timestamptz) AS
SELECT count(*)
FROM vm_state AS s
LEFT JOIN clusters AS c ON c.cluster = $1
WHERE s.cluster = $1 AND s.deleted_at IS NULL
  AND ((s.version_epoch, s.version_number) <= ($2, $3) OR EXISTS (
      SELECT FROM reconcile_seen AS wrong
      WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachine refuted'
        AND wrong.namespace = s.namespace AND wrong.name = s.name
      OFFSET 0
  ))
  AND NOT (s.version_number < 0 AND least(s.effective_at, s.updated_at) > $4 AND NOT EXISTS (
      SELECT FROM reconcile_seen AS wrong
      WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachine refuted'
        AND wrong.namespace = s.namespace AND wrong.name = s.name
      OFFSET 0
  ))
  AND NOT EXISTS (
      SELECT FROM reconcile_seen AS seen
      WHERE seen.cluster = s.cluster AND seen.kind = 'VirtualMachine'
        AND seen.namespace = s.namespace AND seen.name = s.name
      OFFSET 0
  )
  AND CASE WHEN c.machines_version >= 0 THEN (
      SELECT h.deleted_at IS NULL AND h.version_number >= 0
      FROM vm_history AS h
      WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.version_epoch >= 0
        AND (h.version_epoch, h.version_number) <= (c.machines_epoch, c.machines_version)
      ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
      LIMIT 1
  ) ELSE s.version_epoch >= 0 AND (s.version_epoch, s.version_number) <= ($2, $3) END;

-- missing_machines (cluster, epoch, version, began, namespace, name, batch)
-- Returns the live machines that this list does not contain, and that nothing after it is about: as JSON, with their
-- versions, whether this run has refuted one, and when they were stored; the next ones after a namespace and name.
PREPARE missing_machines (text, smallint, bigint, timestamptz, text, text, bigint) AS
SELECT (to_jsonb(s) || jsonb_build_object('vcpus', s.spec_vcpus, 'memory_bytes', s.spec_memory_bytes))::text,
       s.version_epoch, s.version_number, nullif(s.version_time, '-infinity'), s.version_step,
       EXISTS (
           SELECT FROM reconcile_seen AS wrong
           WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachine refuted'
             AND wrong.namespace = s.namespace AND wrong.name = s.name
           OFFSET 0
       ), s.updated_at
FROM vm_state AS s
WHERE s.cluster = $1 AND s.deleted_at IS NULL AND (s.version_epoch, s.version_number) <= ($2, $3)
  AND NOT (s.version_number < 0 AND least(s.effective_at, s.updated_at) > $4 AND NOT EXISTS (
      SELECT FROM reconcile_seen AS wrong
      WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachine refuted'
        AND wrong.namespace = s.namespace AND wrong.name = s.name
      OFFSET 0
  ))
  AND NOT EXISTS (
      SELECT FROM reconcile_seen AS seen
      WHERE seen.cluster = s.cluster AND seen.kind = 'VirtualMachine'
        AND seen.namespace = s.namespace AND seen.name = s.name
      OFFSET 0
  )
  AND (s.namespace, s.name) > ($5, $6)
ORDER BY s.namespace, s.name
LIMIT $7;

-- missing_instances (cluster, epoch, version, began, namespace, name, owner_uid, batch)
-- The same for instances. An object of the list that cannot be read is noted without a uid; it may be any of its name.
PREPARE missing_instances (text, smallint, bigint, timestamptz, text, text, text, bigint) AS
SELECT to_jsonb(s)::text, s.version_epoch, s.version_number, nullif(s.version_time, '-infinity'), s.version_step,
       EXISTS (
           SELECT FROM reconcile_seen AS wrong
           WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachineInstance refuted'
             AND wrong.namespace = s.namespace AND wrong.name = s.name AND wrong.uid = s.owner_uid
           OFFSET 0
       ), s.updated_at
FROM vm_runtime AS s
WHERE s.cluster = $1 AND s.deleted_at IS NULL AND (s.version_epoch, s.version_number) <= ($2, $3)
  AND NOT (s.version_number < 0 AND least(s.effective_at, s.updated_at) > $4 AND NOT EXISTS (
      SELECT FROM reconcile_seen AS wrong
      WHERE wrong.cluster = s.cluster AND wrong.kind = 'VirtualMachineInstance refuted'
        AND wrong.namespace = s.namespace AND wrong.name = s.name AND wrong.uid = s.owner_uid
      OFFSET 0
  ))
  AND NOT EXISTS (
      SELECT FROM reconcile_seen AS seen
      WHERE seen.cluster = s.cluster AND seen.kind = 'VirtualMachineInstance'
        AND seen.namespace = s.namespace AND seen.name = s.name AND seen.uid IN ('', s.owner_uid)
      OFFSET 0
  )
  AND (s.namespace, s.name, s.owner_uid) > ($5, $6, $7)
ORDER BY s.namespace, s.name, s.owner_uid
LIMIT $8;

-- complete_machines (cluster, epoch, version, began)
-- Notes that a list was read to its end: older events raise nothing any more that it did not contain.
-- Runs alone, so that no writer raises such a machine after its absence was looked at.
PREPARE complete_machines (text, smallint, bigint, timestamptz) AS
UPDATE clusters SET machines_epoch = $2, machines_version = $3, machines_time = $4 WHERE cluster = $1;

-- complete_instances (cluster, epoch, version, began)
-- The same for instances.
PREPARE complete_instances (text, smallint, bigint, timestamptz) AS
UPDATE clusters SET instances_epoch = $2, instances_version = $3, instances_time = $4 WHERE cluster = $1;

-- unsized_machines (cluster, epoch, version, namespace, name, batch)
-- Returns the machines of the list whose size must be looked up: the next ones after a namespace and name.
-- No running instance says the size, and it was not yet taken from the revision that the machine refers to now.
PREPARE unsized_machines (text, smallint, bigint, text, text, bigint) AS
SELECT s.namespace, s.name, s.uid, s.resource_version, s.generation, seen.uid
FROM reconcile_seen AS seen
CROSS JOIN LATERAL (
    SELECT * FROM vm_state AS s
    WHERE s.cluster = seen.cluster AND s.namespace = seen.namespace AND s.name = seen.name
    LIMIT 1
) AS s
WHERE seen.cluster = $1 AND seen.kind = 'ControllerRevision' AND (seen.namespace, seen.name) > ($4, $5)
  AND s.deleted_at IS NULL AND s.instancetype IS NOT NULL AND (s.version_epoch, s.version_number) <= ($2, $3)
  AND (s.phase IS NULL OR s.phase = 'Gone' OR s.live_vcpus IS NULL OR s.live_memory_bytes IS NULL)
  AND s.instancetype_revision IS DISTINCT FROM seen.uid
ORDER BY seen.namespace, seen.name
LIMIT $6;

-- store_sizes (cluster, sizes)
-- Stores sizes that were looked up; returns how many machines were still as they were then, and took theirs.
-- A size that was not found is NULL: its revision is noted all the same, so it is not looked up in every run.
-- Locks the rows of vm_state in the order of their keys, as all writers do.
PREPARE store_sizes (text, json) AS
WITH given AS MATERIALIZED (
    SELECT * FROM json_to_recordset($2) AS r (
        namespace text COLLATE "C", name text COLLATE "C", uid text, resource_version bigint,
        vcpus integer, memory_bytes bigint, revision text
    )
), locked AS MATERIALIZED (
    SELECT s.namespace, s.name
    FROM given AS r
    JOIN vm_state AS s ON s.cluster = $1 AND s.namespace = r.namespace AND s.name = r.name
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
), sized AS (
    UPDATE vm_state AS s
    SET instancetype_vcpus = r.vcpus,
        instancetype_memory_bytes = r.memory_bytes,
        instancetype_revision = r.revision,
        updated_at = CASE WHEN (s.instancetype_vcpus, s.instancetype_memory_bytes)
            IS DISTINCT FROM (r.vcpus, r.memory_bytes) THEN now() ELSE s.updated_at END
    FROM given AS r JOIN locked USING (namespace, name)
    WHERE s.cluster = $1 AND s.namespace = r.namespace AND s.name = r.name
      AND (s.uid, s.resource_version) IS NOT DISTINCT FROM (r.uid, r.resource_version) AND s.deleted_at IS NULL
    RETURNING coalesce(r.vcpus, r.memory_bytes) AS size
)
SELECT count(size) FROM sized;

-- record_run (cluster, seconds, outcome, dry_run, seen, missed_adds, missed_updates, missed_deletes,
--             corrected, list_version, error)
-- Stores what became of a run.
PREPARE record_run (text, double precision, text, boolean, bigint, bigint, bigint, bigint, bigint, bigint, text) AS
INSERT INTO reconcile_runs (cluster, started_at, seconds, outcome, dry_run, seen, missed_adds, missed_updates,
                            missed_deletes, corrected, list_version, error)
VALUES ($1, clock_timestamp() - make_interval(secs => $2), $2, $3, $4, $5, $6, $7, $8, $9, $10, $11);
