-- One VM: its facts, its story, where and how it ran.

-- vm_now (cluster, namespace, name)
-- Returns the state of a VM, also of a deleted one; its sizes are chosen as by virtual_machines.
PREPARE vm_now (text, text, text) AS
SELECT s.cluster, s.namespace, s.name, s.uid, s.kind, s.status, s.run_strategy, s.instancetype, s.preference,
       s.cpucores, s.cpusockets, s.cputhreads,
       coalesce(s.spec_vcpus, CASE WHEN live.counts THEN s.live_vcpus END, sized.vcpus) AS vcpus,
       s.memory,
       coalesce(s.spec_memory_bytes, CASE WHEN live.counts THEN s.live_memory_bytes END, sized.memory_bytes)
           AS memory_bytes,
       CASE WHEN s.spec_vcpus IS NOT NULL THEN 'spec'
            WHEN s.instancetype IS NULL THEN NULL
            WHEN s.live_vcpus IS NOT NULL AND (live.counts OR s.instancetype_vcpus IS NULL) THEN 'instance'
            WHEN s.instancetype_vcpus IS NOT NULL THEN 'instancetype' END AS cpu_source,
       CASE WHEN s.spec_memory_bytes IS NOT NULL THEN 'spec'
            WHEN s.instancetype IS NULL THEN NULL
            WHEN s.live_memory_bytes IS NOT NULL AND (live.counts OR s.instancetype_memory_bytes IS NULL)
                THEN 'instance'
            WHEN s.instancetype_memory_bytes IS NOT NULL THEN 'instancetype' END AS memory_source,
       s.disks, s.disk_bytes, s.storageclass, s.network, s.os, s.architecture, s.machine_type,
       s.labels::text AS labels, s.owner, s.created_at, s.deleted_at, s.node, s.ip_addresses, s.guest_os, s.phase,
       s.live_vcpus, s.live_memory_bytes, s.runtime_seen_at, s.resource_version, s.generation, s.type, s.id, s.time,
       s.effective_at, s.updated_at, s.changed_by, s.shape = 0 AS is_flat
FROM vm_state AS s
CROSS JOIN LATERAL (SELECT s.instancetype IS NOT NULL AND s.phase <> 'Gone') AS live (counts)
CROSS JOIN LATERAL (
    SELECT CASE WHEN s.instancetype IS NOT NULL THEN coalesce(s.instancetype_vcpus, s.live_vcpus) END,
           CASE WHEN s.instancetype IS NOT NULL THEN coalesce(s.instancetype_memory_bytes, s.live_memory_bytes) END
) AS sized (vcpus, memory_bytes)
WHERE s.cluster = $1 AND s.namespace = $2 AND s.name = $3;

-- vm_then (cluster, namespace, name, moment)
-- Returns the same of the last version of the VM that was in force at a moment and was not its delete; deleted_at is
-- when it was gone by that moment. The numbers are chosen as by virtual_machines_at, and of an instance that is gone
-- the last values are kept. Sizes of instancetypes have no history: they are today's.
PREPARE vm_then (text, text, text, timestamptz) AS
SELECT m.cluster, m.namespace, m.name, m.uid, m.kind, m.status, m.run_strategy, m.instancetype, m.preference,
       m.cpucores, m.cpusockets, m.cputhreads,
       coalesce(m.vcpus, CASE WHEN live.counts THEN r.live_vcpus END,
                CASE WHEN m.instancetype IS NOT NULL THEN coalesce(sized.vcpus, r.live_vcpus) END) AS vcpus,
       m.memory,
       coalesce(m.memory_bytes, CASE WHEN live.counts THEN r.live_memory_bytes END,
                CASE WHEN m.instancetype IS NOT NULL THEN coalesce(sized.memory_bytes, r.live_memory_bytes) END)
           AS memory_bytes,
       CASE WHEN m.vcpus IS NOT NULL THEN 'spec'
            WHEN m.instancetype IS NULL THEN NULL
            WHEN r.live_vcpus IS NOT NULL AND (live.counts OR sized.vcpus IS NULL) THEN 'instance'
            WHEN sized.vcpus IS NOT NULL THEN 'instancetype' END AS cpu_source,
       CASE WHEN m.memory_bytes IS NOT NULL THEN 'spec'
            WHEN m.instancetype IS NULL THEN NULL
            WHEN r.live_memory_bytes IS NOT NULL AND (live.counts OR sized.memory_bytes IS NULL) THEN 'instance'
            WHEN sized.memory_bytes IS NOT NULL THEN 'instancetype' END AS memory_source,
       m.disks, m.disk_bytes, m.storageclass, m.network, m.os, m.architecture, m.machine_type,
       m.labels::text AS labels, m.owner, m.created_at, gone.effective_at AS deleted_at, r.node, r.ip_addresses,
       r.guest_os, r.phase, r.live_vcpus, r.live_memory_bytes, r.effective_at AS runtime_seen_at, m.resource_version,
       m.generation, m.type, m.id, m.time, m.effective_at, m.recorded_at AS updated_at, m.changed_by,
       m.shape = 0 AS is_flat
FROM (
    SELECT * FROM vm_history AS h
    WHERE h.cluster = $1 AND h.namespace = $2 AND h.name = $3 AND NOT h.overtaken AND h.effective_at <= $4
      AND h.deleted_at IS NULL
    ORDER BY h.effective_at DESC LIMIT 1
) AS m
LEFT JOIN LATERAL (
    SELECT h.effective_at FROM vm_history AS h
    WHERE h.cluster = m.cluster AND h.namespace = m.namespace AND h.name = m.name AND NOT h.overtaken
      AND h.effective_at <= $4 AND h.effective_at > m.effective_at
    ORDER BY h.effective_at LIMIT 1
) AS gone ON true
LEFT JOIN LATERAL (
    SELECT p.effective_at, p.phase, coalesce(p.node, b.node) AS node,
           coalesce(nullif(p.ip_addresses, '{}'), b.ip_addresses) AS ip_addresses,
           coalesce(p.guest_os, b.guest_os) AS guest_os, coalesce(p.live_vcpus, b.live_vcpus) AS live_vcpus,
           coalesce(p.live_memory_bytes, b.live_memory_bytes) AS live_memory_bytes
    FROM (
        SELECT * FROM vm_runtime_history AS h
        WHERE h.cluster = m.cluster AND h.namespace = m.namespace AND h.name = m.name AND h.owner_uid = m.uid
          AND NOT h.overtaken AND h.effective_at <= $4
        ORDER BY h.effective_at DESC LIMIT 1
    ) AS p
    LEFT JOIN LATERAL (
        SELECT * FROM vm_runtime_history AS h
        WHERE p.deleted_at IS NOT NULL AND h.cluster = p.cluster AND h.namespace = p.namespace AND h.name = p.name
          AND h.owner_uid = p.owner_uid AND NOT h.overtaken AND h.effective_at < p.effective_at
        ORDER BY h.effective_at DESC LIMIT 1
    ) AS b ON p.uid IS NULL OR b.uid = p.uid
) AS r ON true
LEFT JOIN LATERAL (
    SELECT s.instancetype_vcpus AS vcpus, s.instancetype_memory_bytes AS memory_bytes
    FROM vm_state AS s
    WHERE s.cluster = m.cluster AND s.namespace = m.namespace AND s.name = m.name
      AND (s.uid, s.instancetype) IS NOT DISTINCT FROM (m.uid, m.instancetype)
    LIMIT 1
) AS sized ON true
CROSS JOIN LATERAL (SELECT m.instancetype IS NOT NULL AND r.phase <> 'Gone') AS live (counts);

-- runs_of (cluster, namespace, name, until)
-- Returns when the node or the phase of what ran of a VM changed until a time, newest first; gone: the instance was.
PREPARE runs_of (text, text, text, timestamptz) AS
SELECT effective_at, node, phase
FROM (
    SELECT v.effective_at, v.node, v.phase,
           (v.node, v.phase) IS DISTINCT FROM lag((v.node, v.phase)) OVER times AS begins
    FROM (
        SELECT h.effective_at, CASE WHEN h.deleted_at IS NULL THEN h.node END AS node, h.phase
        FROM vm_runtime_history AS h
        WHERE h.cluster = $1 AND h.namespace = $2 AND h.name = $3 AND NOT h.overtaken AND h.effective_at <= $4
        ORDER BY h.effective_at DESC LIMIT 5000
    ) AS v
    WINDOW times AS (ORDER BY v.effective_at)
) AS versions
WHERE begins
ORDER BY effective_at DESC
LIMIT 1000;

-- statuses_of (cluster, namespace, name, until)
-- Returns likewise when the status of the VM itself changed, and whether it was deleted.
PREPARE statuses_of (text, text, text, timestamptz) AS
SELECT effective_at, status, deleted
FROM (
    SELECT v.effective_at, v.status, v.deleted,
           (v.status, v.deleted) IS DISTINCT FROM lag((v.status, v.deleted)) OVER times AS begins
    FROM (
        SELECT h.effective_at, h.status, h.deleted_at IS NOT NULL AS deleted
        FROM vm_history AS h
        WHERE h.cluster = $1 AND h.namespace = $2 AND h.name = $3 AND NOT h.overtaken AND h.effective_at <= $4
        ORDER BY h.effective_at DESC LIMIT 5000
    ) AS v
    WINDOW times AS (ORDER BY v.effective_at)
) AS versions
WHERE begins
ORDER BY effective_at DESC
LIMIT 1000;
