-- The fleet as it was is looked up in the order of the histories' indexes, and what need not be asked is not.
-- Each machine is looked for in the months before the moment, until one has it. In a jumble, as the machines stand in
-- vm_state, each search begins with pages of the index that are not in the processor's cache.
-- depends: 0028.sizes_in_the_view

-- As before. What ran is looked for in the last days first, as a machine's own version is: Postgres reads all entries of
-- a page of the index that match, and a page holds a hundred of one machine. Where those days begin is reckoned in UTC:
-- that is the same in every session, so Postgres knows it when it plans, and plans for the months of these days alone.
-- What is asked of few machines is behind a row that only those have (OFFSET 0 keeps it apart): as a condition of the
-- search it is evaluated for each month.
CREATE OR REPLACE FUNCTION virtual_machines_at(moment timestamptz) RETURNS SETOF virtual_machines
LANGUAGE sql STABLE PARALLEL SAFE
BEGIN ATOMIC
SELECT m.type, m.id, m.kind, m.name, m.namespace, m.time, m.cpucores, m.cpusockets, m.memory, m.storageclass, m.network,
       m.cluster, m.uid, m.resource_version, m.generation, m.cputhreads,
       coalesce(
           m.vcpus,
           CASE WHEN m.instancetype IS NOT NULL AND r.phase <> 'Gone' THEN r.live_vcpus END,
           CASE WHEN m.instancetype IS NOT NULL THEN coalesce(r.sized_vcpus, r.live_vcpus) END
       ),
       coalesce(
           m.memory_bytes,
           CASE WHEN m.instancetype IS NOT NULL AND r.phase <> 'Gone' THEN r.live_memory_bytes END,
           CASE WHEN m.instancetype IS NOT NULL THEN coalesce(r.sized_memory_bytes, r.live_memory_bytes) END
       ),
       m.instancetype, m.preference, m.run_strategy, m.status, m.os, m.architecture, m.machine_type, m.disks,
       m.disk_bytes, m.labels, m.created_at, m.updated_at,
       r.node, r.ip_addresses, r.guest_os, r.phase, r.live_vcpus, r.live_memory_bytes, r.runtime_seen_at,
       CASE
           WHEN m.vcpus IS NOT NULL THEN 'spec'
           WHEN m.instancetype IS NULL THEN NULL
           WHEN r.live_vcpus IS NOT NULL AND (r.phase <> 'Gone' OR r.sized_vcpus IS NULL) THEN 'instance'
           WHEN r.sized_vcpus IS NOT NULL THEN 'instancetype'
       END,
       CASE
           WHEN m.memory_bytes IS NOT NULL THEN 'spec'
           WHEN m.instancetype IS NULL THEN NULL
           WHEN r.live_memory_bytes IS NOT NULL AND (r.phase <> 'Gone' OR r.sized_memory_bytes IS NULL) THEN 'instance'
           WHEN r.sized_memory_bytes IS NOT NULL THEN 'instancetype'
       END,
       m.owner
FROM (
    SELECT s.type, s.id, s.kind, s.time, s.cpucores, s.cpusockets, s.memory, s.storageclass, s.network, s.uid,
           s.resource_version, s.generation, s.cputhreads, s.spec_vcpus AS vcpus, s.spec_memory_bytes AS memory_bytes,
           s.instancetype, s.preference, s.run_strategy, s.status, s.os, s.architecture, s.machine_type, s.disks,
           s.disk_bytes, s.labels, s.owner, s.created_at, s.updated_at,
           s.cluster, s.namespace, s.name, s.uid AS now_uid, s.instancetype AS now_instancetype,
           s.instancetype_vcpus, s.instancetype_memory_bytes, s.node, s.ip_addresses, s.guest_os, s.phase,
           s.live_vcpus, s.live_memory_bytes, s.runtime_seen_at
    FROM vm_state AS s
    WHERE s.effective_at <= moment AND s.deleted_at IS NULL
    UNION ALL
    SELECT h.type, h.id, h.kind, h.time, h.cpucores, h.cpusockets, h.memory, h.storageclass, h.network, h.uid,
           h.resource_version, h.generation, h.cputhreads, h.vcpus, h.memory_bytes,
           h.instancetype, h.preference, h.run_strategy, h.status, h.os, h.architecture, h.machine_type, h.disks,
           h.disk_bytes, h.labels, h.owner, h.created_at, h.recorded_at,
           s.cluster, s.namespace, s.name, s.uid, s.instancetype,
           s.instancetype_vcpus, s.instancetype_memory_bytes, s.node, s.ip_addresses, s.guest_os, s.phase,
           s.live_vcpus, s.live_memory_bytes, s.runtime_seen_at
    FROM (
        SELECT cluster, namespace, name, uid, instancetype, instancetype_vcpus, instancetype_memory_bytes, node,
               ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at
        FROM vm_state
        WHERE effective_at > moment
        ORDER BY name
    ) AS s
    CROSS JOIN LATERAL (
        (SELECT * FROM vm_history AS h
         WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
           AND h.effective_at <= moment
           AND h.effective_at > (moment AT TIME ZONE 'UTC' - interval '24 hours') AT TIME ZONE 'UTC'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        UNION ALL
        (SELECT * FROM vm_history AS h
         WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
           AND h.effective_at <= (moment AT TIME ZONE 'UTC' - interval '24 hours') AT TIME ZONE 'UTC'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        LIMIT 1
    ) AS h
    WHERE h.deleted_at IS NULL
) AS m
-- What ran of it: as vm_state says, if that is the same machine and it says so since then; else looked up likewise.
-- What is gone keeps what was said of it before; that is asked of nothing else.
LEFT JOIN LATERAL (
    SELECT p.effective_at, p.phase, coalesce(p.node, b.node) AS node,
           CASE WHEN p.deleted_at IS NULL THEN p.ip_addresses
                ELSE coalesce(nullif(p.ip_addresses, '{}'), b.ip_addresses) END AS ip_addresses,
           coalesce(p.guest_os, b.guest_os) AS guest_os, coalesce(p.live_vcpus, b.live_vcpus) AS live_vcpus,
           coalesce(p.live_memory_bytes, b.live_memory_bytes) AS live_memory_bytes
    FROM (SELECT m.uid WHERE m.uid IS DISTINCT FROM m.now_uid OR m.runtime_seen_at > moment OFFSET 0) AS asked
    CROSS JOIN LATERAL (
        (SELECT * FROM vm_runtime_history AS h
         WHERE h.cluster = m.cluster AND h.namespace = m.namespace AND h.name = m.name AND h.owner_uid = asked.uid
           AND NOT h.overtaken AND h.effective_at <= moment
           AND h.effective_at > (moment AT TIME ZONE 'UTC' - interval '7 days') AT TIME ZONE 'UTC'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        UNION ALL
        (SELECT * FROM vm_runtime_history AS h
         WHERE h.cluster = m.cluster AND h.namespace = m.namespace AND h.name = m.name AND h.owner_uid = asked.uid
           AND NOT h.overtaken AND h.effective_at <= (moment AT TIME ZONE 'UTC' - interval '7 days') AT TIME ZONE 'UTC'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        LIMIT 1
    ) AS p
    LEFT JOIN LATERAL (
        SELECT h.*
        FROM (
            SELECT p.owner_uid
            WHERE p.deleted_at IS NOT NULL AND (p.node IS NULL OR coalesce(p.ip_addresses, '{}') = '{}')
            OFFSET 0
        ) AS gone
        CROSS JOIN LATERAL (
            SELECT * FROM vm_runtime_history AS h
            WHERE h.cluster = p.cluster AND h.namespace = p.namespace AND h.name = p.name
              AND h.owner_uid = gone.owner_uid AND NOT h.overtaken AND h.effective_at <= p.effective_at
              AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
                  < (p.effective_at, p.version_epoch, p.version_number, p.version_time, p.version_step)
            ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                     h.version_step DESC
            LIMIT 1
        ) AS h
    ) AS b ON p.uid IS NULL OR b.uid = p.uid
    OFFSET 0
) AS past ON true
CROSS JOIN LATERAL (
    SELECT m.uid = m.now_uid AND m.runtime_seen_at <= moment,
           (m.uid, m.instancetype) IS NOT DISTINCT FROM (m.now_uid, m.now_instancetype)
) AS same (run, size)
CROSS JOIN LATERAL (
    SELECT CASE WHEN same.run THEN m.node ELSE past.node END AS node,
           CASE WHEN same.run THEN m.ip_addresses ELSE past.ip_addresses END AS ip_addresses,
           CASE WHEN same.run THEN m.guest_os ELSE past.guest_os END AS guest_os,
           CASE WHEN same.run THEN m.live_vcpus ELSE past.live_vcpus END AS live_vcpus,
           CASE WHEN same.run THEN m.live_memory_bytes ELSE past.live_memory_bytes END AS live_memory_bytes,
           CASE WHEN same.run THEN m.phase ELSE past.phase END AS phase,
           CASE WHEN same.run THEN m.runtime_seen_at ELSE past.effective_at END AS runtime_seen_at,
           CASE WHEN same.size THEN m.instancetype_vcpus END AS sized_vcpus,
           CASE WHEN same.size THEN m.instancetype_memory_bytes END AS sized_memory_bytes
) AS r;
END;
