-- What the ledger hears, and how long it has been silent.
-- depends: 0004.truth

-- first_at: since when the writer was heard. With it, a cluster that was never reconciled has an age.
ALTER TABLE ledger_heard ADD COLUMN first_at timestamptz NOT NULL DEFAULT now();

-- The runs that read a complete list, which may be far back where the newest ones failed.
CREATE INDEX reconcile_runs_complete ON reconcile_runs (cluster, started_at DESC)
    WHERE NOT dry_run AND outcome IN ('clean', 'repaired');

-- One row for each cluster and kind. What is about the whole cluster stands in each of its rows.
-- It is read every few seconds, so nothing here grows with the number of VMs or of runs: the clusters of vm_state and of
-- reconcile_runs are found by skipping from one to the next in the index.
CREATE VIEW ledger_health AS
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
), heard AS (
    SELECT cluster, kind, max(last_event_at) AS last_event_at, min(first_at) AS first_at
    FROM ledger_heard
    WHERE last_event_at IS NOT NULL
    GROUP BY cluster, kind
), refused AS (
    SELECT cluster, sum(dead_letters)::bigint AS dead_letters, max(updated_at) AS last_dead_letter_at
    FROM ledger_heard
    WHERE dead_letters > 0
    GROUP BY cluster
), known AS (
    -- known_at: the earliest time at which the cluster is known to have been known.
    SELECT cluster, min(known_at) AS known_at, bool_or(is_heard) AS is_heard, bool_or(is_cluster) AS is_cluster
    FROM (
        SELECT cluster, updated_at AS known_at, false AS is_heard, true AS is_cluster FROM machines
        UNION ALL SELECT cluster, NULL, false, true FROM clusters
        UNION ALL SELECT cluster, NULL, false, true FROM runs
        UNION ALL SELECT cluster, first_at, true, true FROM heard
        UNION ALL SELECT cluster, NULL, false, false FROM refused
    ) AS found
    GROUP BY cluster
)
SELECT known.cluster,
       kinds.kind,
       heard.last_event_at,
       now() - coalesce(
           heard.last_event_at,
           CASE WHEN NOT known.is_heard OR kinds.kind = 'VirtualMachine' THEN earliest.complete_at END
       ) AS silence,
       coalesce(newer.started_at, complete.started_at) AS last_reconcile_at,
       coalesce(newer.outcome, complete.outcome) AS last_reconcile_outcome,
       coalesce(newer.error, complete.error) AS last_reconcile_error,
       complete.started_at AS last_complete_list_at,
       complete.missed_adds,
       complete.missed_updates,
       complete.missed_deletes,
       coalesce(refused.dead_letters, 0) AS dead_letters,
       refused.last_dead_letter_at,
       age.unreconciled,
       max(age.unreconciled) OVER () AS oldest_unreconciled
FROM known
JOIN (VALUES ('VirtualMachine', true), ('VirtualMachineInstance', true), (NULL, false)) AS kinds (kind, is_cluster)
    ON kinds.is_cluster = known.is_cluster
LEFT JOIN heard ON heard.cluster = known.cluster AND heard.kind = kinds.kind
LEFT JOIN refused ON refused.cluster = known.cluster
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

COMMENT ON VIEW ledger_health IS
    'What is heard of each cluster and kind. A row without a kind counts dead letters where no cluster of that name is known.';
COMMENT ON COLUMN ledger_health.last_event_at IS 'When an event about the kind was stored last; a reconcile is no event.';
COMMENT ON COLUMN ledger_health.silence IS
    'Since last_event_at; where none about a VirtualMachine, or none at all, ever came, since the first complete list.';
COMMENT ON COLUMN ledger_health.last_reconcile_at IS 'When the cluster''s last reconcile began, whatever became of it.';
COMMENT ON COLUMN ledger_health.last_complete_list_at IS 'When its last complete list began; missed_* are what that found.';
COMMENT ON COLUMN ledger_health.dead_letters IS 'Requests that were refused for good by functions of that CLUSTER_NAME.';
COMMENT ON COLUMN ledger_health.unreconciled IS
    'Since last_complete_list_at; where there was none, since the cluster is known.';
COMMENT ON COLUMN ledger_health.oldest_unreconciled IS 'The greatest unreconciled of all clusters, the same in all rows.';
