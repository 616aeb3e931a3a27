-- What the health asks.

-- read_health ()
-- Returns the view ledger_health: a row for each cluster and kind.
PREPARE read_health AS
SELECT cluster, kind, last_event_at, silence, last_reconcile_at, last_reconcile_outcome, last_reconcile_error,
       last_complete_list_at, missed_adds, missed_updates, missed_deletes, dead_letters, now() - last_dead_letter_at,
       unreconciled, oldest_unreconciled
FROM ledger_health
ORDER BY cluster, kind;
