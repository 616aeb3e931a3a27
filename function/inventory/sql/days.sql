-- How fleet_days is filled: the days that late versions touch become due, and each due day is computed whole from
-- virtual_machines_at, so it is what that function says of the day's end.

-- find_looked ()
-- Returns since when recorded versions are to be looked at, NULL where none ever were; and today, in UTC.
-- A version is recorded with the time at which its transaction began, and seen once that has ended, within seconds: so
-- the last two minutes are looked at twice.
PREPARE find_looked AS
SELECT nullif(looked_until, '-infinity') - interval '2 minutes', (now() AT TIME ZONE 'UTC')::date
FROM fleet_days_looked;

-- first_day ()
-- Returns the day of the first version that was in force; NULL where there is none.
PREPARE first_day AS
SELECT (min(h.effective_at) AT TIME ZONE 'UTC')::date
FROM vm_state AS s
CROSS JOIN LATERAL (
    SELECT h.effective_at FROM vm_history AS h
    WHERE h.cluster = s.cluster AND h.namespace = s.namespace AND h.name = s.name AND NOT h.overtaken
      AND h.effective_at > '-infinity'
    ORDER BY h.effective_at LIMIT 1
) AS h;

-- go_by_index ()
-- Keeps this transaction from reading a history whole, whatever Postgres knows of its size.
SET LOCAL enable_seqscan = off;

-- late_days (since, today)
-- Returns the spans of days before today, each with its first and last, whose ends are covered by a version that was
-- recorded since then: from its effective time to the next version that was in force.
-- Where a list refuted versions of an object, they reached back as far as the first of them.
PREPARE late_days (timestamptz, date) AS
WITH machines AS MATERIALIZED (
    SELECT h.cluster, h.namespace, h.name, h.effective_at AS until_after,
           CASE WHEN h.type = 'vmledger.reconcile.correct' THEN least(h.effective_at, (
               SELECT min(r.effective_at) FROM vm_history AS r
               WHERE r.cluster = h.cluster AND r.namespace = h.namespace AND r.name = h.name
                 AND r.version_epoch = -1 AND r.version_time > $1 - interval '1 day'
           )) ELSE h.effective_at END AS since
    FROM vm_history AS h
    WHERE h.recorded_at > $1 AND NOT h.overtaken
      AND (h.effective_at < $2::timestamp AT TIME ZONE 'UTC' OR h.type = 'vmledger.reconcile.correct')

), instances AS MATERIALIZED (
    SELECT h.cluster, h.namespace, h.name, h.owner_uid, h.effective_at AS until_after,
           CASE WHEN h.type = 'vmledger.reconcile.correct' THEN least(h.effective_at, (
               SELECT min(r.effective_at) FROM vm_runtime_history AS r
               WHERE r.cluster = h.cluster AND r.namespace = h.namespace AND r.name = h.name
                 AND r.owner_uid = h.owner_uid AND r.version_epoch = -1 AND r.version_time > $1 - interval '1 day'
           )) ELSE h.effective_at END AS since
    FROM vm_runtime_history AS h
    WHERE h.recorded_at > $1 AND NOT h.overtaken
      AND (h.effective_at < $2::timestamp AT TIME ZONE 'UTC' OR h.type = 'vmledger.reconcile.correct')

), spans AS MATERIALIZED (
    SELECT m.since, n.effective_at AS until
    FROM machines AS m
    LEFT JOIN LATERAL (
        SELECT n.effective_at FROM vm_history AS n
        WHERE n.cluster = m.cluster AND n.namespace = m.namespace AND n.name = m.name AND NOT n.overtaken
          AND n.effective_at > m.until_after
        ORDER BY n.effective_at LIMIT 1
    ) AS n ON true
    UNION ALL
    SELECT i.since, n.effective_at
    FROM instances AS i
    LEFT JOIN LATERAL (
        SELECT n.effective_at FROM vm_runtime_history AS n
        WHERE n.cluster = i.cluster AND n.namespace = i.namespace AND n.name = i.name AND n.owner_uid = i.owner_uid
          AND NOT n.overtaken AND n.effective_at > i.until_after
        ORDER BY n.effective_at LIMIT 1
    ) AS n ON true

), touched AS MATERIALIZED (
    SELECT (greatest(since, '0001-01-01') AT TIME ZONE 'UTC')::date AS first,
           least((until AT TIME ZONE 'UTC')::date, $2) - 1 AS last
    FROM spans
)
SELECT lower(span), upper(span) - 1
FROM (
    SELECT unnest(range_agg(daterange(first, last, '[]'))) AS span FROM touched WHERE first <= last
) AS found
ORDER BY 1;

-- mark_days (first, last, most)
-- Lets the days of a span be due, but none from before the prune, and none that is more than so many days ago.
PREPARE mark_days (date, date, integer) AS
WITH due AS MATERIALIZED (
    SELECT day::date AS day
    FROM fleet_days_looked
    CROSS JOIN LATERAL generate_series(
        greatest($1, kept_from, (now() AT TIME ZONE 'UTC')::date - $3)::timestamp, $2::timestamp, interval '1 day'
    ) AS day
)
INSERT INTO fleet_days_filled (day)
SELECT day FROM due
ON CONFLICT (day) DO UPDATE SET filled_at = NULL;

-- add_days ()
-- Adds the days that have begun since the last one.
PREPARE add_days AS
WITH missing AS MATERIALIZED (
    SELECT day::date AS day
    FROM (SELECT max(day) AS last FROM fleet_days_filled) AS known
    CROSS JOIN LATERAL (SELECT (now() AT TIME ZONE 'UTC')::date) AS clock (today)
    CROSS JOIN LATERAL generate_series(
        coalesce(last + 1, today)::timestamp, today::timestamp, interval '1 day'
    ) AS day
)
INSERT INTO fleet_days_filled (day)
SELECT day FROM missing
ON CONFLICT (day) DO NOTHING;

-- note_looked ()
-- Notes that what was recorded until now was considered.
PREPARE note_looked AS
UPDATE fleet_days_looked SET looked_until = now();

-- count_due (today)
-- Counts the days before today that are due.
PREPARE count_due (date) AS
SELECT count(*)
FROM fleet_days_filled AS f
CROSS JOIN fleet_days_looked AS l
WHERE f.day < $1 AND f.day >= l.kept_from
  AND (f.filled_at IS NULL OR f.filled_at < (f.day + 1)::timestamp AT TIME ZONE 'UTC');

-- next_due (today)
-- Returns the newest day before today that is due.
PREPARE next_due (date) AS
SELECT f.day
FROM fleet_days_filled AS f
CROSS JOIN fleet_days_looked AS l
WHERE f.day < $1 AND f.day >= l.kept_from
  AND (f.filled_at IS NULL OR f.filled_at < (f.day + 1)::timestamp AT TIME ZONE 'UTC')
ORDER BY f.day DESC
LIMIT 1;

-- is_filled (day)
-- Returns whether a day was computed.
PREPARE is_filled (date) AS
SELECT filled_at IS NOT NULL FROM fleet_days_filled WHERE day = $1;

-- empty_day (day)
-- Removes what was computed of a day.
PREPARE empty_day (date) AS
DELETE FROM fleet_days WHERE day = $1;

-- fill_day (day)
-- Computes a day as of its end, the last microsecond, or as of now where it has not ended. A sum that no column holds
-- ends at the greatest value.
PREPARE fill_day (date) AS
WITH fleet AS MATERIALIZED (
    SELECT v.cluster, v.namespace, coalesce(v.guest_os, v.os) COLLATE "C" AS guest_os, count(*) AS vms,
           count(*) FILTER (WHERE CASE
               WHEN v.phase IS NULL THEN v.status IN ('Running', 'Paused', 'Migrating') ELSE v.phase = 'Running'
           END) AS running,
           sum(v.vcpus) AS vcpus, sum(v.memory_bytes) AS memory_bytes, sum(v.disk_bytes) AS disk_bytes
    FROM virtual_machines_at(
        least(($1 + 1)::timestamp AT TIME ZONE 'UTC' - interval '1 microsecond', now())
    ) AS v
    GROUP BY 1, 2, 3
)
INSERT INTO fleet_days (day, cluster, namespace, guest_os, vms, running, vcpus, memory_bytes, disk_bytes)
SELECT $1, cluster, namespace, guest_os, vms, running, vcpus,
       CASE WHEN memory_bytes > 9223372036854775807 THEN 9223372036854775807 ELSE memory_bytes END,
       CASE WHEN disk_bytes > 9223372036854775807 THEN 9223372036854775807 ELSE disk_bytes END
FROM fleet;

-- note_filled (day)
-- Notes that a day was computed now.
PREPARE note_filled (date) AS
UPDATE fleet_days_filled SET filled_at = now() WHERE day = $1;

-- keep_days (old)
-- Lets the days that ended before the time old stay as they are: the history of them is pruned.
PREPARE keep_days (timestamptz) AS
UPDATE fleet_days_looked SET kept_from = greatest(kept_from, ($1 AT TIME ZONE 'UTC')::date);
