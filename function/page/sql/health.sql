-- What the view of the health shows besides ledger_health.

-- reconciles_by_day ()
-- Returns how the reconciles of the last seven days ended, and what they found, by day and cluster, newest first.
PREPARE reconciles_by_day AS
SELECT (started_at AT TIME ZONE 'UTC')::date AS day, cluster, count(*) AS runs,
       count(*) FILTER (WHERE outcome = 'clean') AS clean, count(*) FILTER (WHERE outcome = 'repaired') AS repaired,
       count(*) FILTER (WHERE outcome = 'refused') AS refused, count(*) FILTER (WHERE outcome = 'failed') AS failed,
       sum(missed_adds) AS missed_adds, sum(missed_updates) AS missed_updates, sum(missed_deletes) AS missed_deletes,
       sum(corrected) AS corrected
FROM reconcile_runs
WHERE started_at > now() - interval '7 days' AND NOT dry_run
GROUP BY day, cluster
ORDER BY day DESC, cluster
LIMIT 500;

-- unclean_reconciles (most)
-- Returns the reconciles of the last seven days that found or said something, newest first.
PREPARE unclean_reconciles (integer) AS
SELECT cluster, started_at, seconds, outcome, dry_run, seen, missed_adds, missed_updates, missed_deletes, corrected,
       error
FROM reconcile_runs
WHERE started_at > now() - interval '7 days' AND outcome <> 'clean'
ORDER BY started_at DESC
LIMIT $1;

-- recent_dead_letters (most)
-- Returns the dead letters that were received last: why and what they are about, never their data.
PREPARE recent_dead_letters (integer) AS
SELECT last_at, count, code, sentence, type,
       coalesce(nullif(concat_ws('/', attributes ->> 'namespace', attributes ->> 'name'), ''), attributes ->> 'subject')
           AS about,
       replayed_at
FROM dead_letters
ORDER BY last_at DESC, number DESC
LIMIT $1;
