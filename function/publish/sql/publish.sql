-- What `publish` asks: how far it is, which versions are new or corrected since, and what vm_changes says of them.
-- A version is new by the id of the transaction that recorded it, beside the snapshot `told`, in which everything
-- visible was published: its transaction is not before the end of that snapshot (edge), or was open in it (open).
-- The rows of a portion are in the order of their keys and then of their effective times, as the primary keys have it.

-- read_position ()
-- Returns how far the changes were published; no row where nothing ever was.
PREPARE read_position AS
SELECT told::text, told_at, since::text, target::text, target_at, after, system, cut_at::text
FROM publish_position;

-- look ()
-- Returns the snapshot of now, the time, and the Postgres cluster in which its transactions count.
PREPARE look AS
SELECT pg_current_snapshot()::text, now(), system_identifier::text FROM pg_control_system();

-- write_position (told, told_at, since, target, target_at, after, system, cut_at, updated_at)
-- Notes how far the changes were published.
PREPARE write_position (
    pg_snapshot, timestamptz, timestamptz, pg_snapshot, timestamptz, text[], text, timestamptz, timestamptz
) AS
INSERT INTO publish_position AS p (told, told_at, since, target, target_at, after, system, cut_at, updated_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
ON CONFLICT (one) DO UPDATE
SET (told, told_at, since, target, target_at, after, system, cut_at, updated_at)
  = (excluded.told, excluded.told_at, excluded.since, excluded.target, excluded.target_at, excluded.after,
     excluded.system, excluded.cut_at, excluded.updated_at);

-- find_recent (edge, open, cut_at, target_edge, target_open, after, batch)
-- Returns the next versions that were recorded or corrected between two snapshots, as objects for tell_changes.
-- One that was recorded and corrected in between is new; one that was never in force before it was published is left
-- out. A version that is older than cut_at carries the id of a transaction of another Postgres cluster.
PREPARE find_recent (bigint, bigint[], timestamptz, bigint, bigint[], text[], bigint) AS
SELECT to_jsonb(found)::text, found.name, found.namespace, found.cluster, found.effective_at::text
FROM (
    (
        SELECT h.name, h.namespace, h.cluster, h.effective_at, false AS instance, '' AS owner_uid, h.uid, h.type,
               h.resource_version, h.version_epoch, h.version_number, h.version_time, h.version_step, h.shape,
               h.deleted_at IS NOT NULL AS deleted, h.overtaken, h.recorded_at, h.recorded_xid, h.corrected_at,
               h.corrected_xid, h.stood_at, h.stood_from, h.changed_by, NOT n.new AS corrected
        FROM vm_history AS h
        CROSS JOIN LATERAL (
            SELECT coalesce(h.recorded_xid >= $1 OR h.recorded_xid = ANY($2), false) AND h.recorded_at >= $3
        ) AS n (new)
        WHERE (h.recorded_xid >= $1 OR h.recorded_xid = ANY($2) OR h.corrected_xid >= $1 OR h.corrected_xid = ANY($2))
          AND CASE
              WHEN n.new THEN NOT h.overtaken AND h.recorded_xid < $4 AND h.recorded_xid <> ALL($5)
              ELSE (h.corrected_xid >= $1 OR h.corrected_xid = ANY($2)) AND h.corrected_at >= $3
                   AND h.corrected_xid < $4 AND h.corrected_xid <> ALL($5)
          END
          AND (h.name, h.namespace, h.cluster, h.effective_at) > ($6[1], $6[2], $6[3], $6[4]::timestamptz)
        ORDER BY h.name, h.namespace, h.cluster, h.effective_at
        FETCH FIRST $7 ROWS WITH TIES
    )
    UNION ALL
    (
        SELECT h.name, h.namespace, h.cluster, h.effective_at, true, h.owner_uid, h.uid, h.type,
               h.resource_version, h.version_epoch, h.version_number, h.version_time, h.version_step, h.shape,
               h.deleted_at IS NOT NULL, h.overtaken, h.recorded_at, h.recorded_xid, h.corrected_at,
               h.corrected_xid, h.stood_at, h.stood_from, h.changed_by, NOT n.new
        FROM vm_runtime_history AS h
        CROSS JOIN LATERAL (
            SELECT coalesce(h.recorded_xid >= $1 OR h.recorded_xid = ANY($2), false) AND h.recorded_at >= $3
        ) AS n (new)
        WHERE (h.recorded_xid >= $1 OR h.recorded_xid = ANY($2) OR h.corrected_xid >= $1 OR h.corrected_xid = ANY($2))
          AND CASE
              WHEN n.new THEN NOT h.overtaken AND h.recorded_xid < $4 AND h.recorded_xid <> ALL($5)
              ELSE (h.corrected_xid >= $1 OR h.corrected_xid = ANY($2)) AND h.corrected_at >= $3
                   AND h.corrected_xid < $4 AND h.corrected_xid <> ALL($5)
          END
          AND (h.name, h.namespace, h.cluster, h.effective_at) > ($6[1], $6[2], $6[3], $6[4]::timestamptz)
        ORDER BY h.name, h.namespace, h.cluster, h.effective_at
        FETCH FIRST $7 ROWS WITH TIES
    )
) AS found
ORDER BY found.name, found.namespace, found.cluster, found.effective_at
FETCH FIRST $7 ROWS WITH TIES;

-- find_all (edge, open, cut_at, target_edge, target_open, after, batch, since)
-- As find_recent, by reading all of the history since a time, in portions by the primary key: for a beginning, and
-- where the database was moved to another Postgres cluster: each version since cut_at may be new there.
PREPARE find_all (bigint, bigint[], timestamptz, bigint, bigint[], text[], bigint, timestamptz) AS
SELECT to_jsonb(found)::text, found.name, found.namespace, found.cluster, found.effective_at::text
FROM (
    (
        SELECT h.name, h.namespace, h.cluster, h.effective_at, false AS instance, '' AS owner_uid, h.uid, h.type,
               h.resource_version, h.version_epoch, h.version_number, h.version_time, h.version_step, h.shape,
               h.deleted_at IS NOT NULL AS deleted, h.overtaken, h.recorded_at, h.recorded_xid, h.corrected_at,
               h.corrected_xid, h.stood_at, h.stood_from, h.changed_by, NOT n.new AS corrected
        FROM vm_history AS h
        CROSS JOIN LATERAL (
            SELECT coalesce(h.recorded_xid, 0) >= $1 OR coalesce(h.recorded_xid, 0) = ANY($2) OR h.recorded_at >= $3
        ) AS n (new)
        WHERE h.effective_at >= $8
          AND CASE
              WHEN n.new THEN
                  NOT h.overtaken AND (
                      coalesce(h.recorded_xid, 0) < $4 AND coalesce(h.recorded_xid, 0) <> ALL($5)
                      OR h.recorded_at < $3
                  )
              ELSE h.corrected_xid >= $1 OR h.corrected_xid = ANY($2) OR h.corrected_at >= $3
          END
          AND (h.name, h.namespace, h.cluster, h.effective_at) > ($6[1], $6[2], $6[3], $6[4]::timestamptz)
        ORDER BY h.name, h.namespace, h.cluster, h.effective_at
        FETCH FIRST $7 ROWS WITH TIES
    )
    UNION ALL
    (
        SELECT h.name, h.namespace, h.cluster, h.effective_at, true, h.owner_uid, h.uid, h.type,
               h.resource_version, h.version_epoch, h.version_number, h.version_time, h.version_step, h.shape,
               h.deleted_at IS NOT NULL, h.overtaken, h.recorded_at, h.recorded_xid, h.corrected_at,
               h.corrected_xid, h.stood_at, h.stood_from, h.changed_by, NOT n.new
        FROM vm_runtime_history AS h
        CROSS JOIN LATERAL (
            SELECT coalesce(h.recorded_xid, 0) >= $1 OR coalesce(h.recorded_xid, 0) = ANY($2) OR h.recorded_at >= $3
        ) AS n (new)
        WHERE h.effective_at >= $8
          AND CASE
              WHEN n.new THEN
                  NOT h.overtaken AND (
                      coalesce(h.recorded_xid, 0) < $4 AND coalesce(h.recorded_xid, 0) <> ALL($5)
                      OR h.recorded_at < $3
                  )
              ELSE h.corrected_xid >= $1 OR h.corrected_xid = ANY($2) OR h.corrected_at >= $3
          END
          AND (h.name, h.namespace, h.cluster, h.effective_at) > ($6[1], $6[2], $6[3], $6[4]::timestamptz)
        ORDER BY h.name, h.namespace, h.cluster, h.effective_at
        FETCH FIRST $7 ROWS WITH TIES
    )
) AS found
ORDER BY found.name, found.namespace, found.cluster, found.effective_at
FETCH FIRST $7 ROWS WITH TIES;

-- has_foreign (edge, before)
-- Returns whether a version carries the id of a transaction that this Postgres cluster has not had yet.
PREPARE has_foreign (bigint, timestamptz) AS
SELECT EXISTS (SELECT FROM vm_history AS h WHERE h.recorded_xid >= $1 AND h.recorded_at < $2)
    OR EXISTS (SELECT FROM vm_runtime_history AS h WHERE h.recorded_xid >= $1 AND h.recorded_at < $2);

-- tell_changes (rows, edge, open, cut_at, whole)
-- Returns what is to be published of versions that find_recent or find_all (whole) found, in the order in which it is
-- to be sent: the place among them, what it is, and the data.
-- A new version after which another one of the same object was published already is late: it corrects the past, as a
-- version does that was altered. What vm_changes says from such a version on is different up to the first whole object
-- after it, because flat events go on with the facts before them.
-- A late version without a change of its own changes nothing after it, except beside a delete or a flat event.
-- A cluster counts the versions of VMs and instances together: of one second, they tell what came first of the two.
PREPARE tell_changes (json, bigint, bigint[], timestamptz, boolean) AS
SELECT e.number, CASE WHEN l.corrects THEN 'corrected' ELSE c.change ->> 'what' END, f.effective_at,
       (coalesce(c.change, jsonb_build_object(
            'cluster', f.cluster, 'namespace', f.namespace, 'name', f.name, 'uid', coalesce(f.owner, f.uid),
            'changed_at', f.effective_at, 'type', f.type, 'resource_version', f.resource_version, 'what', NULL,
            'changes', NULL, 'changed_by', f.changed_by
        ))
        || jsonb_build_object('virtual_machine', (
            SELECT to_jsonb(v) FROM virtual_machines AS v
            WHERE v.cluster = f.cluster AND v.namespace = f.namespace AND v.name = f.name
        ))
        || CASE WHEN l.corrects THEN jsonb_build_object('past', p.past) ELSE '{}' END)::text
FROM (
    SELECT o.instance, o.cluster, o.namespace, o.name, o.owner_uid, array_agg(e.number) AS numbers,
           array_agg(e.item) AS items
    FROM json_array_elements($1) WITH ORDINALITY AS e (item, number)
    CROSS JOIN LATERAL json_to_record(e.item) AS o (
        instance boolean, cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C",
        owner_uid text COLLATE "C"
    )
    GROUP BY o.instance, o.cluster, o.namespace, o.name, o.owner_uid
) AS o
LEFT JOIN LATERAL (
    -- The newest version of the object that was published before, once for each object: among many that are new, it is
    -- far away.
    (
        SELECT r.effective_at, r.version_epoch, r.version_number, r.version_time, r.version_step
        FROM vm_history AS r
        WHERE NOT o.instance AND $2 > 0
          AND r.cluster = o.cluster AND r.namespace = o.namespace AND r.name = o.name
          AND NOT r.overtaken AND CASE
              WHEN $5 THEN coalesce(r.recorded_xid, 0) < $2 AND coalesce(r.recorded_xid, 0) <> ALL($3)
                  AND r.recorded_at < $4
              ELSE coalesce(r.recorded_xid, 0) < $2 AND coalesce(r.recorded_xid, 0) <> ALL($3) OR r.recorded_at < $4
          END
        ORDER BY r.effective_at DESC, r.version_epoch DESC, r.version_number DESC, r.version_time DESC,
                 r.version_step DESC
        LIMIT 1
    )
    UNION ALL
    (
        SELECT r.effective_at, r.version_epoch, r.version_number, r.version_time, r.version_step
        FROM vm_runtime_history AS r
        WHERE o.instance AND $2 > 0
          AND r.cluster = o.cluster AND r.namespace = o.namespace AND r.name = o.name AND r.owner_uid = o.owner_uid
          AND NOT r.overtaken AND CASE
              WHEN $5 THEN coalesce(r.recorded_xid, 0) < $2 AND coalesce(r.recorded_xid, 0) <> ALL($3)
                  AND r.recorded_at < $4
              ELSE coalesce(r.recorded_xid, 0) < $2 AND coalesce(r.recorded_xid, 0) <> ALL($3) OR r.recorded_at < $4
          END
        ORDER BY r.effective_at DESC, r.version_epoch DESC, r.version_number DESC, r.version_time DESC,
                 r.version_step DESC
        LIMIT 1
    )
) AS t ON true
CROSS JOIN LATERAL unnest(o.numbers, o.items) AS e (number, item)
CROSS JOIN LATERAL (
    SELECT r.*, CASE WHEN r.instance THEN r.owner_uid END AS owner
    FROM json_to_record(e.item) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C",
        uid text, effective_at timestamptz, instance boolean, type text, resource_version bigint, shape smallint,
        deleted boolean, overtaken boolean, stood_at timestamptz, stood_from timestamptz, changed_by text,
        corrected boolean, version_epoch smallint, version_number bigint, version_time timestamptz,
        version_step smallint
    )
) AS f
CROSS JOIN LATERAL (
    SELECT f.corrected OR coalesce(
        (t.effective_at, t.version_epoch, t.version_number, t.version_time, t.version_step)
        > (f.effective_at, f.version_epoch, f.version_number, f.version_time, f.version_step),
        false
    )
) AS l (corrects)
LEFT JOIN LATERAL (
    SELECT to_jsonb(c) AS change
    FROM vm_changes AS c
    WHERE c.cluster = f.cluster AND c.namespace = f.namespace AND c.name = f.name AND c.changed_at = f.effective_at
      AND c.type = f.type AND c.uid IS NOT DISTINCT FROM coalesce(f.owner, f.uid)
      AND c.resource_version IS NOT DISTINCT FROM f.resource_version
      AND (c.what = 'changed' OR (c.what IN ('started', 'moved', 'stopped')) = f.instance)
    LIMIT 1
) AS c ON NOT f.overtaken
LEFT JOIN LATERAL (
    SELECT CASE
        WHEN NOT l.corrects THEN NULL
        WHEN f.instance THEN (
            SELECT min(r.effective_at) FROM vm_runtime_history AS r
            WHERE r.cluster = f.cluster AND r.namespace = f.namespace AND r.name = f.name
              AND r.owner_uid = f.owner_uid AND NOT r.overtaken
              AND r.effective_at > greatest(f.effective_at, f.stood_at)
        )
        ELSE (
            SELECT min(r.effective_at) FROM vm_history AS r
            WHERE r.cluster = f.cluster AND r.namespace = f.namespace AND r.name = f.name
              AND NOT r.overtaken AND r.effective_at > greatest(f.effective_at, f.stood_at)
              AND (r.shape > 0 OR r.deleted_at IS NOT NULL)
        )
    END
    OFFSET 0
) AS u (until) ON true
LEFT JOIN LATERAL (
    SELECT jsonb_build_object(
        'from', least(f.effective_at, f.stood_from), 'until', u.until,
        'rows', CASE WHEN count(*) <= 100 THEN coalesce(jsonb_agg(a.row ORDER BY a.changed_at), '[]') END
    )
    FROM (
        SELECT to_jsonb(a) AS row, a.changed_at
        FROM vm_changes AS a
        WHERE l.corrects AND a.cluster = f.cluster AND a.namespace = f.namespace AND a.name = f.name
          AND a.changed_at >= least(f.effective_at, f.stood_from)
          AND a.changed_at <= coalesce(u.until, 'infinity')
        ORDER BY a.changed_at LIMIT 101
    ) AS a
) AS p (past) ON true
WHERE c.change IS NOT NULL OR f.corrected OR l.corrects AND (f.deleted OR f.shape = 0 OR (
    SELECT r.shape = 0
    FROM vm_history AS r
    WHERE r.cluster = f.cluster AND r.namespace = f.namespace AND r.name = f.name
      AND NOT r.overtaken
      AND (r.effective_at, r.version_epoch, r.version_number, r.version_time, r.version_step)
          < (f.effective_at, f.version_epoch, f.version_number, f.version_time, f.version_step)
    ORDER BY r.effective_at DESC, r.version_epoch DESC, r.version_number DESC, r.version_time DESC, r.version_step DESC
    LIMIT 1
))
ORDER BY f.name, f.namespace, f.cluster, f.effective_at, f.version_epoch, f.version_number, f.instance, f.version_time,
         f.version_step;
