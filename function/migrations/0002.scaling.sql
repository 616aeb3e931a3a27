-- The notices about scaling: what was sent, and what is being sent, so that each occurrence is told once.
-- depends: 0001.ledger

-- occurrence and topic are digests (function/scaling/hpa.py): of one occurrence, and of its HPA and reason.
-- state: claimed, while one of the processes sends it; notified; throttled, because another of its topic was just sent.
-- A claim is owned by whoever knows its number; one that died is free again a minute after claimed_at.
-- Rows are of no use once expires_at has passed, and each claim removes some of these.
CREATE TABLE scaling_notices (
    occurrence  text COLLATE "C" PRIMARY KEY,
    topic       text COLLATE "C" NOT NULL,
    state       text NOT NULL CHECK (state IN ('claimed', 'notified', 'throttled')),
    claim       text NOT NULL,
    claimed_at  timestamptz NOT NULL,
    sent_at     timestamptz,
    expires_at  timestamptz NOT NULL
);

CREATE INDEX scaling_notices_topic ON scaling_notices (topic);
CREATE INDEX scaling_notices_expires_at ON scaling_notices (expires_at);

COMMENT ON TABLE scaling_notices IS 'One row for each occurrence of scaling that was sent to a webhook, or is being sent.';
