-- The count of refusals, each of which becomes a dead letter, in ledger_heard.

-- count_dead_letters (writer, cluster, count)
-- Stores how many requests a process has refused for good: all of them, not only new ones, so it may be repeated when
-- nobody knows whether it was committed.
PREPARE count_dead_letters (text, text, bigint) AS
INSERT INTO ledger_heard AS known (writer, cluster, kind, dead_letters, updated_at)
VALUES ($1, $2, '', $3, now())
ON CONFLICT (writer, cluster, kind) DO UPDATE
SET dead_letters = greatest(known.dead_letters, excluded.dead_letters), updated_at = excluded.updated_at;

-- merge_writers (days)
-- Merges the rows that were not written for so many days into one, of the writer 'gone'; the sums stay the same.
PREPARE merge_writers (integer) AS
WITH gone AS (
    DELETE FROM ledger_heard WHERE updated_at < now() - make_interval(days => $1) AND writer <> 'gone' RETURNING *
), merged AS MATERIALIZED (
    SELECT cluster, kind, max(last_event_at) AS last_event_at, sum(dead_letters) AS dead_letters,
           max(updated_at) AS updated_at, min(first_at) AS first_at
    FROM gone
    GROUP BY cluster, kind
)
INSERT INTO ledger_heard AS known (writer, cluster, kind, last_event_at, dead_letters, updated_at, first_at)
SELECT 'gone', cluster, kind, last_event_at, dead_letters, updated_at, first_at FROM merged
ON CONFLICT (writer, cluster, kind) DO UPDATE
SET last_event_at = greatest(known.last_event_at, excluded.last_event_at),
    dead_letters = known.dead_letters + excluded.dead_letters,
    updated_at = greatest(known.updated_at, excluded.updated_at),
    first_at = least(known.first_at, excluded.first_at);
