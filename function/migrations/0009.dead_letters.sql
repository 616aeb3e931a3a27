-- The dead letters, kept to be looked at and to be sent again.
-- depends: 0008.corrected

CREATE TABLE dead_letters (
    number       bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    key          text COLLATE "C" NOT NULL UNIQUE,
    delivery     text NOT NULL,
    count        integer NOT NULL,
    first_at     timestamptz NOT NULL,
    last_at      timestamptz NOT NULL,
    destination  text,
    code         integer,
    sentence     text,
    event_id     text,
    source       text,
    type         text,
    -- json, not jsonb: that cannot hold every text that JSON can.
    attributes   json NOT NULL,
    data         json,
    data_base64  text,
    form         text NOT NULL CHECK (form IN ('trimmed', 'masked', 'cut', 'broken')),
    replayed_at  timestamptz
);

CREATE INDEX dead_letters_last ON dead_letters (last_at, number);
CREATE INDEX dead_letters_waiting ON dead_letters (first_at, number) WHERE replayed_at IS NULL;

COMMENT ON TABLE dead_letters IS 'Events that were refused for good, as the dead letter sink received them; no secrets.';
COMMENT ON COLUMN dead_letters.key IS 'A digest of the event''s source and id: one event is one row.';
COMMENT ON COLUMN dead_letters.delivery IS 'Which delivery the row says; written twice, it is counted once.';
COMMENT ON COLUMN dead_letters.first_at IS 'When the sink received the event first; last_at, when it did last.';
COMMENT ON COLUMN dead_letters.count IS 'How often the event was received.';
COMMENT ON COLUMN dead_letters.destination IS 'The URL of who gave the last answer; NULL where Knative does not say.';
COMMENT ON COLUMN dead_letters.code IS 'The status of that answer.';
COMMENT ON COLUMN dead_letters.sentence IS 'What that answer says.';
COMMENT ON COLUMN dead_letters.data IS 'Trimmed to what the ledger reads, or masked; NULL where there are none, or bytes.';
COMMENT ON COLUMN dead_letters.form IS
    'trimmed: what the ledger reads. masked: all, without secrets. cut: not all. broken: not a CloudEvent.'
    ' The first two can be replayed.';
COMMENT ON COLUMN dead_letters.replayed_at IS 'When a replay handled the event; NULL where it waits for one.';
