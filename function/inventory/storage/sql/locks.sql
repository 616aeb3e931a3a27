-- What a writer asks once it has waited for a lock of another transaction: whose rows are locked?
-- The normal path asks none of this. Nothing here waits for a row.

-- reach_tables ()
-- Takes the table locks that writers of both kinds take, in ROW EXCLUSIVE MODE as they do: where one of the tables is
-- locked as a whole, it waits, and so tells that from a locked row. The histories' months are not locked here, because
-- somebody may work on an old one while events go into another.
LOCK TABLE ONLY vm_state, ONLY vm_runtime, ONLY vm_history, ONLY vm_runtime_history, ONLY ledger_heard
IN ROW EXCLUSIVE MODE;

-- not_free_machines (rows)
-- Returns the keys of those machines of some changes whose row of vm_state cannot be locked now, and whether that is
-- because another transaction has locked it; otherwise there is none, or one that another transaction has not
-- committed.
-- Takes the same row locks as lock_machines, but skips what is locked instead of waiting for it.
PREPARE not_free_machines (json) AS
WITH asked AS MATERIALIZED (
    SELECT DISTINCT cluster, namespace, name
    FROM json_to_recordset($1) AS r (cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C")
), free AS MATERIALIZED (
    SELECT s.cluster, s.namespace, s.name
    FROM asked AS r
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    FOR NO KEY UPDATE OF s SKIP LOCKED
)
SELECT r.cluster, r.namespace, r.name, s.cluster IS NOT NULL
FROM asked AS r
LEFT JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
WHERE NOT EXISTS (
    SELECT FROM free WHERE free.cluster = r.cluster AND free.namespace = r.namespace AND free.name = r.name
);

-- not_free_instances (rows)
-- As not_free_machines for instances: where the row of vm_runtime, or the row of their machine, cannot be locked. A
-- machine that there is not is not waited for.
PREPARE not_free_instances (json) AS
WITH asked AS MATERIALIZED (
    SELECT DISTINCT cluster, namespace, name, owner_uid
    FROM json_to_recordset($1) AS r (
        cluster text COLLATE "C", namespace text COLLATE "C", name text COLLATE "C", owner_uid text COLLATE "C"
    )
), free AS MATERIALIZED (
    SELECT i.cluster, i.namespace, i.name, i.owner_uid
    FROM asked AS r
    JOIN vm_runtime AS i
        ON i.cluster = r.cluster AND i.namespace = r.namespace AND i.name = r.name AND i.owner_uid = r.owner_uid
    FOR NO KEY UPDATE OF i SKIP LOCKED
), free_machines AS MATERIALIZED (
    SELECT s.cluster, s.namespace, s.name
    FROM (SELECT DISTINCT cluster, namespace, name FROM asked) AS r
    JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
    FOR NO KEY UPDATE OF s SKIP LOCKED
), found AS (
    SELECT r.*, i.cluster IS NOT NULL AS is_there,
           EXISTS (
               SELECT FROM free
               WHERE free.cluster = r.cluster AND free.namespace = r.namespace AND free.name = r.name
                 AND free.owner_uid = r.owner_uid
           ) AS is_free,
           s.cluster IS NULL OR EXISTS (
               SELECT FROM free_machines AS free
               WHERE free.cluster = r.cluster AND free.namespace = r.namespace AND free.name = r.name
           ) AS is_machine_free
    FROM asked AS r
    LEFT JOIN vm_runtime AS i
        ON i.cluster = r.cluster AND i.namespace = r.namespace AND i.name = r.name AND i.owner_uid = r.owner_uid
    LEFT JOIN vm_state AS s ON s.cluster = r.cluster AND s.namespace = r.namespace AND s.name = r.name
)
SELECT cluster, namespace, name, owner_uid, is_there OR NOT is_machine_free
FROM found
WHERE NOT (is_free AND is_machine_free);
