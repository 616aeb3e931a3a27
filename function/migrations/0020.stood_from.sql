-- A version may count since later than before, where its object says so: how far back it stood is kept as well.
-- depends: 0017.own_time

-- stood_from: the earliest effective time that the version had before, as stood_at is the latest.
ALTER TABLE vm_history ADD COLUMN stood_from timestamptz;
ALTER TABLE vm_runtime_history ADD COLUMN stood_from timestamptz;

-- What a version says; without what each version has for itself, and without what is noted beside the facts.
CREATE OR REPLACE FUNCTION ledger_facts(version anyelement) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_jsonb(version) - '{cluster, namespace, name, owner_uid, type, id, time, resource_version, generation,
        version_epoch, version_number, version_time, version_step, shape, digest, effective_at, recorded_at,
        overtaken, changed_by, recorded_xid, corrected_xid, corrected_at, stood_at, stood_from, object_time,
        known_at}'::text[]
$$;

-- As before; the times from and at which a version stood are those of all corrections.
CREATE OR REPLACE FUNCTION ledger_note_correction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unseen CONSTANT text[] := '{id, time, generation, digest, recorded_at, version_epoch, version_time,
        recorded_xid, corrected_xid, corrected_at, stood_at, stood_from, object_time, known_at}';
BEGIN
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
