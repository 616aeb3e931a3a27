-- The sizes of a machine, and where they come from, are chosen when they are read.
-- They were generated columns of vm_state. Postgres parses and plans the expression of each such column again in every
-- statement that writes the table, whatever the number of its rows: a fifth of the time of an event that comes alone.
-- depends: 0027.owner

-- As before. A size that the machine's spec gives counts; else, where it has an instancetype, what runs, as long as it
-- runs, then the instancetype's, then what ran last.
CREATE OR REPLACE VIEW virtual_machines AS
SELECT type, id, kind, name, namespace, time, cpucores, cpusockets, memory, storageclass, network,
       cluster, uid, resource_version, generation, cputhreads,
       coalesce(
           spec_vcpus,
           CASE WHEN instancetype IS NOT NULL AND phase <> 'Gone' THEN live_vcpus END,
           CASE WHEN instancetype IS NOT NULL THEN coalesce(instancetype_vcpus, live_vcpus) END
       ) AS vcpus,
       coalesce(
           spec_memory_bytes,
           CASE WHEN instancetype IS NOT NULL AND phase <> 'Gone' THEN live_memory_bytes END,
           CASE WHEN instancetype IS NOT NULL THEN coalesce(instancetype_memory_bytes, live_memory_bytes) END
       ) AS memory_bytes,
       instancetype, preference, run_strategy, status, os, architecture, machine_type, disks, disk_bytes, labels,
       created_at, updated_at, node, ip_addresses, guest_os, phase, live_vcpus, live_memory_bytes, runtime_seen_at,
       CASE
           WHEN spec_vcpus IS NOT NULL THEN 'spec'
           WHEN instancetype IS NULL THEN NULL
           WHEN live_vcpus IS NOT NULL AND (phase <> 'Gone' OR instancetype_vcpus IS NULL) THEN 'instance'
           WHEN instancetype_vcpus IS NOT NULL THEN 'instancetype'
       END AS cpu_source,
       CASE
           WHEN spec_memory_bytes IS NOT NULL THEN 'spec'
           WHEN instancetype IS NULL THEN NULL
           WHEN live_memory_bytes IS NOT NULL AND (phase <> 'Gone' OR instancetype_memory_bytes IS NULL) THEN 'instance'
           WHEN instancetype_memory_bytes IS NOT NULL THEN 'instancetype'
       END AS memory_source,
       owner
FROM vm_state
WHERE deleted_at IS NULL;

ALTER TABLE vm_state DROP COLUMN vcpus, DROP COLUMN memory_bytes, DROP COLUMN cpu_source, DROP COLUMN memory_source;
