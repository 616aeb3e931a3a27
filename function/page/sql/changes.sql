-- What changed. vm_changes looks the version before each version up, so first the keys of the newest versions are
-- found, as many as a page needs, and then only their changes are made.

-- recent_keys (since, until, cluster, namespace, name, gone, machines, instances, upto_time, upto_cluster,
-- upto_namespace, upto_name, most, looked)
-- Returns where versions begin that were in force and may differ from the version before them, newest first: the time
-- and the VM; from since up to until. The filters are NULL where they are not asked. gone: versions that are deletes
-- alone. machines, instances: versions of which of both. upto: only keys below that one. looked: how many versions are
-- compared; the last of them is returned in any case, as is_last, and is_silent where it repeats the one before it.
-- The time is found by an index that summarizes blocks, or by the name; all keys of the time are sorted before the
-- first is compared. What repeats a flat version whole may still tell something new: vm_changes says so.
PREPARE recent_keys (
    timestamptz, timestamptz, text, text, text, boolean, boolean, boolean, timestamptz, text, text, text, integer,
    integer
) AS
SELECT k.effective_at, k.cluster, k.namespace, k.name, k.number = $14 AS is_last, s.silent IS true AS is_silent
FROM (
    SELECT h.*, row_number() OVER (
        ORDER BY h.effective_at DESC, h.cluster DESC, h.namespace DESC, h.name DESC
    ) AS number
    FROM (
        SELECT h.effective_at, h.cluster, h.namespace, h.name, NULL AS owner_uid
        FROM vm_history AS h
        WHERE $7 AND h.effective_at >= $1 AND h.effective_at <= $2 AND NOT h.overtaken
          AND ($3 IS NULL OR h.cluster = $3) AND ($4 IS NULL OR h.namespace = $4) AND ($5 IS NULL OR h.name = $5)
          AND (NOT $6 OR h.deleted_at IS NOT NULL)
          AND (h.effective_at, h.cluster, h.namespace, h.name) < ($9, $10, $11, $12)
        UNION ALL
        SELECT h.effective_at, h.cluster, h.namespace, h.name, h.owner_uid
        FROM vm_runtime_history AS h
        WHERE $8 AND h.effective_at >= $1 AND h.effective_at <= $2 AND NOT h.overtaken
          AND ($3 IS NULL OR h.cluster = $3) AND ($4 IS NULL OR h.namespace = $4) AND ($5 IS NULL OR h.name = $5)
          AND (NOT $6 OR h.deleted_at IS NOT NULL)
          AND (h.effective_at, h.cluster, h.namespace, h.name) < ($9, $10, $11, $12)
        ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC
        LIMIT $14
    ) AS h
    OFFSET 0
) AS k
LEFT JOIN LATERAL (
    SELECT f.facts IS NOT DISTINCT FROM lag(f.facts) OVER times AND (v.shape = 0 OR lag(v.shape) OVER times > 0)
               AND lag(1) OVER times = 1 AS silent
    FROM (
        SELECT * FROM vm_history AS h
        WHERE k.owner_uid IS NULL AND h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name
          AND NOT h.overtaken AND h.effective_at <= k.effective_at
        ORDER BY h.effective_at DESC LIMIT 2
    ) AS v
    CROSS JOIN LATERAL (
        SELECT ROW (v.kind, v.uid, v.cpucores, v.cpusockets, v.cputhreads, v.vcpus, v.memory, v.memory_bytes,
                    v.storageclass, v.network, v.instancetype, v.preference, v.run_strategy, v.status, v.os,
                    v.architecture, v.machine_type, v.disks, v.disk_bytes, v.labels, v.owner, v.created_at,
                    v.deleted_at)
    ) AS f (facts)
    WINDOW times AS (ORDER BY v.effective_at)
    ORDER BY v.effective_at DESC LIMIT 1
) AS machine ON true
LEFT JOIN LATERAL (
    SELECT f.facts IS NOT DISTINCT FROM lag(f.facts) OVER times AND lag(1) OVER times = 1 AS silent
    FROM (
        SELECT * FROM vm_runtime_history AS h
        WHERE h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name AND h.owner_uid = k.owner_uid
          AND NOT h.overtaken AND h.effective_at <= k.effective_at
        ORDER BY h.effective_at DESC LIMIT 2
    ) AS v
    CROSS JOIN LATERAL (
        SELECT ROW (v.uid, v.node, v.ip_addresses, v.guest_os, v.phase, v.live_vcpus, v.live_memory_bytes, v.deleted_at)
    ) AS f (facts)
    WINDOW times AS (ORDER BY v.effective_at)
    ORDER BY v.effective_at DESC LIMIT 1
) AS instance ON true
CROSS JOIN LATERAL (SELECT coalesce(machine.silent, instance.silent)) AS s (silent)
WHERE s.silent IS NOT true OR k.number = $14
ORDER BY k.effective_at DESC, k.cluster DESC, k.namespace DESC, k.name DESC
LIMIT $13;

-- count_few (cluster, namespace, most)
-- Counts the VMs of a namespace, deleted ones too, but not on beyond so many.
PREPARE count_few (text, text, integer) AS
SELECT count(*)
FROM (
    SELECT FROM vm_state WHERE namespace = $2 AND ($1 IS NULL OR cluster = $1) LIMIT $3
) AS few;

-- few_keys (since, until, cluster, namespace, gone, machines, instances, upto_time, upto_cluster, upto_namespace,
-- upto_name, most)
-- Returns the same as recent_keys of a namespace with few VMs: VM by VM, so that a quiet one is found at once.
PREPARE few_keys (
    timestamptz, timestamptz, text, text, boolean, boolean, boolean, timestamptz, text, text, text, integer
) AS
SELECT DISTINCT h.effective_at, s.cluster, s.namespace, s.name, false AS is_last, false AS is_silent
FROM vm_state AS s
CROSS JOIN LATERAL (
    (SELECT h.effective_at FROM vm_history AS h
     WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND $6 AND NOT h.overtaken
       AND h.effective_at >= $1 AND h.effective_at <= $2 AND (NOT $5 OR h.deleted_at IS NOT NULL)
     ORDER BY h.effective_at DESC LIMIT $12)
    UNION ALL
    (SELECT h.effective_at FROM vm_runtime_history AS h
     WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND $7 AND NOT h.overtaken
       AND h.effective_at >= $1 AND h.effective_at <= $2 AND (NOT $5 OR h.deleted_at IS NOT NULL)
     ORDER BY h.effective_at DESC LIMIT $12)
) AS h
WHERE s.namespace = $4 AND ($3 IS NULL OR s.cluster = $3)
  AND (h.effective_at, s.cluster, s.namespace, s.name) < ($8, $9, $10, $11)
ORDER BY 1 DESC, 2 DESC, 3 DESC, 4 DESC
LIMIT $12;

-- changes_of (times, clusters, namespaces, names)
-- Returns what changed at each of some keys: nothing, where the version repeats the facts of the one before it.
PREPARE changes_of (timestamptz[], text[], text[], text[]) AS
SELECT c.changed_at, c.cluster, c.namespace, c.name, c.what, c.changes::text AS changes, c.changed_by, c.type,
       c.resource_version, c.uid
FROM unnest($1, $2, $3, $4) AS k (changed_at, cluster, namespace, name)
CROSS JOIN LATERAL (
    SELECT * FROM vm_changes AS c
    WHERE c.cluster = k.cluster AND c.namespace = k.namespace AND c.name = k.name AND c.changed_at = k.changed_at
    OFFSET 0
) AS c
ORDER BY c.changed_at DESC, c.cluster DESC, c.namespace DESC, c.name DESC, c.resource_version DESC NULLS LAST;
