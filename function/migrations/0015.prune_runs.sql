-- When the history was pruned, for the metrics: a prune that does not run leaves nothing else to see.
-- depends: 0010.health_of_many

CREATE TABLE prune_runs (
    run         bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    ended_at    timestamptz NOT NULL DEFAULT now(),
    old         bigint NOT NULL,
    redundant   bigint NOT NULL
);

COMMENT ON TABLE prune_runs IS 'One row for each prune that came to its end, dry runs left out.';
COMMENT ON COLUMN prune_runs.old IS 'Versions that it dropped because of their age; redundant: because they said nothing new.';
