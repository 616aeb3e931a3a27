-- Scaling notices at the rate at which an HPA's controller can send Events, and no faster.
-- depends: 0002.scaling

-- hpa: a digest of the HPA's namespace and name (function/scaling/occurrences.py).
-- counted_at: the time by which the row counts for the rate (function/scaling/rate.py). Rows of before have none and do
-- not count.
-- A new state: released, where sending failed. The row stays, so that the occurrence keeps its place in the rate.
ALTER TABLE scaling_notices
    ADD COLUMN hpa text COLLATE "C",
    ADD COLUMN counted_at timestamptz,
    DROP CONSTRAINT scaling_notices_state_check,
    ADD CONSTRAINT scaling_notices_state_check CHECK (state IN ('claimed', 'released', 'notified', 'throttled'));

CREATE INDEX scaling_notices_rate ON scaling_notices (hpa, counted_at);

CREATE TABLE scaling_excess (
    namespace    text COLLATE "C",
    name         text COLLATE "C",
    occurrences  bigint NOT NULL,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    warned_at    timestamptz NOT NULL,
    PRIMARY KEY (namespace, name)
);

COMMENT ON TABLE scaling_excess IS
    'For each HPA: how many occurrences were more than its controller can have sent, and notified nobody.';
