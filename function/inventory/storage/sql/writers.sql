-- What all writers of the ledger share: the lock on the table clusters, and the note of who was heard.

-- together ()
-- Every transaction of a writer begins with it: the statements after it see what was committed before.
LOCK TABLE clusters IN ROW SHARE MODE;

-- alone ()
-- Waits until no writer is under way, and keeps others waiting until the end of the transaction: for whoever must know
-- that nobody writes with an older view, because a list was completed or an epoch began.
-- It locks no row, because a writer whose clusters are new has none to lock.
LOCK TABLE clusters IN EXCLUSIVE MODE;

-- note_events (writer, clusters, kind)
-- Notes that events about a kind of object were stored now. Each process has rows of its own, so it waits for nobody;
-- it notes each kind once a second at most.
PREPARE note_events (text, text[], text) AS
INSERT INTO ledger_heard AS known (writer, cluster, kind, last_event_at, updated_at)
SELECT $1, cluster, $3, now(), now()
FROM unnest($2) AS cluster
ON CONFLICT (writer, cluster, kind) DO UPDATE
SET last_event_at = excluded.last_event_at, updated_at = excluded.updated_at;

-- next_transaction ()
-- Between two transactions of one message: the statements of a message are one transaction until something ends it.
-- BEGIN makes that one an ordinary one, for which COMMIT is no surprise; what follows is another.
BEGIN; COMMIT;

-- appended ()
-- Returns what append_machines and append_instances have returned last on this connection, where they were committed.
PREPARE appended AS
SELECT current_setting('vmledger.machines', true), current_setting('vmledger.instances', true);
