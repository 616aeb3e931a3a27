-- The fleet as it was: what fleet.sql has, of the VMs that lived at a moment.

-- end_of_stretch (down, after_cluster, after_namespace, after_name, machines)
-- Returns the VM that is so many after another one, or after the beginning, by cluster, namespace and name; no row
-- where fewer are left.
PREPARE end_of_stretch (boolean, text, text, text, integer) AS
SELECT s.cluster, s.namespace, s.name
FROM vm_state AS s
WHERE CASE
    WHEN $4 IS NULL THEN true
    WHEN $1 THEN (s.cluster, s.namespace, s.name) < ($2, $3, $4)
    ELSE (s.cluster, s.namespace, s.name) > ($2, $3, $4)
END
ORDER BY CASE WHEN NOT $1 THEN s.cluster END, CASE WHEN $1 THEN s.cluster END DESC,
         CASE WHEN NOT $1 THEN s.namespace END, CASE WHEN $1 THEN s.namespace END DESC,
         CASE WHEN NOT $1 THEN s.name END, CASE WHEN $1 THEN s.name END DESC
OFFSET $5 - 1 LIMIT 1;

-- list_past_fleet (at, clusters, namespaces, statuses, phases, nodes, guest_oses, instancetypes,
-- owners, words, name_words, namespace_words, node_words, address_words, labels, label_keys,
-- sort, down, missing_text, missing_number, after_text, after_number, after_cluster, after_namespace, after_name,
-- last_cluster, last_namespace, last_name, most)
-- As list_fleet, of the VMs that lived at a moment; last: none beyond that one, in the order by cluster.
PREPARE list_past_fleet (
    timestamptz, text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], text[],
    text[], text[], text[], text, boolean, text, bigint, text, bigint, text, text, text, text, text, text, integer
) AS
WITH asked AS NOT MATERIALIZED (
    SELECT $1 AS at, $2 AS clusters, $3 AS namespaces, $4 AS statuses, $5 AS phases, $6 AS nodes, $7 AS guest_oses,
           $8 AS instancetypes, $9 AS owners, $10 AS words, $11 AS name_words, $12 AS namespace_words,
           $13 AS node_words, $14 AS address_words, $15::jsonb[] AS labels, $16 AS label_keys,
           $17 AS sort, $18 AS down, $19 AS missing_text, $20 AS missing_number,
           $21 AS after_text, $22 AS after_number, $23 AS after_cluster, $24 AS after_namespace, $25 AS after_name,
           $26 AS last_cluster, $27 AS last_namespace, $28 AS last_name
), found AS NOT MATERIALIZED (
    SELECT v.cluster, v.namespace, v.name,
           CASE asked.sort
               WHEN 'name' THEN v.name
               WHEN 'namespace' THEN v.namespace
               WHEN 'status' THEN coalesce(v.status, asked.missing_text)
               WHEN 'phase' THEN coalesce(v.phase, asked.missing_text)
               WHEN 'node' THEN coalesce(v.node, asked.missing_text)
               WHEN 'guest_os' THEN coalesce(v.guest_os, asked.missing_text)
               WHEN 'instancetype' THEN coalesce(v.instancetype, asked.missing_text)
               WHEN 'owner' THEN coalesce(v.owner, asked.missing_text)
               WHEN 'run_strategy' THEN coalesce(v.run_strategy, asked.missing_text)
               ELSE ''
           END COLLATE "C" AS text_key,
           CASE asked.sort
               WHEN 'vcpus' THEN coalesce(v.vcpus, asked.missing_number)
               WHEN 'memory' THEN coalesce(v.memory_bytes, asked.missing_number)
               WHEN 'disk' THEN coalesce(v.disk_bytes, asked.missing_number)
               WHEN 'created' THEN coalesce((extract(epoch FROM v.created_at) * 1000000)::bigint, asked.missing_number)
               WHEN 'updated' THEN coalesce((extract(epoch FROM v.updated_at) * 1000000)::bigint, asked.missing_number)
               ELSE 0
           END AS number_key
    FROM asked CROSS JOIN LATERAL virtual_machines_at(asked.at) AS v
    WHERE (asked.clusters IS NULL OR v.cluster = ANY (asked.clusters))
      AND (asked.namespaces IS NULL OR v.namespace = ANY (asked.namespaces))
      AND (asked.statuses IS NULL OR coalesce(v.status, '') = ANY (asked.statuses))
      AND (asked.phases IS NULL OR coalesce(v.phase, '') = ANY (asked.phases))
      AND (asked.nodes IS NULL OR coalesce(v.node, '') = ANY (asked.nodes))
      AND (asked.guest_oses IS NULL OR coalesce(v.guest_os, '') = ANY (asked.guest_oses))
      AND (asked.instancetypes IS NULL OR coalesce(v.instancetype, '') = ANY (asked.instancetypes))
      AND (asked.owners IS NULL OR coalesce(v.owner, '') = ANY (asked.owners))
      AND (asked.name_words IS NULL OR lower(v.name) LIKE ALL (asked.name_words))
      AND (asked.namespace_words IS NULL OR lower(v.namespace) LIKE ALL (asked.namespace_words))
      AND (asked.node_words IS NULL OR lower(v.node COLLATE "C") LIKE ALL (asked.node_words))
      AND (asked.address_words IS NULL OR lower(v.ip_addresses::text COLLATE "C") LIKE ALL (asked.address_words))
      AND (asked.labels IS NULL OR v.labels @> ALL (asked.labels))
      AND (asked.label_keys IS NULL OR v.labels ?& asked.label_keys)
      AND (asked.words IS NULL OR lower(concat_ws(
          E'\n', v.name, v.namespace, v.node, v.ip_addresses::text, v.labels::text
      ) COLLATE "C") LIKE ALL (asked.words))
), page AS MATERIALIZED (
    SELECT v.*
    FROM asked CROSS JOIN found AS v
    WHERE CASE
        WHEN asked.after_name IS NULL THEN true
        WHEN asked.sort = 'cluster' AND asked.down
            THEN (v.cluster, v.namespace, v.name) < (asked.after_cluster, asked.after_namespace, asked.after_name)
        WHEN asked.sort = 'cluster'
            THEN (v.cluster, v.namespace, v.name) > (asked.after_cluster, asked.after_namespace, asked.after_name)
        WHEN asked.down THEN (v.text_key, v.number_key, v.cluster, v.namespace, v.name) < (
                asked.after_text, asked.after_number, asked.after_cluster, asked.after_namespace, asked.after_name
            )
        ELSE (v.text_key, v.number_key, v.cluster, v.namespace, v.name) > (
                asked.after_text, asked.after_number, asked.after_cluster, asked.after_namespace, asked.after_name
            )
    END AND CASE
        WHEN asked.last_name IS NULL THEN true
        WHEN asked.down
            THEN (v.cluster, v.namespace, v.name) >= (asked.last_cluster, asked.last_namespace, asked.last_name)
        ELSE (v.cluster, v.namespace, v.name) <= (asked.last_cluster, asked.last_namespace, asked.last_name)
    END
    ORDER BY CASE WHEN NOT asked.down THEN v.text_key END, CASE WHEN asked.down THEN v.text_key END DESC,
             CASE WHEN NOT asked.down THEN v.number_key END, CASE WHEN asked.down THEN v.number_key END DESC,
             CASE WHEN NOT asked.down THEN v.cluster END, CASE WHEN asked.down THEN v.cluster END DESC,
             CASE WHEN NOT asked.down THEN v.namespace END, CASE WHEN asked.down THEN v.namespace END DESC,
             CASE WHEN NOT asked.down THEN v.name END, CASE WHEN asked.down THEN v.name END DESC
    LIMIT $29
)
SELECT v.cluster, v.namespace, v.name, v.status, v.phase, v.node, v.guest_os, v.instancetype, v.vcpus, v.memory_bytes,
       v.disk_bytes, v.disks, v.ip_addresses, v.run_strategy, v.cpu_source, v.memory_source, v.storageclass, v.network,
       v.preference, v.os, v.architecture, v.machine_type, v.labels, v.owner, v.uid, v.created_at, v.updated_at,
       p.text_key, p.number_key
FROM asked CROSS JOIN page AS p
CROSS JOIN LATERAL (
    SELECT * FROM virtual_machines_at(asked.at) AS v
    WHERE v.cluster = p.cluster AND v.namespace = p.namespace AND v.name = p.name
    LIMIT 1
) AS v
ORDER BY CASE WHEN NOT asked.down THEN p.text_key END, CASE WHEN asked.down THEN p.text_key END DESC,
         CASE WHEN NOT asked.down THEN p.number_key END, CASE WHEN asked.down THEN p.number_key END DESC,
         CASE WHEN NOT asked.down THEN p.cluster END, CASE WHEN asked.down THEN p.cluster END DESC,
         CASE WHEN NOT asked.down THEN p.namespace END, CASE WHEN asked.down THEN p.namespace END DESC,
         CASE WHEN NOT asked.down THEN p.name END, CASE WHEN asked.down THEN p.name END DESC;

-- count_past_fleet (at, clusters, namespaces, statuses, phases, nodes, guest_oses, instancetypes,
-- owners, words, name_words, namespace_words, node_words, address_words, labels, label_keys, most)
-- As count_fleet, of the VMs that lived at a moment.
PREPARE count_past_fleet (
    timestamptz, text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], text[], text[],
    text[], text[], text[], integer
) AS
WITH asked AS NOT MATERIALIZED (
    SELECT $1 AS at, $2 AS clusters, $3 AS namespaces, $4 AS statuses, $5 AS phases, $6 AS nodes, $7 AS guest_oses,
           $8 AS instancetypes, $9 AS owners, $10 AS words, $11 AS name_words, $12 AS namespace_words,
           $13 AS node_words, $14 AS address_words, $15::jsonb[] AS labels, $16 AS label_keys
), found AS NOT MATERIALIZED (
    SELECT v.cluster, v.namespace, v.status, v.phase, v.node, v.guest_os, v.instancetype, v.vcpus, v.memory_bytes,
           v.disk_bytes
    FROM asked CROSS JOIN LATERAL virtual_machines_at(asked.at) AS v
    WHERE (asked.clusters IS NULL OR v.cluster = ANY (asked.clusters))
      AND (asked.namespaces IS NULL OR v.namespace = ANY (asked.namespaces))
      AND (asked.statuses IS NULL OR coalesce(v.status, '') = ANY (asked.statuses))
      AND (asked.phases IS NULL OR coalesce(v.phase, '') = ANY (asked.phases))
      AND (asked.nodes IS NULL OR coalesce(v.node, '') = ANY (asked.nodes))
      AND (asked.guest_oses IS NULL OR coalesce(v.guest_os, '') = ANY (asked.guest_oses))
      AND (asked.instancetypes IS NULL OR coalesce(v.instancetype, '') = ANY (asked.instancetypes))
      AND (asked.owners IS NULL OR coalesce(v.owner, '') = ANY (asked.owners))
      AND (asked.name_words IS NULL OR lower(v.name) LIKE ALL (asked.name_words))
      AND (asked.namespace_words IS NULL OR lower(v.namespace) LIKE ALL (asked.namespace_words))
      AND (asked.node_words IS NULL OR lower(v.node COLLATE "C") LIKE ALL (asked.node_words))
      AND (asked.address_words IS NULL OR lower(v.ip_addresses::text COLLATE "C") LIKE ALL (asked.address_words))
      AND (asked.labels IS NULL OR v.labels @> ALL (asked.labels))
      AND (asked.label_keys IS NULL OR v.labels ?& asked.label_keys)
      AND (asked.words IS NULL OR lower(concat_ws(
          E'\n', v.name, v.namespace, v.node, v.ip_addresses::text, v.labels::text
      ) COLLATE "C") LIKE ALL (asked.words))
), counted AS (
    SELECT grouping(v.cluster, v.namespace, v.status, v.phase, v.node, v.guest_os, v.instancetype) AS facet,
           coalesce(v.cluster, v.namespace, v.status, v.phase, v.node, v.guest_os, v.instancetype, '') AS value,
           count(*) AS machines,
           count(*) FILTER (WHERE coalesce(v.phase, v.status) = 'Running') AS running,
           sum(v.vcpus) AS vcpus, sum(v.memory_bytes) AS memory_bytes, sum(v.disk_bytes) AS disk_bytes
    FROM found AS v
    GROUP BY GROUPING SETS (
        (), (v.cluster), (v.namespace), (v.status), (v.phase), (v.node), (v.guest_os), (v.instancetype)
    )
), ranked AS (
    SELECT *, row_number() OVER (PARTITION BY facet ORDER BY machines DESC, value) AS place,
           count(*) OVER (PARTITION BY facet) AS kinds
    FROM counted
)
SELECT CASE facet
           WHEN 63 THEN 'cluster'
           WHEN 95 THEN 'namespace'
           WHEN 111 THEN 'status'
           WHEN 119 THEN 'phase'
           WHEN 123 THEN 'node'
           WHEN 125 THEN 'guest_os'
           WHEN 126 THEN 'instancetype'
       END AS facet,
       value, machines, kinds, running, vcpus, memory_bytes, disk_bytes
FROM ranked
WHERE place <= $17
ORDER BY facet DESC, place;
