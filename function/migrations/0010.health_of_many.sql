-- The health of many clusters in time proportional to their number: the same view, without joins of its parts.
-- depends: 0009.dead_letters

-- All that is stored about a cluster is added up at once. What is only a join of two parts by the cluster, Postgres may
-- do by comparing each row with each, because it cannot tell how many rows a part has: 10,000 clusters were 10^8 pairs.
-- What is read for each cluster is one row of an index each time.
CREATE OR REPLACE VIEW ledger_health AS
WITH RECURSIVE machines AS (
    (SELECT cluster, updated_at FROM vm_state ORDER BY cluster LIMIT 1)
    UNION ALL
    SELECT following.cluster, following.updated_at
    FROM machines
    CROSS JOIN LATERAL (
        SELECT s.cluster, s.updated_at FROM vm_state AS s WHERE s.cluster > machines.cluster ORDER BY s.cluster LIMIT 1
    ) AS following
), runs AS (
    (SELECT cluster FROM reconcile_runs WHERE NOT dry_run ORDER BY cluster LIMIT 1)
    UNION ALL
    SELECT following.cluster
    FROM runs
    CROSS JOIN LATERAL (
        SELECT r.cluster FROM reconcile_runs AS r
        WHERE NOT r.dry_run AND r.cluster > runs.cluster ORDER BY r.cluster LIMIT 1
    ) AS following
), known AS (
    -- known_at: the earliest time at which the cluster is known to have been known.
    -- is_cluster: more is known of it than dead letters. kind: of what was heard, and NULL of all else.
    SELECT cluster,
           min(known_at) AS known_at,
           bool_or(is_cluster) AS is_cluster,
           bool_or(last_event_at IS NOT NULL) AS is_heard,
           max(last_event_at) FILTER (WHERE kind = 'VirtualMachine') AS last_machine_at,
           max(last_event_at) FILTER (WHERE kind = 'VirtualMachineInstance') AS last_instance_at,
           sum(dead_letters)::bigint AS dead_letters,
           max(last_dead_letter_at) AS last_dead_letter_at
    FROM (
        SELECT cluster, updated_at AS known_at, true AS is_cluster, NULL::text AS kind,
               NULL::timestamptz AS last_event_at, 0::bigint AS dead_letters, NULL::timestamptz AS last_dead_letter_at
        FROM machines
        UNION ALL
        SELECT cluster, NULL, true, NULL, NULL, 0, NULL FROM clusters
        UNION ALL
        SELECT cluster, NULL, true, NULL, NULL, 0, NULL FROM runs
        UNION ALL
        SELECT cluster, first_at, true, kind, last_event_at, 0, NULL FROM ledger_heard WHERE last_event_at IS NOT NULL
        UNION ALL
        SELECT cluster, NULL, false, NULL, NULL, dead_letters, updated_at FROM ledger_heard WHERE dead_letters > 0
    ) AS found
    GROUP BY cluster
)
SELECT known.cluster,
       kinds.kind,
       kinds.last_event_at,
       now() - coalesce(
           kinds.last_event_at,
           CASE WHEN NOT known.is_heard OR kinds.kind = 'VirtualMachine' THEN earliest.complete_at END
       ) AS silence,
       coalesce(newer.started_at, complete.started_at) AS last_reconcile_at,
       coalesce(newer.outcome, complete.outcome) AS last_reconcile_outcome,
       coalesce(newer.error, complete.error) AS last_reconcile_error,
       complete.started_at AS last_complete_list_at,
       complete.missed_adds,
       complete.missed_updates,
       complete.missed_deletes,
       known.dead_letters,
       known.last_dead_letter_at,
       age.unreconciled,
       max(age.unreconciled) OVER () AS oldest_unreconciled
FROM known
CROSS JOIN LATERAL (
    SELECT kind, last_event_at
    FROM (
        VALUES ('VirtualMachine', true, known.last_machine_at), ('VirtualMachineInstance', true, known.last_instance_at),
               (NULL, false, NULL)
    ) AS kinds (kind, is_cluster, last_event_at)
    WHERE kinds.is_cluster = known.is_cluster
) AS kinds
LEFT JOIN LATERAL (
    SELECT * FROM reconcile_runs AS r
    WHERE r.cluster = known.cluster AND NOT r.dry_run AND r.outcome IN ('clean', 'repaired')
    ORDER BY r.started_at DESC LIMIT 1
) AS complete ON true
LEFT JOIN LATERAL (
    -- One that was refused because the last complete one was still under way is no news.
    SELECT * FROM reconcile_runs AS r
    WHERE r.cluster = known.cluster AND NOT r.dry_run
      AND r.started_at > coalesce(complete.started_at + complete.seconds * interval '1 second', '-infinity')
    ORDER BY r.started_at DESC LIMIT 1
) AS newer ON true
CROSS JOIN LATERAL (
    SELECT (
        SELECT min(r.started_at) FROM reconcile_runs AS r WHERE r.cluster = known.cluster AND NOT r.dry_run
    ) AS run_at, (
        SELECT min(r.started_at) FROM reconcile_runs AS r
        WHERE r.cluster = known.cluster AND NOT r.dry_run AND r.outcome IN ('clean', 'repaired')
    ) AS complete_at
) AS earliest
CROSS JOIN LATERAL (
    SELECT now() - coalesce(complete.started_at, least(known.known_at, earliest.run_at)) AS unreconciled
) AS age;
