-- What the page sorts and filters by, where the primary key does not help.
-- depends: 0010.health_of_many

-- Names and namespaces of a VM never change, so no update of a row touches these indexes: only a new VM is one entry
-- more in each. An index on what changes (status, node, phase) would be written with every event, and so would one for
-- parts of words (pg_trgm); both are left out, and the page reads the table for these.
CREATE INDEX vm_state_name ON vm_state (name, cluster, namespace);
CREATE INDEX vm_state_namespace ON vm_state (namespace, cluster, name);
