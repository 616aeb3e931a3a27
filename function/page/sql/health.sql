-- What the view of the health shows besides ledger_health.

-- recent_runs (most)
-- Returns the reconciles of the last seven days, newest first.
PREPARE recent_runs (integer) AS
SELECT cluster, started_at, seconds, outcome, dry_run, seen, missed_adds, missed_updates, missed_deletes, corrected,
       error
FROM reconcile_runs
WHERE started_at > now() - interval '7 days'
ORDER BY started_at DESC
LIMIT $1;

-- recent_dead_letters (most)
-- Returns the dead letters that were received last: why and what they are about, never their data.
PREPARE recent_dead_letters (integer) AS
SELECT number, first_at, last_at, count, code, sentence, type, subject, replayed_at
FROM (
    SELECT number, first_at, last_at, count, code, sentence, type, attributes ->> 'subject' AS subject, replayed_at
    FROM dead_letters
    ORDER BY last_at DESC, number DESC
    LIMIT $1
) AS newest
ORDER BY last_at DESC, number DESC;
