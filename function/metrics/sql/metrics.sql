-- What the metrics ask of the ledger: little enough to be asked by each pod every 15 seconds.

-- read_clusters (own, most)
-- Returns the rows of the view ledger_health for the first clusters, with what their last complete list corrected and
-- the number of all clusters. The own one comes first, then those that were reconciled: events alone cannot take their
-- place.
PREPARE read_clusters (text, integer) AS
SELECT placed.cluster,
       placed.kind,
       extract(epoch FROM placed.silence)::double precision AS silence,
       extract(epoch FROM now() - placed.last_complete_list_at)::double precision AS list_age,
       extract(epoch FROM placed.unreconciled)::double precision AS unreconciled,
       extract(epoch FROM placed.last_reconcile_at)::double precision AS reconciled_at,
       placed.last_reconcile_outcome IN ('clean', 'repaired') AS reconciled_well,
       placed.missed_adds,
       placed.missed_updates,
       placed.missed_deletes,
       complete.corrected,
       placed.dead_letters,
       placed.clusters
FROM (
    SELECT *, max(place) OVER () AS clusters
    FROM (
        SELECT *, dense_rank() OVER (ORDER BY cluster <> $1, last_complete_list_at IS NULL, cluster) AS place
        FROM ledger_health
    ) AS ranked
) AS placed
LEFT JOIN LATERAL (
    SELECT r.corrected
    FROM reconcile_runs AS r
    WHERE r.cluster = placed.cluster AND NOT r.dry_run AND r.outcome IN ('clean', 'repaired')
    ORDER BY r.started_at DESC LIMIT 1
) AS complete ON true
WHERE placed.place <= $2
ORDER BY placed.place, placed.kind;

-- count_live ()
-- Returns how many VMs of each cluster are not deleted.
PREPARE count_live AS
SELECT cluster, count(*) FROM vm_state WHERE deleted_at IS NULL GROUP BY cluster;

-- measure_histories ()
-- Returns the rows of each history, as Postgres estimates them, and its bytes: those of its months together.
PREPARE measure_histories AS
SELECT parent.relname,
       sum(greatest(part.reltuples, 0))::double precision AS rows,
       sum(pg_total_relation_size(part.oid))::double precision AS bytes
FROM pg_class AS parent
JOIN pg_inherits AS i ON i.inhparent = parent.oid
JOIN pg_class AS part ON part.oid = i.inhrelid
WHERE parent.oid IN ('vm_history'::regclass, 'vm_runtime_history'::regclass)
GROUP BY parent.relname;

-- count_kept ()
-- Returns how many dead letters wait for a replay, and how many were replayed.
PREPARE count_kept AS
SELECT count(*) FILTER (WHERE replayed_at IS NULL), count(*) FILTER (WHERE replayed_at IS NOT NULL)
FROM dead_letters;

-- last_prune ()
-- Returns when the last prune ended; NULL where none did.
PREPARE last_prune AS
SELECT extract(epoch FROM max(ended_at))::double precision FROM prune_runs;
