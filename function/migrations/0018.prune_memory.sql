-- What prune has looked through, so that it looks only at what came since, and at what has become old enough since.
-- depends: 0016.inlined

-- One row for each history; objects: machines or instances, whose history it is. looked_at: when it was looked through
-- last. old, redundant: up to which effective time versions were looked at, for either reason. whole_at: when all of
-- them were.
CREATE TABLE prune_looked (
    objects    text PRIMARY KEY,
    looked_at  timestamptz NOT NULL,
    old        timestamptz NOT NULL,
    redundant  timestamptz NOT NULL,
    whole_at   timestamptz NOT NULL
);
COMMENT ON TABLE prune_looked IS 'What prune has looked through, one row for each history.';

-- The objects that a prune has still to look at; owner_uid is empty for a machine.
CREATE TABLE prune_due (
    objects    text COLLATE "C" NOT NULL,
    cluster    text COLLATE "C" NOT NULL,
    namespace  text COLLATE "C" NOT NULL,
    name       text COLLATE "C" NOT NULL,
    owner_uid  text COLLATE "C" NOT NULL DEFAULT '',
    PRIMARY KEY (objects, cluster, namespace, name, owner_uid)
);
COMMENT ON TABLE prune_due IS 'The objects that a prune has still to look at.';

-- Finds the versions of some days. It summarizes blocks of the table, so an insert writes nothing to it.
CREATE INDEX vm_history_effective ON vm_history USING brin (effective_at)
    WITH (pages_per_range = 32, autosummarize = on);
CREATE INDEX vm_runtime_history_effective ON vm_runtime_history USING brin (effective_at)
    WITH (pages_per_range = 32, autosummarize = on);
