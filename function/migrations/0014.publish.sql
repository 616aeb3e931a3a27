-- What a publisher follows: the transaction that recorded each version, the one that corrected it since, and how far
-- the changes were published.
-- depends: 0013.changed_by

-- recorded_xid: the transaction that stored the version; NULL where it was stored before this migration.
-- corrected_xid, corrected_at: the newest transaction that altered what vm_changes says of it. stood_at: the latest
-- effective time that it had before.
-- A transaction that began earlier may be committed later, so no number that rises finds all that is new. The id of a
-- transaction does, beside a snapshot, which names those that were not committed yet.
ALTER TABLE vm_history
    ADD COLUMN recorded_xid bigint,
    ADD COLUMN corrected_xid bigint,
    ADD COLUMN corrected_at timestamptz,
    ADD COLUMN stood_at timestamptz;
ALTER TABLE vm_history ALTER COLUMN recorded_xid SET DEFAULT pg_current_xact_id()::text::bigint;
ALTER TABLE vm_runtime_history
    ADD COLUMN recorded_xid bigint,
    ADD COLUMN corrected_xid bigint,
    ADD COLUMN corrected_at timestamptz,
    ADD COLUMN stood_at timestamptz;
ALTER TABLE vm_runtime_history ALTER COLUMN recorded_xid SET DEFAULT pg_current_xact_id()::text::bigint;

-- Rows lie in the order in which they were stored, so a summary of each 64 pages finds the new ones. An insert writes
-- nothing to such an index; a B-tree would add 66 bytes to the log for each version (docs/follow.md).
CREATE INDEX vm_history_xids ON vm_history USING brin (recorded_xid, corrected_xid)
    WITH (pages_per_range = 64, autosummarize = on);
CREATE INDEX vm_runtime_history_xids ON vm_runtime_history USING brin (recorded_xid, corrected_xid)
    WITH (pages_per_range = 64, autosummarize = on);

-- What a version says; without what each version has for itself, and without who made it.
CREATE OR REPLACE FUNCTION ledger_facts(version anyelement) RETURNS jsonb LANGUAGE sql STABLE PARALLEL SAFE
AS $$
    SELECT to_jsonb(version) - '{cluster, namespace, name, owner_uid, type, id, time, resource_version, generation,
        version_epoch, version_number, version_time, version_step, shape, digest, effective_at, recorded_at,
        overtaken, changed_by, recorded_xid, corrected_xid, corrected_at, stood_at}'::text[]
$$;

-- Notes which transaction altered a version, where vm_changes may say something else of it now. Updates of a history
-- are rare, and an insert does not come here.
CREATE FUNCTION ledger_note_correction() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    unseen CONSTANT text[] := '{id, time, generation, digest, recorded_at, version_epoch, version_time, object_time,
        known_at, recorded_xid, corrected_xid, corrected_at, stood_at}';
BEGIN
    IF OLD.overtaken AND NEW.overtaken OR to_jsonb(OLD) - unseen = to_jsonb(NEW) - unseen THEN
        RETURN NEW;
    END IF;
    NEW.corrected_xid := pg_current_xact_id()::text::bigint;
    NEW.corrected_at := now();
    NEW.stood_at := greatest(OLD.stood_at, OLD.effective_at);
    RETURN NEW;
END
$$;
CREATE TRIGGER note_correction BEFORE UPDATE ON vm_history
    FOR EACH ROW EXECUTE FUNCTION ledger_note_correction();
CREATE TRIGGER note_correction BEFORE UPDATE ON vm_runtime_history
    FOR EACH ROW EXECUTE FUNCTION ledger_note_correction();

-- How far the changes were published; one row.
-- told: the snapshot in which all that is visible was published; NULL where it begins with all changes since `since`.
-- told_at: when it was taken, by the database's clock.
-- target, target_at: the snapshot that is being published, where that takes several portions; after: the key and the
-- effective time of the last change of it that was published, as name, namespace, cluster, time.
-- system: the Postgres cluster that the snapshots count in. cut_at: rows of another one are older than this, or were
-- published when the database moved here.
CREATE TABLE publish_position (
    one         boolean PRIMARY KEY DEFAULT true CHECK (one),
    told        pg_snapshot,
    told_at     timestamptz NOT NULL,
    since       timestamptz NOT NULL DEFAULT '-infinity',
    target      pg_snapshot,
    target_at   timestamptz,
    after       text[] NOT NULL DEFAULT '{}',
    system      text NOT NULL,
    cut_at      timestamptz NOT NULL DEFAULT '-infinity',
    updated_at  timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE publish_position IS 'How far the changes of the ledger were published: what `publish` goes on from.';
