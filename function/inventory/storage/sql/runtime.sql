-- How the running instances of vm_runtime come to be shown by their machines in vm_state, and who was heard.
-- A machine shows the instance whose owner_uid is its uid: node to live_memory_bytes, and runtime_seen_at.
-- Statements are planned once, maybe while the tables are empty: LIMIT 1 and OFFSET 0 keep Postgres from turning a
-- search for each row into a join that reads a whole table.

-- remember_instances (rows)
-- Lets a deleted instance keep what was last known of it: its delete, or a complete list that lacks it, may not say.
-- Looks at earlier versions of the same instance; a list's delete does not name the instance, so any version counts.
-- What a list has refuted (epoch -1) was never known. The history keeps what each version said, so the order in which
-- the versions came does not matter.
-- Runs after merge_instances in the same transaction, on rows that lock_instances has locked.
PREPARE remember_instances (json) AS
WITH earlier AS MATERIALIZED (
    SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.node, h.guest_os, h.live_vcpus, h.live_memory_bytes,
           nullif(h.ip_addresses, '{}') AS ip_addresses,
           row_number() OVER (
               PARTITION BY h.cluster, h.namespace, h.name, h.owner_uid
               ORDER BY h.version_epoch DESC, h.version_number DESC, h.version_time DESC, h.version_step DESC
           ) AS age
    FROM (
        SELECT DISTINCT cluster, namespace, name, owner_uid
        FROM json_to_recordset($1) AS r (
            cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
        )
    ) AS r
    CROSS JOIN LATERAL (
        SELECT * FROM vm_runtime AS s
        WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
        LIMIT 1
    ) AS s
    CROSS JOIN LATERAL (
        SELECT * FROM vm_runtime_history AS h
        WHERE h.version_number = s.version_number AND h.version_time = s.version_time
          AND (h.cluster, h.namespace, h.name, h.owner_uid, h.version_epoch, h.version_step)
              IS NOT DISTINCT FROM (s.cluster, s.namespace, s.name, s.owner_uid, s.version_epoch, s.version_step)
        LIMIT 1
    ) AS own
    CROSS JOIN LATERAL (
        SELECT * FROM vm_runtime_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
          AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
              <= (s.version_epoch, s.version_number, s.version_time, s.version_step)
          AND h.version_epoch >= 0
          AND (own.uid IS NULL OR h.uid = own.uid)
        OFFSET 0
    ) AS h
    WHERE s.deleted_at IS NOT NULL
      AND NOT (
          (own.node, own.guest_os, own.live_vcpus, own.live_memory_bytes, nullif(own.ip_addresses, '{}')) IS NOT NULL
      )
), found AS MATERIALIZED (
    SELECT DISTINCT cluster, namespace, name, owner_uid,
           first_value(node) OVER (object ORDER BY node IS NULL, age) AS node,
           first_value(guest_os) OVER (object ORDER BY guest_os IS NULL, age) AS guest_os,
           first_value(live_vcpus) OVER (object ORDER BY live_vcpus IS NULL, age) AS live_vcpus,
           first_value(live_memory_bytes) OVER (object ORDER BY live_memory_bytes IS NULL, age) AS live_memory_bytes,
           first_value(ip_addresses) OVER (object ORDER BY ip_addresses IS NULL, age) AS ip_addresses
    FROM earlier
    WINDOW object AS (PARTITION BY cluster, namespace, name, owner_uid)
)
UPDATE vm_runtime AS s
SET (node, guest_os, live_vcpus, live_memory_bytes, ip_addresses, updated_at)
  = (coalesce(f.node, s.node), coalesce(f.guest_os, s.guest_os), coalesce(f.live_vcpus, s.live_vcpus),
     coalesce(f.live_memory_bytes, s.live_memory_bytes), coalesce(f.ip_addresses, s.ip_addresses), now())
FROM found AS f
WHERE s.cluster = f.cluster AND s.namespace = f.namespace AND s.name = f.name AND s.owner_uid = f.owner_uid
  AND (s.node, s.guest_os, s.live_vcpus, s.live_memory_bytes, s.ip_addresses)
      IS DISTINCT FROM
      (coalesce(f.node, s.node), coalesce(f.guest_os, s.guest_os), coalesce(f.live_vcpus, s.live_vcpus),
       coalesce(f.live_memory_bytes, s.live_memory_bytes), coalesce(f.ip_addresses, s.ip_addresses));

-- lock_shown (rows)
-- Locks the machines of the changed instances, so that show_instances sees what other writers of them have committed.
-- A statement of its own, because show_instances would read vm_runtime as it was before it had waited for the lock.
-- Locks vm_state in the order of its keys, after vm_runtime; no writer of machines locks vm_runtime.
PREPARE lock_shown (json) AS
SELECT count(*)
FROM (
    SELECT
    FROM (
        SELECT DISTINCT cluster, namespace, name
        FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
    ) AS r
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    ORDER BY s.cluster, s.namespace, s.name
    FOR NO KEY UPDATE OF s
) AS locked;

-- show_instances (rows)
-- Copies what the instances say into the state of their machines, where it differs.
-- Runs after lock_shown in the same transaction.
PREPARE show_instances (json) AS
UPDATE vm_state AS s
SET (node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at, updated_at)
  = (f.node, f.ip_addresses, f.guest_os, f.phase, f.live_vcpus, f.live_memory_bytes, f.effective_at, now())
FROM (
    SELECT DISTINCT cluster, namespace, name
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
) AS r
CROSS JOIN LATERAL (
    SELECT i.*
    FROM vm_state AS m
    LEFT JOIN vm_runtime AS i
        ON i.cluster = m.cluster AND i.namespace = m.namespace AND i.name = m.name AND i.owner_uid = m.uid
    WHERE m.cluster = r.cluster AND m.namespace = r.namespace AND m.name = r.name
    LIMIT 1
) AS f
WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
  AND (s.node, s.ip_addresses, s.guest_os, s.phase, s.live_vcpus, s.live_memory_bytes, s.runtime_seen_at)
      IS DISTINCT FROM
      (f.node, f.ip_addresses, f.guest_os, f.phase, f.live_vcpus, f.live_memory_bytes, f.effective_at);

-- count_unshown (rows)
-- Counts the changed instances whose machine is unknown, or does not show them.
-- The first events of a machine and of its instance may be stored at once by two transactions that do not see each
-- other. The caller then runs show_instances once more, while no other writer is under way (see alone).
PREPARE count_unshown (json) AS
SELECT count(*)
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
)
WHERE NOT EXISTS (
    SELECT
    FROM vm_state AS s
    JOIN vm_runtime AS i
        ON i.cluster = s.cluster AND i.namespace = s.namespace AND i.name = s.name AND i.owner_uid = s.uid
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.uid = r.owner_uid
      AND (s.node, s.ip_addresses, s.guest_os, s.phase, s.live_vcpus, s.live_memory_bytes, s.runtime_seen_at)
          IS NOT DISTINCT FROM
          (i.node, i.ip_addresses, i.guest_os, i.phase, i.live_vcpus, i.live_memory_bytes, i.effective_at)
    OFFSET 0
);
