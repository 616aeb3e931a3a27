-- How large the fleet was at the end of each day: what the page draws years from without reading the history.
-- depends: 0010.health_of_many

-- One row for each day (UTC), cluster, namespace and guest OS with a live virtual machine at the end of the day, or, of
-- today, when the day was last filled. So its size follows namespaces x guest systems x days, not the machines.
-- guest_os: what the guest agent reports, else what the object says; NULL where neither does.
-- running: those whose instance's phase is Running; where no instance was ever told of, those of such a status.
-- vcpus, memory_bytes, disk_bytes: sums of what is known; NULL where nothing is.
CREATE TABLE fleet_days (
    day          date NOT NULL,
    cluster      text COLLATE "C" NOT NULL,
    namespace    text COLLATE "C" NOT NULL,
    guest_os     text COLLATE "C",
    vms          integer NOT NULL,
    running      integer NOT NULL,
    vcpus        bigint,
    memory_bytes bigint,
    disk_bytes   bigint
);
CREATE UNIQUE INDEX fleet_days_key ON fleet_days (day, cluster, namespace, coalesce(guest_os, ''));
COMMENT ON TABLE fleet_days IS 'How large the fleet was at the end of each day, by cluster, namespace and guest OS.';

-- The days that fleet_days has, and when each was computed. A day without a time, or with one before its end, is due.
CREATE TABLE fleet_days_filled (
    day        date PRIMARY KEY,
    filled_at  timestamptz
);
COMMENT ON TABLE fleet_days_filled IS 'The days of fleet_days, and when each was computed; NULL: it has to be, again.';

-- One row. looked_until: versions recorded before it were considered. kept_from: the history of the days before it was
-- pruned, so they stay as they are.
CREATE TABLE fleet_days_looked (
    the_only      boolean PRIMARY KEY DEFAULT true CHECK (the_only),
    looked_until  timestamptz NOT NULL DEFAULT '-infinity',
    kept_from     date NOT NULL DEFAULT '-infinity'
);
INSERT INTO fleet_days_looked DEFAULT VALUES;
COMMENT ON TABLE fleet_days_looked IS 'One row: up to when late versions were looked for, and which days can change.';

-- Finds the versions that were recorded since a time, and those that count since a time. It summarizes blocks,
-- so an insert writes nothing to it.
CREATE INDEX vm_history_recorded ON vm_history USING brin (recorded_at, effective_at)
    WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX vm_runtime_history_recorded ON vm_runtime_history USING brin (recorded_at, effective_at)
    WITH (pages_per_range = 32, autosummarize = on);
