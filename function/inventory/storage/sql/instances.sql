-- The statements that write running instances: tables vm_runtime and vm_runtime_history.
-- They are those of machines.sql for other tables and columns; a test holds the two files alike. An object is here all
-- that ran of one machine, by the machine's uid, so the key has owner_uid besides.
-- Paste a statement into psql, then: EXPLAIN EXECUTE merge_instances ('[...]', true);

-- append_instances (rows, lists, given, batch)
-- Stores the changes that are plainly newer, and shows them in the state of their machines; see append_machines.
-- Left out besides, for lock_instances and merge_instances: an instance whose machine is not known by that uid, because
-- the machine's first event may be under way; and a delete that does not say all, for remember_instances.
-- Locks vm_runtime in the order of its keys, and after all of it vm_state in the order of its own, as the merge does.
-- merge_machines reads vm_runtime once it has locked the machine, so whoever of the two comes second has the newest
-- instance shown. For that the machine is locked also where it has another uid by now; then it keeps what it shows.
PREPARE append_instances (json, boolean, integer, text) AS
WITH incoming AS MATERIALIZED (
    SELECT r.*, e.version_epoch, e.effective_at, e.known_at,
           c.cluster IS NOT NULL AND CASE
               WHEN r.version_number < 0 THEN e.known_at <= c.instances_time
               ELSE (e.version_epoch, r.version_number) <= (c.instances_epoch, c.instances_version)
           END AS under_floor
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C",
        type text, id text COLLATE "C", time timestamptz, uid text, resource_version bigint, changed_by text,
        object_time timestamptz, node text, ip_addresses text[], guest_os text, phase text, live_vcpus integer,
        live_memory_bytes bigint, deleted_at timestamptz, version_number bigint, version_time timestamptz,
        version_step smallint, shape smallint, digest bigint
    )
    LEFT JOIN clusters AS c ON c.cluster = r.cluster
    CROSS JOIN LATERAL (
        SELECT least(r.object_time, coalesce(r.time, now())), coalesce(r.time, now()),
               coalesce(width_bucket(coalesce(r.time, 'infinity'), c.epochs), 0)::smallint
    ) AS e (effective_at, known_at, version_epoch)
), moved AS (
    INSERT INTO vm_runtime AS s (
        cluster, namespace, name, owner_uid, type, id, time, uid, resource_version, changed_by, node, ip_addresses,
        guest_os, phase, live_vcpus, live_memory_bytes, deleted_at, version_epoch, version_number, version_time,
        version_step, shape, digest, object_time, known_at, effective_at, updated_at
    )
    SELECT r.cluster, r.namespace, r.name, r.owner_uid, r.type, r.id, r.time, r.uid, r.resource_version, r.changed_by,
           r.node, r.ip_addresses, r.guest_os, r.phase, r.live_vcpus, r.live_memory_bytes, r.deleted_at,
           r.version_epoch, r.version_number, r.version_time, r.version_step, r.shape, r.digest, r.object_time,
           r.known_at, r.effective_at, now()
    FROM incoming AS r
    CROSS JOIN LATERAL (
        SELECT FROM vm_state AS m
        WHERE m.cluster = r.cluster AND m.namespace = r.namespace AND m.name = r.name AND m.uid = r.owner_uid
        LIMIT 1
    ) AS known
    WHERE NOT (r.under_floor AND $2)
      AND (r.deleted_at IS NULL
           OR (r.node, r.guest_os, r.live_vcpus, r.live_memory_bytes, nullif(r.ip_addresses, '{}')) IS NOT NULL)
    ORDER BY r.cluster, r.namespace, r.name, r.owner_uid
    ON CONFLICT (cluster, namespace, name, owner_uid) DO UPDATE
    SET (type, id, time, uid, resource_version, changed_by, node, ip_addresses, guest_os, phase, live_vcpus,
         live_memory_bytes, deleted_at, version_epoch, version_number, version_time, version_step, shape, digest,
         object_time, known_at, effective_at, updated_at)
      = (excluded.type, excluded.id, excluded.time, excluded.uid, excluded.resource_version, excluded.changed_by,
         excluded.node, excluded.ip_addresses, excluded.guest_os, excluded.phase, excluded.live_vcpus,
         excluded.live_memory_bytes, excluded.deleted_at, excluded.version_epoch, excluded.version_number,
         excluded.version_time, excluded.version_step, excluded.shape, excluded.digest, excluded.object_time,
         excluded.known_at, greatest(s.effective_at, excluded.effective_at), excluded.updated_at)
    WHERE (excluded.version_epoch, excluded.version_number, excluded.version_time, excluded.version_step)
          > (s.version_epoch, s.version_number, s.version_time, s.version_step)
      AND excluded.known_at >= s.effective_at
    RETURNING s.*
), shown AS (
    UPDATE vm_state AS s
    SET (node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at, updated_at)
      = (CASE WHEN s.uid = i.owner_uid THEN i.node ELSE s.node END,
         CASE WHEN s.uid = i.owner_uid THEN i.ip_addresses ELSE s.ip_addresses END,
         CASE WHEN s.uid = i.owner_uid THEN i.guest_os ELSE s.guest_os END,
         CASE WHEN s.uid = i.owner_uid THEN i.phase ELSE s.phase END,
         CASE WHEN s.uid = i.owner_uid THEN i.live_vcpus ELSE s.live_vcpus END,
         CASE WHEN s.uid = i.owner_uid THEN i.live_memory_bytes ELSE s.live_memory_bytes END,
         CASE WHEN s.uid = i.owner_uid THEN i.effective_at ELSE s.runtime_seen_at END,
         CASE WHEN s.uid = i.owner_uid THEN i.updated_at ELSE s.updated_at END)
    FROM moved AS i
    WHERE s.cluster = i.cluster AND s.namespace = i.namespace AND s.name = i.name
), added AS (
    INSERT INTO vm_runtime_history (
        cluster, namespace, name, owner_uid, type, id, time, uid, resource_version, changed_by, node, ip_addresses,
        guest_os, phase, live_vcpus, live_memory_bytes, deleted_at, version_epoch, version_number, version_time,
        version_step, shape, digest, object_time, known_at, effective_at
    )
    SELECT cluster, namespace, name, owner_uid, type, id, time, uid, resource_version, changed_by, node, ip_addresses,
           guest_os, phase, live_vcpus, live_memory_bytes, deleted_at, version_epoch, version_number, version_time,
           version_step, shape, digest, object_time, known_at, effective_at
    FROM moved
    RETURNING cluster, namespace, name, owner_uid, version_number, version_step, digest
)
SELECT set_config('vmledger.instances', $4 || CASE WHEN (SELECT count(*) FROM added) < $3 THEN (
    SELECT coalesce(json_agg(json_build_array(
        cluster, namespace, name, owner_uid, version_number, version_step, digest
    )), '[]')
    FROM added
)::text ELSE '' END, false);

-- lock_instances (rows)
-- Locks the state's row of each object of the changes; see lock_machines.
PREPARE lock_instances (json) AS
INSERT INTO vm_runtime AS s (
    cluster, namespace, name, owner_uid, type, id, version_epoch, version_number, version_time, version_step, shape,
    digest, effective_at
)
SELECT DISTINCT cluster, namespace, name, owner_uid, '', '', -1, -1, '-infinity'::timestamptz, 0, 0, 0,
       '-infinity'::timestamptz
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
)
ORDER BY cluster, namespace, name, owner_uid
ON CONFLICT (cluster, namespace, name, owner_uid) DO UPDATE SET updated_at = s.updated_at WHERE false;

-- merge_instances (rows, lists)
-- Stores any changes of instances; see merge_machines.
PREPARE merge_instances (json, boolean) AS
WITH incoming AS MATERIALIZED (
    SELECT r.*, e.version_epoch, e.effective_at, e.known_at, c.instances_epoch, c.instances_version, c.instances_time,
           c.cluster IS NOT NULL AND CASE
               WHEN r.version_number < 0 THEN e.known_at <= c.instances_time
               ELSE (e.version_epoch, r.version_number) <= (c.instances_epoch, c.instances_version)
           END AS under_floor
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C",
        type text, id text COLLATE "C", time timestamptz, uid text, resource_version bigint, changed_by text,
        object_time timestamptz, node text, ip_addresses text[], guest_os text, phase text, live_vcpus integer,
        live_memory_bytes bigint, deleted_at timestamptz, version_number bigint, version_time timestamptz,
        version_step smallint, shape smallint, digest bigint
    )
    LEFT JOIN clusters AS c ON c.cluster = r.cluster
    CROSS JOIN LATERAL (
        SELECT least(r.object_time, coalesce(r.time, now())), coalesce(r.time, now()),
               coalesce(width_bucket(coalesce(r.time, 'infinity'), c.epochs), 0)::smallint
    ) AS e (effective_at, known_at, version_epoch)

), denied AS MATERIALIZED (
    SELECT r.*
    FROM (
        SELECT DISTINCT ON (cluster, namespace, name, owner_uid) *
        FROM incoming
        ORDER BY cluster, namespace, name, owner_uid, version_epoch DESC, version_number DESC, version_time DESC,
                 version_step DESC
    ) AS r
    JOIN vm_runtime AS s
        ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    WHERE $2 AND r.under_floor
      AND (r.version_epoch, r.version_number, r.version_time, r.version_step)
          > (s.version_epoch, s.version_number, s.version_time, s.version_step)
      AND NOT (s.deleted_at IS NULL AND s.version_number >= 0
               AND (s.version_epoch, s.version_number) = (r.version_epoch, r.version_number))

), candidates AS MATERIALIZED (
    SELECT * FROM incoming
    UNION ALL
    SELECT cluster, namespace, name, owner_uid, 'vmledger.reconcile.delete', 'list-' || instances_version,
           instances_time, NULL, instances_version, NULL, NULL, NULL, NULL, NULL, 'Gone', NULL, NULL, instances_time,
           CASE WHEN version_number < 0 THEN -1 ELSE instances_version END,
           CASE WHEN version_number < 0 THEN instances_time ELSE '-infinity' END,
           2, 1, 0, instances_epoch, instances_time, instances_time, NULL, NULL, NULL, NULL
    FROM denied

), kept AS MATERIALIZED (
    SELECT k.*, h.effective_at AS held_at, h.overtaken AS held_overtaken,
           h.object_time AS held_object, held.known_at AS held_known,
           least(k.earliest_object, h.object_time) AS object_from, least(k.earliest_known, held.known_at) AS known_from,
           least(k.earliest_object, h.object_time, k.earliest_known, held.known_at) AS claimed_from,
           coalesce((-k.shape, coalesce(k.time, 'infinity'), k.id, k.digest)
                    < (-h.shape, coalesce(h.time, 'infinity'), h.id, h.digest), false) AS better
    FROM (
        SELECT DISTINCT ON (
                   cluster, namespace, name, owner_uid, version_epoch, version_number, version_time, version_step
               ) *,
               min(object_time) OVER same AS earliest_object, min(known_at) OVER same AS earliest_known
        FROM candidates
        WINDOW same AS (
            PARTITION BY cluster, namespace, name, owner_uid, version_epoch, version_number, version_time, version_step
        )
        ORDER BY cluster, namespace, name, owner_uid, version_epoch, version_number, version_time, version_step,
                 shape DESC, time NULLS LAST, id, digest
    ) AS k
    LEFT JOIN vm_runtime_history AS h
        ON h.version_number = k.version_number AND h.version_time = k.version_time
       AND (h.cluster, h.namespace, h.name, h.owner_uid, h.version_epoch, h.version_step)
           IS NOT DISTINCT FROM (k.cluster, k.namespace, k.name, k.owner_uid, k.version_epoch, k.version_step)
    CROSS JOIN LATERAL (SELECT coalesce(h.known_at, h.effective_at)) AS held (known_at)

), span AS MATERIALIZED (
    SELECT s.cluster, s.namespace, s.name, s.owner_uid, before.effective_at AS floor_at, before.version_epoch,
           before.version_number, before.version_time, before.version_step
    FROM (
        SELECT DISTINCT ON (cluster, namespace, name, owner_uid)
               cluster, namespace, name, owner_uid, version_epoch, version_number, version_time, version_step,
               min(claimed_from) OVER (PARTITION BY cluster, namespace, name, owner_uid) AS earliest
        FROM kept
        ORDER BY cluster, namespace, name, owner_uid, version_epoch, version_number, version_time, version_step
    ) AS s
    LEFT JOIN LATERAL (
        SELECT h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step
        FROM vm_runtime_history AS h
        WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
          AND NOT h.overtaken AND h.effective_at < s.earliest
          AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
              < (s.version_epoch, s.version_number, s.version_time, s.version_step)
        ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                 h.version_step DESC
        LIMIT 1
    ) AS before ON true

), timeline AS MATERIALIZED (
    SELECT k.cluster, k.namespace, k.name, k.owner_uid, k.version_epoch, k.version_number, k.version_time,
           k.version_step, k.object_from, k.known_from, k.claimed_from, k.held_at, k.held_overtaken, k.held_object,
           k.held_known, k.better, s.floor_at
    FROM kept AS k
    JOIN span AS s ON s.cluster = k.cluster AND s.namespace = k.namespace AND s.name = k.name
        AND s.owner_uid = k.owner_uid
    UNION ALL
    SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.version_epoch, h.version_number, h.version_time,
           h.version_step, h.object_time, held.known_at, held.claimed_at, h.effective_at, false, h.object_time,
           held.known_at, false, s.floor_at
    FROM span AS s
    JOIN vm_runtime_history AS h
        ON h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
       AND NOT h.overtaken AND h.effective_at >= coalesce(s.floor_at, '-infinity')
       AND (s.floor_at IS NULL OR
            (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
            > (s.floor_at, s.version_epoch, s.version_number, s.version_time, s.version_step))
    CROSS JOIN LATERAL (
        SELECT coalesce(h.known_at, h.effective_at), coalesce(least(h.object_time, h.known_at), h.effective_at)
    ) AS held (known_at, claimed_at)
    WHERE NOT EXISTS (
        SELECT FROM kept AS k
        WHERE k.cluster = h.cluster AND k.namespace = h.namespace AND k.name = h.name AND k.owner_uid = h.owner_uid
          AND (k.version_epoch, k.version_number, k.version_time, k.version_step)
              = (h.version_epoch, h.version_number, h.version_time, h.version_step)
    )

), settled AS MATERIALIZED (
    SELECT v.*, CASE WHEN v.overtaken THEN v.claimed_from
                ELSE greatest(v.floor_at, max(v.claimed_from) FILTER (WHERE NOT v.overtaken) OVER earlier)
           END AS effective_from
    FROM (
        SELECT t.*, t.claimed_from > min(t.known_from) OVER later AS overtaken
        FROM timeline AS t
        WINDOW later AS (
            PARTITION BY t.cluster, t.namespace, t.name, t.owner_uid
            ORDER BY t.version_epoch DESC, t.version_number DESC, t.version_time DESC, t.version_step DESC
        )
    ) AS v
    WINDOW earlier AS (
        PARTITION BY v.cluster, v.namespace, v.name, v.owner_uid
        ORDER BY v.version_epoch, v.version_number, v.version_time, v.version_step
    )

), judged AS MATERIALIZED (
    SELECT k.*, s.effective_from, s.overtaken
    FROM kept AS k
    JOIN settled AS s
        ON s.cluster = k.cluster AND s.namespace = k.namespace AND s.name = k.name AND s.owner_uid = k.owner_uid
       AND (s.version_epoch, s.version_number, s.version_time, s.version_step)
           = (k.version_epoch, k.version_number, k.version_time, k.version_step)

), added AS (
    INSERT INTO vm_runtime_history (
        cluster, namespace, name, owner_uid, type, id, time, uid, resource_version, changed_by, node, ip_addresses,
        guest_os, phase, live_vcpus, live_memory_bytes, deleted_at, version_epoch, version_number, version_time,
        version_step, shape, digest, object_time, known_at, effective_at, overtaken
    )
    SELECT cluster, namespace, name, owner_uid, type, id, time, uid, resource_version, changed_by, node, ip_addresses,
           guest_os, phase, live_vcpus, live_memory_bytes, deleted_at, version_epoch, version_number, version_time,
           version_step, shape, digest, object_from, known_from, effective_from, overtaken
    FROM judged WHERE held_at IS NULL
    RETURNING *

), improved AS (
    UPDATE vm_runtime_history AS h
    SET (type, id, time, uid, resource_version, changed_by, node, ip_addresses, guest_os, phase, live_vcpus,
         live_memory_bytes, deleted_at, shape, digest, object_time, known_at, effective_at, overtaken, recorded_at)
      = (k.type, k.id, k.time, k.uid, k.resource_version, k.changed_by, k.node, k.ip_addresses, k.guest_os, k.phase,
         k.live_vcpus, k.live_memory_bytes, k.deleted_at, k.shape, k.digest, k.object_from, k.known_from,
         k.effective_from, k.overtaken, now())
    FROM judged AS k
    WHERE k.better AND h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name
      AND h.owner_uid = k.owner_uid AND h.effective_at = k.held_at
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (k.version_epoch, k.version_number, k.version_time, k.version_step)
    RETURNING h.*

), dated AS (
    UPDATE vm_runtime_history AS h
    SET (effective_at, object_time, known_at, overtaken) = (k.effective_from, k.object_from, k.known_from, k.overtaken)
    FROM settled AS k
    WHERE NOT k.better
      AND (k.effective_from, k.object_from, k.known_from, k.overtaken)
          IS DISTINCT FROM (k.held_at, k.held_object, k.held_known, k.held_overtaken)
      AND h.cluster = k.cluster AND h.namespace = k.namespace AND h.name = k.name AND h.owner_uid = k.owner_uid
      AND h.effective_at = k.held_at
      AND (h.version_epoch, h.version_number, h.version_time, h.version_step)
          = (k.version_epoch, k.version_number, k.version_time, k.version_step)
    RETURNING h.*

), newest AS MATERIALIZED (
    SELECT DISTINCT ON (cluster, namespace, name, owner_uid) *
    FROM (SELECT * FROM added UNION ALL SELECT * FROM improved UNION ALL SELECT * FROM dated) AS h
    ORDER BY cluster, namespace, name, owner_uid, version_epoch DESC, version_number DESC, version_time DESC,
             version_step DESC
)

UPDATE vm_runtime AS s
SET (type, id, time, uid, resource_version, changed_by, node, ip_addresses, guest_os, phase, live_vcpus,
     live_memory_bytes, deleted_at, version_epoch, version_number, version_time, version_step, shape, digest,
     object_time, known_at, effective_at, updated_at)
  = (n.type, n.id, n.time, n.uid, n.resource_version, n.changed_by, n.node, n.ip_addresses, n.guest_os, n.phase,
     n.live_vcpus, n.live_memory_bytes, n.deleted_at, n.version_epoch, n.version_number, n.version_time, n.version_step,
     n.shape, n.digest, n.object_time, n.known_at, n.effective_at, now())
FROM newest AS n
WHERE s.cluster = n.cluster AND s.namespace = n.namespace AND s.name = n.name AND s.owner_uid = n.owner_uid
  AND (n.version_epoch, n.version_number, n.version_time, n.version_step)
      >= (s.version_epoch, s.version_number, s.version_time, s.version_step);

-- outcomes_instances (rows)
-- Returns, for each change that the history took in this transaction, what identifies it in its batch; whether it is
-- the newest version; and whether it has no resource version although the newest one has.
PREPARE outcomes_instances (json) AS
SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.version_number, h.version_step, h.digest,
       (h.version_epoch, h.version_number, h.version_time, h.version_step)
       = (s.version_epoch, s.version_number, s.version_time, s.version_step),
       h.version_number < 0 AND s.version_number >= 0
FROM json_to_recordset($1) AS r (
    cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C",
    id text COLLATE "C", version_number bigint, version_time timestamptz, version_step smallint, digest bigint
)
CROSS JOIN LATERAL (
    SELECT * FROM vm_runtime_history AS h
    WHERE h.version_number = r.version_number AND h.version_time = r.version_time
      AND (h.cluster, h.namespace, h.name, h.owner_uid, h.version_step, h.id, h.digest, h.recorded_at)
          IS NOT DISTINCT FROM (r.cluster, r.namespace, r.name, r.owner_uid, r.version_step, r.id, r.digest, now())
    LIMIT 1
) AS h
CROSS JOIN LATERAL (
    SELECT * FROM vm_runtime AS s
    WHERE s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name AND s.owner_uid = r.owner_uid
    LIMIT 1
) AS s;

-- known_instance (cluster, namespace, name)
-- Returns, as JSON, what the state has of the newest instance of that name, gone or not; see known_machine.
PREPARE known_instance (text, text, text) AS
SELECT to_jsonb(s)::text, s.version_number, s.effective_at
FROM vm_runtime AS s
WHERE s.cluster = $1 AND s.namespace = $2 AND s.name = $3
ORDER BY s.version_epoch DESC, s.version_number DESC, s.version_time DESC, s.version_step DESC
LIMIT 1;
