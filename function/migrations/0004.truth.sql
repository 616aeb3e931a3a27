-- What keeps the ledger true: complete lists beside the events, run time beside the machines, the past by months.
-- depends: 0003.vsphere

-- What is known of each cluster.
-- uid: of its namespace kube-system. epochs: when a restored cluster's lower resource versions were accepted; a change
-- belongs to the epoch that its time falls into, and a later epoch outranks an earlier one.
-- machines_*, instances_*: the version, and the time, of the last complete list of each kind.
CREATE TABLE clusters (
    cluster            text COLLATE "C" PRIMARY KEY,
    uid                text,
    epochs             timestamptz[] NOT NULL DEFAULT '{}',
    machines_epoch     smallint NOT NULL DEFAULT 0,
    machines_version   bigint NOT NULL DEFAULT -1,
    machines_time      timestamptz NOT NULL DEFAULT '-infinity',
    instances_epoch    smallint NOT NULL DEFAULT 0,
    instances_version  bigint NOT NULL DEFAULT -1,
    instances_time     timestamptz NOT NULL DEFAULT '-infinity'
);

CREATE TABLE reconcile_runs (
    run             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    cluster         text COLLATE "C" NOT NULL,
    started_at      timestamptz NOT NULL,
    seconds         double precision NOT NULL,
    outcome         text NOT NULL CHECK (outcome IN ('clean', 'repaired', 'refused', 'failed')),
    dry_run         boolean NOT NULL DEFAULT false,
    seen            bigint NOT NULL DEFAULT 0,
    missed_adds     bigint NOT NULL DEFAULT 0,
    missed_updates  bigint NOT NULL DEFAULT 0,
    missed_deletes  bigint NOT NULL DEFAULT 0,
    list_version    bigint,
    error           text
);
CREATE INDEX ON reconcile_runs (cluster, started_at DESC);

-- The names that a running reconcile has seen; nothing that outlives it.
CREATE UNLOGGED TABLE reconcile_seen (
    cluster    text COLLATE "C" NOT NULL,
    kind       text COLLATE "C" NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    uid        text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (cluster, kind, namespace, name, uid)
);

-- Each process that writes has rows of its own, so that the commits of several never wait for each other.
CREATE TABLE ledger_heard (
    writer         text NOT NULL,
    cluster        text COLLATE "C" NOT NULL,
    kind           text COLLATE "C" NOT NULL,
    last_event_at  timestamptz,
    dead_letters   bigint NOT NULL DEFAULT 0,
    updated_at     timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (writer, cluster, kind)
) WITH (fillfactor = 50);

-- vm_state: more about order, the numbers by where they come from, and what the running instance says.
-- effective_at: since when the version counts: the earliest time that an event said of it, or when it was recorded
-- where none did.
DROP VIEW virtual_machines;
ALTER TABLE vm_state RENAME COLUMN vcpus TO spec_vcpus;
ALTER TABLE vm_state RENAME COLUMN memory_bytes TO spec_memory_bytes;
ALTER TABLE vm_state
    ADD COLUMN version_epoch smallint NOT NULL DEFAULT 0,
    ADD COLUMN effective_at timestamptz,
    ADD COLUMN node text,
    ADD COLUMN ip_addresses text[],
    ADD COLUMN guest_os text,
    ADD COLUMN phase text,
    ADD COLUMN live_vcpus integer,
    ADD COLUMN live_memory_bytes bigint,
    ADD COLUMN runtime_seen_at timestamptz,
    ADD COLUMN instancetype_vcpus integer,
    ADD COLUMN instancetype_memory_bytes bigint,
    ADD COLUMN instancetype_revision text,
    ADD COLUMN vcpus integer GENERATED ALWAYS AS (coalesce(
        spec_vcpus,
        CASE WHEN instancetype IS NOT NULL AND phase <> 'Gone' THEN live_vcpus END,
        CASE WHEN instancetype IS NOT NULL THEN coalesce(instancetype_vcpus, live_vcpus) END
    )) STORED,
    ADD COLUMN memory_bytes bigint GENERATED ALWAYS AS (coalesce(
        spec_memory_bytes,
        CASE WHEN instancetype IS NOT NULL AND phase <> 'Gone' THEN live_memory_bytes END,
        CASE WHEN instancetype IS NOT NULL THEN coalesce(instancetype_memory_bytes, live_memory_bytes) END
    )) STORED,
    ADD COLUMN cpu_source text GENERATED ALWAYS AS (CASE
        WHEN spec_vcpus IS NOT NULL THEN 'spec'
        WHEN instancetype IS NULL THEN NULL
        WHEN live_vcpus IS NOT NULL AND (phase <> 'Gone' OR instancetype_vcpus IS NULL) THEN 'instance'
        WHEN instancetype_vcpus IS NOT NULL THEN 'instancetype'
    END) STORED,
    ADD COLUMN memory_source text GENERATED ALWAYS AS (CASE
        WHEN spec_memory_bytes IS NOT NULL THEN 'spec'
        WHEN instancetype IS NULL THEN NULL
        WHEN live_memory_bytes IS NOT NULL AND (phase <> 'Gone' OR instancetype_memory_bytes IS NULL) THEN 'instance'
        WHEN instancetype_memory_bytes IS NOT NULL THEN 'instancetype'
    END) STORED;
UPDATE vm_state SET effective_at = coalesce(time, updated_at);
ALTER TABLE vm_state ALTER COLUMN effective_at SET NOT NULL;

-- The history by months of effective_at. Its key begins with the name, in which machines differ most: whoever descends
-- the index compares one text and not three. overtaken: a later version counts since no later time, so this one was never
-- in force. What is before the first month and after the last has a table of its own, and
-- there is no default one: with it Postgres could not read the months in their order.
ALTER TABLE vm_history RENAME TO vm_history_unparted;
CREATE TABLE vm_history (
    LIKE vm_history_unparted INCLUDING DEFAULTS,
    version_epoch  smallint NOT NULL DEFAULT 0,
    effective_at   timestamptz NOT NULL,
    overtaken      boolean NOT NULL DEFAULT false,
    PRIMARY KEY (name, namespace, cluster, effective_at, version_epoch, version_number, version_time, version_step)
) PARTITION BY RANGE (effective_at);
-- Where a version is found; it grows at its end, because versions do, so a large history costs a new one no more.
CREATE INDEX vm_history_version ON vm_history (version_number, version_time);
COMMENT ON TABLE vm_history IS 'One row for each distinct version of a virtual machine that was received, late ones too.';

-- The running instances: state and history of the VirtualMachineInstances of each virtual machine, by its owner's uid.
CREATE TABLE vm_runtime (
    type              text NOT NULL,
    id                text COLLATE "C" NOT NULL,
    name              text COLLATE "C" NOT NULL,
    namespace         text COLLATE "C" NOT NULL,
    time              timestamptz,
    cluster           text COLLATE "C" NOT NULL,
    uid               text,
    owner_uid         text COLLATE "C" NOT NULL,
    resource_version  bigint,
    node              text,
    ip_addresses      text[],
    guest_os          text,
    phase             text,
    live_vcpus        integer,
    live_memory_bytes bigint,
    deleted_at        timestamptz,
    version_epoch     smallint NOT NULL DEFAULT 0,
    version_number    bigint NOT NULL,
    version_time      timestamptz NOT NULL,
    version_step      smallint NOT NULL,
    shape             smallint NOT NULL,
    digest            bigint NOT NULL,
    effective_at      timestamptz NOT NULL,
    updated_at        timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (cluster, namespace, name, owner_uid)
) WITH (fillfactor = 70);
COMMENT ON TABLE vm_runtime IS 'One row for each virtual machine that ran: its newest VirtualMachineInstance version.';

CREATE TABLE vm_runtime_history (
    LIKE vm_runtime INCLUDING DEFAULTS,
    PRIMARY KEY
        (name, namespace, cluster, owner_uid, effective_at, version_epoch, version_number, version_time, version_step)
) PARTITION BY RANGE (effective_at);
ALTER TABLE vm_runtime_history RENAME COLUMN updated_at TO recorded_at;
ALTER TABLE vm_runtime_history ADD COLUMN overtaken boolean NOT NULL DEFAULT false;
CREATE INDEX vm_runtime_history_version ON vm_runtime_history (version_number, version_time);
COMMENT ON TABLE vm_runtime_history IS 'One row for each distinct version of a VirtualMachineInstance that was received.';

-- Adds the month after the last one to a history, with what the table after the last month already holds of it.
-- The first month of an empty history is the one of `first`.
CREATE FUNCTION ledger_add_month(history text, first date DEFAULT date_trunc('month', now() AT TIME ZONE 'UTC')::date)
RETURNS text LANGUAGE plpgsql AS $$
DECLARE
    tail CONSTANT text := history || '_after';
    head CONSTANT text := history || '_before';
    bound text;
    month timestamptz;
    following timestamptz;
    part text;
BEGIN
    EXECUTE format('LOCK TABLE %I IN ACCESS EXCLUSIVE MODE', history);
    SELECT substring(pg_get_expr(c.relpartbound, c.oid) FROM $re$FROM \('([^']+)'\)$re$)
    INTO bound
    FROM pg_class c JOIN pg_inherits i ON i.inhrelid = c.oid
    WHERE i.inhparent = to_regclass(quote_ident(history)) AND c.relname = tail;
    month := coalesce(bound::timestamptz, first::timestamp AT TIME ZONE 'UTC');
    following := (month AT TIME ZONE 'UTC' + interval '1 month') AT TIME ZONE 'UTC';
    part := history || to_char(month AT TIME ZONE 'UTC', '_YYYY_MM');
    IF bound IS NULL THEN
        EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (MINVALUE) TO (%L)', head, history, month);
    ELSE
        EXECUTE format('ALTER TABLE %I DETACH PARTITION %I', history, tail);
        EXECUTE format('ALTER TABLE %I RENAME TO %I', tail, tail || '_old');
    END IF;
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (%L)', part, history, month, following);
    EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%L) TO (MAXVALUE)', tail, history, following);
    IF bound IS NOT NULL THEN
        EXECUTE format('INSERT INTO %I SELECT * FROM %I', history, tail || '_old');
        EXECUTE format('DROP TABLE %I', tail || '_old');
    END IF;
    RETURN part;
END
$$;

-- The months from the oldest version that is known, at most five years back, to two months ahead.
DO $$
DECLARE
    oldest date;
    months integer;
BEGIN
    SELECT date_trunc('month', coalesce(min(coalesce(time, recorded_at)), now()) AT TIME ZONE 'UTC')
    INTO oldest
    FROM vm_history_unparted
    WHERE coalesce(time, recorded_at) > now() - interval '5 years' AND coalesce(time, recorded_at) <= now();
    months := (extract(year FROM age(date_trunc('month', now() AT TIME ZONE 'UTC'), oldest)) * 12
               + extract(month FROM age(date_trunc('month', now() AT TIME ZONE 'UTC'), oldest)))::integer + 3;
    FOR number IN 1..months LOOP
        PERFORM ledger_add_month('vm_history', oldest);
    END LOOP;
    FOR number IN 1..3 LOOP
        PERFORM ledger_add_month('vm_runtime_history');
    END LOOP;
END
$$;

INSERT INTO vm_history
SELECT *, 0, coalesce(time, recorded_at), coalesce(coalesce(time, recorded_at) >= min(coalesce(time, recorded_at)) OVER (
    PARTITION BY cluster, namespace, name ORDER BY version_number DESC, version_time DESC, version_step DESC
    ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING
), false)
FROM vm_history_unparted;
DROP TABLE vm_history_unparted;

CREATE VIEW virtual_machines AS
SELECT type, id, kind, name, namespace, time, cpucores, cpusockets, memory, storageclass, network,
       cluster, uid, resource_version, generation, cputhreads, vcpus, memory_bytes, instancetype, preference,
       run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels, created_at, updated_at,
       node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at, cpu_source, memory_source
FROM vm_state
WHERE deleted_at IS NULL;

COMMENT ON VIEW virtual_machines IS 'The virtual machines that live.';
