-- What takes a cluster out: lock_some_machines, forget_histories_of_machines and forget_machines in transactions of
-- some machines each, the same for instances, and then the rest in one. A test holds that no table is left out.

-- count_cluster (cluster)
-- Returns how long ago something was stored from the cluster, and how many rows it has: machines and their versions,
-- instances and their versions, reconciles, and others.
PREPARE count_cluster (text) AS
SELECT now() - greatest(
           (SELECT max(updated_at) FROM vm_state WHERE cluster = $1),
           (SELECT max(updated_at) FROM vm_runtime WHERE cluster = $1),
           (SELECT max(updated_at) FROM ledger_heard WHERE cluster = $1),
           (SELECT max(started_at + seconds * interval '1 second') FROM reconcile_runs WHERE cluster = $1)
       ),
       (SELECT count(*) FROM vm_state WHERE cluster = $1),
       (SELECT count(*) FROM vm_history WHERE cluster = $1),
       (SELECT count(*) FROM vm_runtime WHERE cluster = $1),
       (SELECT count(*) FROM vm_runtime_history WHERE cluster = $1),
       (SELECT count(*) FROM reconcile_runs WHERE cluster = $1),
       (SELECT count(*) FROM clusters WHERE cluster = $1)
       + (SELECT count(*) FROM ledger_heard WHERE cluster = $1)
       + (SELECT count(*) FROM reconcile_seen WHERE cluster = $1)
       + (SELECT count(*) FROM fleet_days WHERE cluster = $1)
       + (SELECT count(*) FROM prune_due WHERE cluster = $1);

-- lock_some_machines (cluster, batch)
-- Returns the keys of the cluster's first machines, in the order in which all writers lock them, and keeps writers of
-- these machines waiting: the statements after it see what was committed before.
PREPARE lock_some_machines (text, bigint) AS
SELECT s.namespace, s.name
FROM vm_state AS s
WHERE s.cluster = $1
ORDER BY s.cluster, s.namespace, s.name
LIMIT $2
FOR UPDATE OF s;

-- forget_histories_of_machines (cluster, last)
-- Deletes, and counts, the versions of the machines up to the key last.
PREPARE forget_histories_of_machines (text, text[]) AS
WITH gone AS (
    DELETE FROM vm_history AS h
    USING vm_state AS s
    WHERE s.cluster = $1 AND (s.namespace, s.name) <= ($2[1], $2[2])
      AND h.cluster = $1 AND h.namespace = s.namespace AND h.name = s.name
    RETURNING 1
)
SELECT count(*) FROM gone;

-- forget_machines (cluster, last)
-- Deletes, and counts, the machines up to the key last.
PREPARE forget_machines (text, text[]) AS
WITH gone AS (
    DELETE FROM vm_state AS s
    WHERE s.cluster = $1 AND (s.namespace, s.name) <= ($2[1], $2[2])
    RETURNING 1
)
SELECT count(*) FROM gone;

-- lock_some_instances (cluster, batch)
-- As lock_some_machines.
PREPARE lock_some_instances (text, bigint) AS
SELECT s.namespace, s.name, s.owner_uid
FROM vm_runtime AS s
WHERE s.cluster = $1
ORDER BY s.cluster, s.namespace, s.name, s.owner_uid
LIMIT $2
FOR UPDATE OF s;

-- forget_histories_of_instances (cluster, last)
-- As forget_histories_of_machines.
PREPARE forget_histories_of_instances (text, text[]) AS
WITH gone AS (
    DELETE FROM vm_runtime_history AS h
    USING vm_runtime AS s
    WHERE s.cluster = $1 AND (s.namespace, s.name, s.owner_uid) <= ($2[1], $2[2], $2[3])
      AND h.cluster = $1 AND h.namespace = s.namespace AND h.name = s.name AND h.owner_uid = s.owner_uid
    RETURNING 1
)
SELECT count(*) FROM gone;

-- forget_instances (cluster, last)
-- As forget_machines.
PREPARE forget_instances (text, text[]) AS
WITH gone AS (
    DELETE FROM vm_runtime AS s
    WHERE s.cluster = $1 AND (s.namespace, s.name, s.owner_uid) <= ($2[1], $2[2], $2[3])
    RETURNING 1
)
SELECT count(*) FROM gone;

-- forget_machine_versions (cluster)
-- Deletes, and counts, versions of machines that no state belongs to: the ledger leaves none, a person may have.
PREPARE forget_machine_versions (text) AS
WITH gone AS (DELETE FROM vm_history WHERE cluster = $1 RETURNING 1)
SELECT count(*) FROM gone;

-- forget_instance_versions (cluster)
-- As forget_machine_versions.
PREPARE forget_instance_versions (text) AS
WITH gone AS (DELETE FROM vm_runtime_history WHERE cluster = $1 RETURNING 1)
SELECT count(*) FROM gone;

-- forget_reconciles (cluster)
-- Deletes, and counts, the reconciles of the cluster.
PREPARE forget_reconciles (text) AS
WITH gone AS (DELETE FROM reconcile_runs WHERE cluster = $1 RETURNING 1)
SELECT count(*) FROM gone;

-- lock_days ()
-- Keeps the days from being filled until the transaction ends: a day that is being computed may have the cluster still.
LOCK TABLE fleet_days IN SHARE ROW EXCLUSIVE MODE;

-- forget_others (cluster)
-- Deletes, and counts, what is left: the cluster itself, when it was heard, what a reconcile or a prune that broke off
-- left, and its days.
PREPARE forget_others (text) AS
WITH heard AS (
    DELETE FROM ledger_heard WHERE cluster = $1 RETURNING 1
), seen AS (
    DELETE FROM reconcile_seen WHERE cluster = $1 RETURNING 1
), counted AS (
    DELETE FROM fleet_days WHERE cluster = $1 RETURNING 1
), due AS (
    DELETE FROM prune_due WHERE cluster = $1 RETURNING 1
), known AS (
    DELETE FROM clusters WHERE cluster = $1 RETURNING 1
)
SELECT (SELECT count(*) FROM heard) + (SELECT count(*) FROM seen) + (SELECT count(*) FROM counted)
       + (SELECT count(*) FROM due) + (SELECT count(*) FROM known);
