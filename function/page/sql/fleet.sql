-- The fleet.

-- list_fleet (most, at)
-- Returns the first VMs.
PREPARE list_fleet (integer, timestamptz) AS
SELECT cluster, namespace, name, status, phase, node, guest_os, vcpus, memory_bytes, disk_bytes
FROM virtual_machines
WHERE $2 IS NULL
ORDER BY cluster, namespace, name
LIMIT $1;
