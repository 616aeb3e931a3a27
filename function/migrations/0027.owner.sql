-- What owns a virtual machine, such as the pool that made it: the links of its page, and a fact like others.
-- depends: 0019.usage 0020.stood_from

-- owner: the controller among metadata.ownerReferences, as Kind/name; NULL where nothing owns the machine.
ALTER TABLE vm_state ADD COLUMN owner text;
ALTER TABLE vm_history ADD COLUMN owner text;

-- owner_kept: whether owners were kept when the version was stored. In an older one, an owner of NULL says nothing, and
-- any other was added later. The rows that are there take the first default, without being written, and new ones the
-- second.
ALTER TABLE vm_history ADD COLUMN owner_kept boolean NOT NULL DEFAULT false;
ALTER TABLE vm_history ALTER COLUMN owner_kept SET DEFAULT true;

CREATE OR REPLACE VIEW virtual_machines AS
SELECT type, id, kind, name, namespace, time, cpucores, cpusockets, memory, storageclass, network,
       cluster, uid, resource_version, generation, cputhreads, vcpus, memory_bytes, instancetype, preference,
       run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, created_at, updated_at,
       node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at, cpu_source, memory_source,
       owner
FROM vm_state
WHERE deleted_at IS NULL;

-- As before, and the owner. Its rows are those of the view, which has one column more at its end now: so the function is
-- replaced, and whatever uses it stays.
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
    FROM vm_state AS s
    CROSS JOIN LATERAL (
        (SELECT * FROM vm_history AS h
         WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
           AND h.effective_at <= moment AND h.effective_at > moment - interval '24 hours'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        UNION ALL
        (SELECT * FROM vm_history AS h
         WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
           AND h.effective_at <= moment - interval '24 hours'
         ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                  h.version_step DESC
         LIMIT 1)
        LIMIT 1
    ) AS h
    WHERE s.effective_at > moment AND h.deleted_at IS NULL
) AS m
-- What ran of it: as vm_state says, if that is the same machine and it says so since then; else looked up likewise.
-- What is gone keeps what was said of it before; that is asked of nothing else (OFFSET 0).
LEFT JOIN LATERAL (
    SELECT p.effective_at, p.phase, coalesce(p.node, b.node) AS node,
           CASE WHEN p.deleted_at IS NULL THEN p.ip_addresses
                ELSE coalesce(nullif(p.ip_addresses, '{}'), b.ip_addresses) END AS ip_addresses,
           coalesce(p.guest_os, b.guest_os) AS guest_os, coalesce(p.live_vcpus, b.live_vcpus) AS live_vcpus,
           coalesce(p.live_memory_bytes, b.live_memory_bytes) AS live_memory_bytes
    FROM (
        SELECT * FROM vm_runtime_history AS h
        WHERE h.cluster = m.cluster AND h.namespace = m.namespace AND h.name = m.name AND h.owner_uid = m.uid
          AND NOT h.overtaken AND h.effective_at <= moment
          AND (m.uid IS DISTINCT FROM m.now_uid OR m.runtime_seen_at > moment)
        ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                 h.version_step DESC
        LIMIT 1
    ) AS p
    LEFT JOIN LATERAL (
        SELECT * FROM vm_runtime_history AS h
        WHERE p.deleted_at IS NOT NULL AND (p.node IS NULL OR coalesce(p.ip_addresses, '{}') = '{}')
          AND h.cluster = p.cluster AND h.namespace = p.namespace AND h.name = p.name AND h.owner_uid = p.owner_uid
          AND NOT h.overtaken AND h.effective_at <= p.effective_at
          AND (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
              < (p.effective_at, p.version_epoch, p.version_number, p.version_time, p.version_step)
        ORDER BY h.effective_at DESC, h.version_epoch DESC, h.version_number DESC, h.version_time DESC,
                 h.version_step DESC
        LIMIT 1
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

-- What a version says; without what each version has for itself, and without what is noted beside the facts.
CREATE OR REPLACE FUNCTION ledger_facts(version anyelement) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_jsonb(version) - '{cluster, namespace, name, owner_uid, type, id, time, resource_version, generation,
        version_epoch, version_number, version_time, version_step, shape, digest, effective_at, recorded_at,
        overtaken, changed_by, recorded_xid, corrected_xid, corrected_at, stood_at, stood_from, object_time,
        known_at, owner_kept}'::text[]
$$;

-- As before. What takes an owner because none was kept is not corrected: vm_changes says nothing else of it.
CREATE OR REPLACE FUNCTION ledger_note_correction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unseen text[] := '{id, time, generation, digest, recorded_at, version_epoch, version_time,
        recorded_xid, corrected_xid, corrected_at, stood_at, stood_from, object_time, known_at, owner_kept}';
BEGIN
    IF to_jsonb(OLD) ->> 'owner_kept' = 'false' THEN
        unseen := unseen || 'owner'::text;
    END IF;
    IF OLD.overtaken AND NEW.overtaken OR to_jsonb(OLD) - unseen = to_jsonb(NEW) - unseen THEN
        RETURN NEW;
    END IF;
    NEW.corrected_xid := pg_current_xact_id()::text::bigint;
    NEW.corrected_at := now();
    NEW.stood_at := greatest(OLD.stood_at, OLD.effective_at);
    NEW.stood_from := least(OLD.stood_from, OLD.effective_at);
    RETURN NEW;
END
$$;

-- As before. An owner changed only where the version before says whose the machine was: older ones do not.
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
      AND p.effective_at <= h.effective_at
      AND (p.effective_at, p.version_epoch, p.version_number, p.version_time, p.version_step)
          < (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
    ORDER BY p.effective_at DESC, p.version_epoch DESC, p.version_number DESC, p.version_time DESC,
             p.version_step DESC
    LIMIT 1
) AS b (version) ON true
LEFT JOIN LATERAL (
    SELECT p FROM vm_history AS p
    WHERE (b.version).shape = 0 AND (b.version).deleted_at IS NULL
      AND p.cluster = h.cluster AND p.namespace = h.namespace AND p.name = h.name AND NOT p.overtaken
      AND p.effective_at <= h.effective_at AND (p.shape > 0 OR p.deleted_at IS NOT NULL)
      AND (p.effective_at, p.version_epoch, p.version_number, p.version_time, p.version_step)
          < (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
    ORDER BY p.effective_at DESC, p.version_epoch DESC, p.version_number DESC, p.version_time DESC,
             p.version_step DESC
    LIMIT 1
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
      AND (fact.key <> 'owner' OR h.owner_kept
           AND ((b.version).owner IS NOT NULL OR (b.version).owner_kept IS NOT false)
           AND ((w.version).owner IS NOT NULL OR (w.version).owner_kept IS NOT false))
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
      AND NOT p.overtaken AND p.effective_at <= h.effective_at
      AND (p.effective_at, p.version_epoch, p.version_number, p.version_time, p.version_step)
          < (h.effective_at, h.version_epoch, h.version_number, h.version_time, h.version_step)
    ORDER BY p.effective_at DESC, p.version_epoch DESC, p.version_number DESC, p.version_time DESC,
             p.version_step DESC
    LIMIT 1
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
)
ORDER BY changed_at, resource_version;
