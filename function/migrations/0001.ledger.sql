-- The ledger of virtual machines: state, history, and the view that people read.
-- depends:

-- The published example keeps its events in a table under the name that is our view's.
DO $$
DECLARE
    published CONSTANT text[] := ARRAY['type', 'id', 'kind', 'name', 'namespace', 'time', 'cpucores', 'cpusockets',
                                       'memory', 'storageclass', 'network'];
    held text[];
BEGIN
    IF to_regclass('virtual_machines') IS NULL THEN
        RETURN;
    END IF;
    SELECT array_agg(a.attname::text)
    INTO held
    FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
    WHERE c.oid = to_regclass('virtual_machines') AND c.relkind IN ('r', 'p') AND a.attnum > 0 AND NOT a.attisdropped;
    IF held @> published THEN
        ALTER TABLE virtual_machines RENAME TO virtual_machines_published;
    ELSE
        RAISE EXCEPTION 'virtual_machines exists and is not the published table: rename it, then migrate again';
    END IF;
END
$$;

-- version_*: the order of changes. version_number is the resource version, or -1 where the event carries none;
-- then version_time, -infinity where it does not decide; then version_step: 0 add, 1 update, 2 delete.
-- shape (0 flat, 1 object), time, id and digest choose between two events about the same version.
-- Text that is compared here and in Python compares by code point in both: COLLATE "C".
CREATE TABLE vm_state (
    type            text NOT NULL,
    id              text COLLATE "C" NOT NULL,
    kind            text NOT NULL,
    name            text COLLATE "C" NOT NULL,
    namespace       text COLLATE "C" NOT NULL,
    time            timestamptz,
    cpucores        integer,
    cpusockets      integer,
    memory          text,
    storageclass    text,
    network         text,
    cluster         text COLLATE "C" NOT NULL,
    uid             text,
    resource_version bigint,
    generation      bigint,
    cputhreads      integer,
    vcpus           integer,
    memory_bytes    bigint,
    instancetype    text,
    preference      text,
    run_strategy    text,
    status          text,
    os              text,
    architecture    text,
    machine_type    text,
    disks           integer,
    disk_bytes      bigint,
    labels          jsonb,
    created_at      timestamptz,
    deleted_at      timestamptz,
    version_number  bigint NOT NULL,
    version_time    timestamptz NOT NULL,
    version_step    smallint NOT NULL,
    shape           smallint NOT NULL,
    digest          bigint NOT NULL,
    updated_at      timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, namespace, name)
) WITH (fillfactor = 70);

COMMENT ON TABLE vm_state IS 'One row for each virtual machine: the newest version known. deleted_at is its tombstone.';

CREATE TABLE vm_history (LIKE vm_state);
ALTER TABLE vm_history RENAME COLUMN updated_at TO recorded_at;
ALTER TABLE vm_history ALTER COLUMN recorded_at SET DEFAULT now();
ALTER TABLE vm_history ADD PRIMARY KEY (cluster, namespace, name, version_number, version_time, version_step);

COMMENT ON TABLE vm_history IS 'One row for each distinct version of a virtual machine that was received, late ones too.';

CREATE VIEW virtual_machines AS
SELECT type, id, kind, name, namespace, time, cpucores, cpusockets, memory, storageclass, network,
       cluster, uid, resource_version, generation, cputhreads, vcpus, memory_bytes, instancetype, preference,
       run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, created_at, updated_at
FROM vm_state
WHERE deleted_at IS NULL;

COMMENT ON VIEW virtual_machines IS 'The virtual machines that live.';
