-- Who made a version of an object: its newest field manager, or the person whom KubeVirt names in an annotation.
-- depends: 0010.health_of_many

ALTER TABLE vm_state ADD COLUMN changed_by text;
ALTER TABLE vm_history ADD COLUMN changed_by text;
ALTER TABLE vm_runtime ADD COLUMN changed_by text;
ALTER TABLE vm_runtime_history ADD COLUMN changed_by text;

-- What a version says; without what each version has for itself. Who made it is said beside the facts and is none:
-- a version that differs from the one before it in nothing else is no change.
CREATE OR REPLACE FUNCTION ledger_facts(version anyelement) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_jsonb(version) - '{cluster, namespace, name, owner_uid, type, id, time, resource_version, generation,
        version_epoch, version_number, version_time, version_step, shape, digest, effective_at, recorded_at,
        overtaken, changed_by}'::text[]
$$;

-- One row for each version that was in force and says something new beside the one before it, of machines and of what
-- ran of them. A flat event says nothing of what it does not carry: there the facts before it go on.
-- The version before is looked up for each row, not by a window: so a filter on the time reads that time alone.
-- OFFSET 0 keeps the facts from being made anew wherever they are named.
CREATE OR REPLACE VIEW vm_changes AS
SELECT h.cluster, h.namespace, h.name, h.uid, h.effective_at AS changed_at, h.type, h.resource_version,
       CASE
           WHEN h.deleted_at IS NOT NULL THEN 'deleted'
           WHEN (b.version).type IS NULL THEN 'appeared'
           WHEN h.uid = (b.version).uid AND (b.version).deleted_at IS NOT NULL THEN 'returned'
           WHEN h.uid <> (b.version).uid OR (b.version).deleted_at IS NOT NULL THEN 'recreated'
           ELSE 'changed'
       END AS what,
       coalesce(c.changes, '{}') AS changes, h.changed_by
FROM vm_history AS h
LEFT JOIN LATERAL (
    SELECT p FROM vm_history AS p
    WHERE p.cluster = h.cluster AND p.namespace = h.namespace AND p.name = h.name AND NOT p.overtaken
      AND p.effective_at < h.effective_at
    ORDER BY p.effective_at DESC LIMIT 1
) AS b (version) ON true
LEFT JOIN LATERAL (
    SELECT p FROM vm_history AS p
    WHERE (b.version).shape = 0 AND (b.version).deleted_at IS NULL
      AND p.cluster = h.cluster AND p.namespace = h.namespace AND p.name = h.name AND NOT p.overtaken
      AND p.effective_at < h.effective_at AND (p.shape > 0 OR p.deleted_at IS NOT NULL)
    ORDER BY p.effective_at DESC LIMIT 1
) AS w (version) ON true
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN (w.version).type IS NOT NULL AND (w.version).deleted_at IS NULL
            AND ((w.version).uid = (b.version).uid OR (b.version).uid IS NULL)
        THEN ledger_facts(w.version) || jsonb_strip_nulls(ledger_facts(b.version))
        ELSE ledger_facts(b.version)
    END OFFSET 0
) AS e (before)
CROSS JOIN LATERAL (
    SELECT CASE
        WHEN h.shape = 0 AND (b.version).type IS NOT NULL AND (b.version).deleted_at IS NULL
            AND (h.uid = (b.version).uid OR h.uid IS NULL)
        THEN e.before || jsonb_strip_nulls(ledger_facts(h))
        ELSE ledger_facts(h)
    END OFFSET 0
) AS f (now)
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(fact.key, jsonb_build_object('old', e.before -> fact.key, 'new', CASE
        WHEN fact.key = 'deleted_at' AND h.deleted_at = 'epoch' THEN to_jsonb(h.effective_at) ELSE fact.value END))
    FROM jsonb_each(f.now) AS fact
    WHERE nullif(fact.value, 'null') IS DISTINCT FROM nullif(e.before -> fact.key, 'null')
      AND (h.deleted_at IS NULL OR fact.key = 'deleted_at')
) AS c (changes)
WHERE NOT h.overtaken AND (
    (b.version).type IS NULL
    OR h.uid <> (b.version).uid
    OR CASE WHEN h.deleted_at IS NOT NULL THEN (b.version).deleted_at IS NULL ELSE c.changes IS NOT NULL END
)
UNION ALL
SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.effective_at, h.type, h.resource_version,
       CASE
           WHEN h.deleted_at IS NOT NULL THEN 'stopped'
           WHEN (b.version).type IS NULL OR h.uid <> (b.version).uid OR (b.version).deleted_at IS NOT NULL THEN 'started'
           WHEN h.node <> (b.version).node THEN 'moved'
           ELSE 'changed'
       END,
       coalesce(c.changes, '{}'), h.changed_by
FROM vm_runtime_history AS h
LEFT JOIN LATERAL (
    SELECT p FROM vm_runtime_history AS p
    WHERE p.cluster = h.cluster AND p.namespace = h.namespace AND p.name = h.name AND p.owner_uid = h.owner_uid
      AND NOT p.overtaken AND p.effective_at < h.effective_at
    ORDER BY p.effective_at DESC LIMIT 1
) AS b (version) ON true
CROSS JOIN LATERAL (SELECT ledger_facts(h), ledger_facts(b.version) OFFSET 0) AS f (now, before)
CROSS JOIN LATERAL (
    SELECT jsonb_object_agg(fact.key, jsonb_build_object('old', f.before -> fact.key, 'new', fact.value))
    FROM jsonb_each(f.now) AS fact
    WHERE nullif(fact.value, 'null') IS DISTINCT FROM nullif(f.before -> fact.key, 'null')
      AND fact.key <> 'deleted_at' AND (h.deleted_at IS NULL OR fact.key = 'phase')
) AS c (changes)
WHERE NOT h.overtaken AND (
    (b.version).type IS NULL
    OR h.uid <> (b.version).uid
    OR CASE WHEN h.deleted_at IS NOT NULL THEN (b.version).deleted_at IS NULL ELSE c.changes IS NOT NULL END
);

COMMENT ON VIEW vm_changes IS 'What changed of each virtual machine, and when: what is said once is not said again.';
