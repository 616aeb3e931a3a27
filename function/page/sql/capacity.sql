-- How large the fleet was, from fleet_days.

-- days_filled (first, last)
-- Returns the days between two that were computed, and when.
PREPARE days_filled (date, date) AS
SELECT day, filled_at
FROM fleet_days_filled
WHERE day BETWEEN $1 AND $2 AND filled_at IS NOT NULL
ORDER BY day;

-- capacity_by (part, measure, most, days, cluster, namespace, guest_os, live)
-- Returns the sums of some days for the parts that are the largest by a measure over these days, and for all others
-- together (is_rest). part: what is told apart: cluster, namespace or guest_os. The filters are NULL where they are not
-- asked. live: today, where it is counted anew as fill_day does it (inventory/sql/days.sql); else NULL. Its sums are
-- bigint as the table's are: otherwise each kept row would become numeric first, which took half of the time.
PREPARE capacity_by (text, text, integer, date[], text, text, text, date) AS
WITH days AS (
    SELECT day, cluster, namespace, guest_os, vms, running, vcpus, memory_bytes, disk_bytes
    FROM fleet_days
    WHERE day = ANY ($4)
    UNION ALL
    SELECT $8, v.cluster, v.namespace, coalesce(v.guest_os, v.os) COLLATE "C", count(*),
           count(*) FILTER (WHERE CASE
               WHEN v.phase IS NULL THEN v.status IN ('Running', 'Paused', 'Migrating') ELSE v.phase = 'Running'
           END),
           sum(v.vcpus),
           (CASE WHEN sum(v.memory_bytes) > 9223372036854775807 THEN 9223372036854775807
                 ELSE sum(v.memory_bytes) END)::bigint,
           (CASE WHEN sum(v.disk_bytes) > 9223372036854775807 THEN 9223372036854775807
                 ELSE sum(v.disk_bytes) END)::bigint
    FROM virtual_machines AS v
    WHERE $8 IS NOT NULL
    GROUP BY 2, 3, 4
), counted AS MATERIALIZED (
    SELECT f.day, CASE $1 WHEN 'cluster' THEN f.cluster WHEN 'namespace' THEN f.namespace ELSE f.guest_os END AS part,
           sum(f.vms) AS vms, sum(f.running) AS running, sum(f.vcpus) AS vcpus, sum(f.memory_bytes) AS memory,
           sum(f.disk_bytes) AS disk
    FROM days AS f
    WHERE ($5 IS NULL OR f.cluster = $5) AND ($6 IS NULL OR f.namespace = $6)
      AND ($7 IS NULL OR f.guest_os = $7)
    GROUP BY 1, 2

), largest AS MATERIALIZED (
    SELECT part
    FROM counted
    GROUP BY part
    ORDER BY sum(CASE $2 WHEN 'running' THEN running WHEN 'vcpus' THEN vcpus WHEN 'memory' THEN memory
                         WHEN 'disk' THEN disk ELSE vms END) DESC NULLS LAST, part
    LIMIT $3
)
SELECT c.day, l.is_shown IS NULL AS is_rest, CASE WHEN l.is_shown THEN c.part END AS part,
       sum(c.vms)::bigint AS vms, sum(c.running)::bigint AS running, sum(c.vcpus) AS vcpus, sum(c.memory) AS memory,
       sum(c.disk) AS disk, count(*)::int AS parts
FROM counted AS c
LEFT JOIN (SELECT part, true AS is_shown FROM largest) AS l ON l.part IS NOT DISTINCT FROM c.part
GROUP BY 1, 2, 3
ORDER BY 1, 2, 3;
