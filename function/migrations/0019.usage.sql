-- Hours: how long each virtual machine existed and ran, and what it had meanwhile.
-- depends: 0017.own_time

-- The virtual machines that lived between two times, one row for each uid, and their hours in between; what is later
-- than now did not happen yet. Numbers are exact to the microsecond before they are rounded to six digits of an hour.
-- An hour is 3600 seconds, so neither months nor daylight saving matter.
--
-- A piece of a machine is the span of a version of it, together with the versions of the same facts that follow; it is
-- cut once more wherever its instance changed. What was in force when the span begins is found as in
-- virtual_machines_at: the state where that is old enough, else by index. The size is chosen as it is there.
-- Versions are read in the order of the index, machine by machine, and most repeat the facts of the one before: so what
-- is joined and summed is little, however long the history is.
CREATE FUNCTION vm_usage(since timestamptz, until timestamptz) RETURNS TABLE (
    cluster text, namespace text, name text, uid text, labels jsonb, hours numeric, hours_running numeric,
    running_by text, vcpu_hours numeric, vcpu_hours_running numeric, memory_gib_hours numeric,
    memory_gib_hours_running numeric, disk_gib_hours numeric, node_hours jsonb, hours_unsized numeric
)
LANGUAGE sql STABLE PARALLEL SAFE ROWS 10000
BEGIN ATOMIC
WITH pieces AS (
    SELECT s.cluster, s.namespace, s.name, m.uid, m.labels, i.at, i.seconds, i.node, m.told,
           CASE WHEN m.told THEN i.phase = 'Running' ELSE m.runs END AS runs,
           m.disk_bytes,
           coalesce(
               m.vcpus,
               CASE WHEN m.instancetype IS NOT NULL AND i.phase <> 'Gone' THEN i.live_vcpus END,
               CASE WHEN m.instancetype IS NOT NULL THEN coalesce(z.vcpus, i.live_vcpus) END
           ) AS vcpus,
           coalesce(
               m.memory_bytes,
               CASE WHEN m.instancetype IS NOT NULL AND i.phase <> 'Gone' THEN i.live_memory_bytes END,
               CASE WHEN m.instancetype IS NOT NULL THEN coalesce(z.memory_bytes, i.live_memory_bytes) END
           ) AS memory_bytes
    FROM vm_state AS s
    CROSS JOIN LATERAL (
        SELECT v.*, coalesce(lead(v.at) OVER versions, least(until, now())) AS ends
        FROM (
            SELECT h.*, told.told, t.runs, greatest(h.effective_at, since) AS at, lag(1) OVER versions = 1
                   AND (h.uid, h.gone, h.vcpus, h.memory_bytes, h.instancetype, t.runs, h.disk_bytes, h.labels)
                       IS NOT DISTINCT FROM
                       (lag(h.uid) OVER versions, lag(h.gone) OVER versions, lag(h.vcpus) OVER versions,
                        lag(h.memory_bytes) OVER versions, lag(h.instancetype) OVER versions,
                        lag(t.runs) OVER versions, lag(h.disk_bytes) OVER versions, lag(h.labels) OVER versions)
                   AS same
            FROM (
                SELECT s.uid, s.deleted_at IS NOT NULL AS gone, s.spec_vcpus AS vcpus,
                       s.spec_memory_bytes AS memory_bytes, s.instancetype, s.status, s.disk_bytes, s.labels,
                       s.effective_at, s.version_epoch, s.version_number, s.version_time, s.version_step
                WHERE s.effective_at <= since
                UNION ALL
                (SELECT h.uid, h.deleted_at IS NOT NULL, h.vcpus, h.memory_bytes, h.instancetype, h.status,
                        h.disk_bytes, h.labels, h.effective_at, h.version_epoch, h.version_number, h.version_time,
                        h.version_step
                 FROM vm_history AS h
                 WHERE s.effective_at > since
                   AND h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
                   AND h.effective_at <= since
                 ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                          h.version_step DESC
                 LIMIT 1)
                UNION ALL
                SELECT h.uid, h.deleted_at IS NOT NULL, h.vcpus, h.memory_bytes, h.instancetype, h.status,
                       h.disk_bytes, h.labels, h.effective_at, h.version_epoch, h.version_number, h.version_time,
                       h.version_step
                FROM vm_history AS h
                WHERE s.effective_at > since
                  AND h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
                  AND h.effective_at > since AND h.effective_at < until
            ) AS h
            -- Whether an instance of it was ever told of: the state knows it of the machine that has the name now.
            CROSS JOIN LATERAL (
                SELECT CASE WHEN h.uid = s.uid THEN s.runtime_seen_at IS NOT NULL ELSE EXISTS (
                    SELECT FROM vm_runtime AS q
                    WHERE q.cluster = s.cluster AND q.namespace = s.namespace AND q.name = s.name
                      AND q.owner_uid = h.uid
                    OFFSET 0
                ) END
            ) AS told (told)
            CROSS JOIN LATERAL (
                SELECT CASE WHEN NOT told.told THEN coalesce(h.status IN ('Running', 'Paused', 'Migrating'), false) END
            ) AS t (runs)
            WINDOW versions AS (
                ORDER BY h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
            )
        ) AS v
        WHERE NOT v.same
        WINDOW versions AS (
            ORDER BY v.effective_at, v.version_epoch, v.version_number, v.version_time, v.version_step
        )
        OFFSET 0
    ) AS m
    CROSS JOIN LATERAL (
        SELECT CASE WHEN sized.same THEN s.instancetype_vcpus END,
               CASE WHEN sized.same THEN s.instancetype_memory_bytes END
        FROM (SELECT (m.uid, m.instancetype) IS NOT DISTINCT FROM (s.uid, s.instancetype)) AS sized (same)
    ) AS z (vcpus, memory_bytes)
    LEFT JOIN LATERAL (
        SELECT * FROM vm_runtime AS q
        WHERE q.cluster = s.cluster AND q.namespace = s.namespace AND q.name = s.name AND q.owner_uid = m.uid
        LIMIT 1
    ) AS q ON true
    -- What ran of it meanwhile. Before its first instance nothing did: that is the row without a time.
    CROSS JOIN LATERAL (
        SELECT v.phase, v.node, v.live_vcpus, v.live_memory_bytes, greatest(v.effective_at, m.at) AS at,
               extract(epoch FROM least(v.ends, m.ends)) - extract(epoch FROM greatest(v.effective_at, m.at))
               AS seconds
        FROM (
            SELECT h.*, coalesce(lead(h.effective_at) OVER versions, 'infinity') AS ends
            FROM (
                SELECT NULL AS phase, NULL AS node, NULL::integer AS live_vcpus, NULL::bigint AS live_memory_bytes,
                       '-infinity'::timestamptz AS effective_at, -1::smallint AS version_epoch,
                       -1::bigint AS version_number, '-infinity'::timestamptz AS version_time,
                       0::smallint AS version_step
                UNION ALL
                SELECT q.phase, q.node, q.live_vcpus, q.live_memory_bytes, q.effective_at, q.version_epoch,
                       q.version_number, q.version_time, q.version_step
                WHERE q.effective_at <= m.at
                UNION ALL
                SELECT h.phase, h.node, coalesce(h.live_vcpus, cpu.live_vcpus),
                       coalesce(h.live_memory_bytes, ram.live_memory_bytes), h.effective_at, h.version_epoch,
                       h.version_number, h.version_time, h.version_step
                FROM (
                    (SELECT * FROM vm_runtime_history AS h
                     WHERE q.effective_at > m.at
                       AND h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name
                       AND h.owner_uid = m.uid AND NOT h.overtaken AND h.effective_at <= m.at
                     ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                              h.version_step DESC
                     LIMIT 1)
                    UNION ALL
                    SELECT * FROM vm_runtime_history AS h
                    WHERE q.effective_at > m.at
                      AND h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name
                      AND h.owner_uid = m.uid AND NOT h.overtaken AND h.effective_at > m.at AND h.effective_at < m.ends
                ) AS h
                -- What is gone keeps the size that was said of it last, as the state does.
                LEFT JOIN LATERAL (
                    SELECT b.live_vcpus FROM vm_runtime_history AS b
                    WHERE h.deleted_at IS NOT NULL AND h.live_vcpus IS NULL AND b.live_vcpus IS NOT NULL
                      AND b.cluster = h.cluster AND b.namespace = h.namespace AND b.name = h.name
                      AND b.owner_uid = h.owner_uid AND (h.uid IS NULL OR b.uid = h.uid)
                      AND NOT b.overtaken AND b.effective_at <= h.effective_at
                      AND (b.effective_at, b.version_epoch, b.version_number, b.version_time, b.version_step)
                          < (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
                    ORDER BY b.effective_at DESC, b.version_epoch DESC, b.version_number DESC, b.version_time DESC,
                             b.version_step DESC
                    LIMIT 1
                ) AS cpu ON true
                LEFT JOIN LATERAL (
                    SELECT b.live_memory_bytes FROM vm_runtime_history AS b
                    WHERE h.deleted_at IS NOT NULL AND h.live_memory_bytes IS NULL AND b.live_memory_bytes IS NOT NULL
                      AND b.cluster = h.cluster AND b.namespace = h.namespace AND b.name = h.name
                      AND b.owner_uid = h.owner_uid AND (h.uid IS NULL OR b.uid = h.uid)
                      AND NOT b.overtaken AND b.effective_at <= h.effective_at
                      AND (b.effective_at, b.version_epoch, b.version_number, b.version_time, b.version_step)
                          < (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
                    ORDER BY b.effective_at DESC, b.version_epoch DESC, b.version_number DESC, b.version_time DESC,
                             b.version_step DESC
                    LIMIT 1
                ) AS ram ON true
            ) AS h
            WINDOW versions AS (
                ORDER BY h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
            )
        ) AS v
        WHERE greatest(v.effective_at, m.at) < least(v.ends, m.ends)
        OFFSET 0
    ) AS i
    WHERE NOT m.gone AND m.at < m.ends
), nodes AS (
    SELECT p.cluster, p.namespace, p.name, p.uid, p.node, bool_or(p.told) AS told, min(p.at) AS first_at,
           max(p.at) AS last_at, (array_agg(p.labels ORDER BY p.at DESC))[1] AS labels,
           sum(p.seconds) AS seconds, sum(p.seconds) FILTER (WHERE p.runs) AS running,
           sum(p.seconds * p.vcpus) AS vcpus, sum(p.seconds * p.vcpus) FILTER (WHERE p.runs) AS vcpus_running,
           sum(p.seconds * p.memory_bytes) AS memory,
           sum(p.seconds * p.memory_bytes) FILTER (WHERE p.runs) AS memory_running,
           sum(p.seconds * p.disk_bytes) AS disk,
           sum(p.seconds) FILTER (WHERE p.vcpus IS NULL OR p.memory_bytes IS NULL) AS unsized
    FROM pieces AS p
    GROUP BY p.cluster, p.namespace, p.name, p.uid, p.node
)
SELECT n.cluster, n.namespace, n.name, n.uid, (array_agg(n.labels ORDER BY n.last_at DESC))[1],
       round(sum(n.seconds) / 3600, 6), round(coalesce(sum(n.running), 0) / 3600, 6),
       CASE WHEN bool_or(n.told) THEN 'phase' ELSE 'status' END,
       round(sum(n.vcpus) / 3600, 6), round(sum(n.vcpus_running) / 3600, 6),
       round(sum(n.memory) / 3600 / 1073741824, 6), round(sum(n.memory_running) / 3600 / 1073741824, 6),
       round(sum(n.disk) / 3600 / 1073741824, 6),
       coalesce(
           jsonb_object_agg(n.node, round(n.running / 3600, 6)) FILTER (WHERE n.node IS NOT NULL AND n.running > 0),
           '{}'
       ),
       round(coalesce(sum(n.unsized), 0) / 3600, 6)
FROM nodes AS n
GROUP BY n.cluster, n.namespace, n.name, n.uid
ORDER BY n.cluster, n.namespace, n.name, min(n.first_at);
END;

COMMENT ON FUNCTION vm_usage IS
    'The virtual machines that lived between two times: hours, vCPU-hours, GiB-hours, and hours by node.';
