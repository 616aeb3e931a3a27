-- The hours of the VMs, from vm_usage.

-- usage_by_namespace (since, until, cluster, namespace)
-- Returns the sums of each namespace. The filters are NULL where they are not asked.
PREPARE usage_by_namespace (timestamptz, timestamptz, text, text) AS
SELECT cluster, namespace, count(*) AS vms, sum(hours) AS hours, sum(hours_running) AS hours_running,
       sum(vcpu_hours) AS vcpu_hours, sum(vcpu_hours_running) AS vcpu_hours_running,
       sum(memory_gib_hours) AS memory_gib_hours, sum(memory_gib_hours_running) AS memory_gib_hours_running,
       sum(disk_gib_hours) AS disk_gib_hours
FROM vm_usage($1, $2)
WHERE ($3 IS NULL OR cluster = $3) AND ($4 IS NULL OR namespace = $4)
GROUP BY cluster, namespace
ORDER BY cluster, namespace
LIMIT 1000;

-- usage_of_vms (since, until, cluster, namespace, name, uid, most)
-- Returns the hours of the VMs of a namespace, by name and uid, that come after a key: the empty texts come first.
PREPARE usage_of_vms (timestamptz, timestamptz, text, text, text, text, integer) AS
SELECT cluster, namespace, name, uid, hours, hours_running, running_by, vcpu_hours, vcpu_hours_running,
       memory_gib_hours, memory_gib_hours_running, disk_gib_hours, hours_unsized, node_hours, labels
FROM vm_usage($1, $2)
WHERE cluster = $3 AND namespace = $4 AND (name COLLATE "C", coalesce(uid, '') COLLATE "C") > ($5, $6)
ORDER BY name COLLATE "C", coalesce(uid, '') COLLATE "C"
LIMIT $7;

-- usage_namespaces (cluster, namespace)
-- Returns the namespaces that ever had a VM. The filters are NULL where they are not asked.
PREPARE usage_namespaces (text, text) AS
SELECT DISTINCT cluster, namespace
FROM vm_state
WHERE ($1 IS NULL OR cluster = $1) AND ($2 IS NULL OR namespace = $2)
ORDER BY cluster, namespace;
