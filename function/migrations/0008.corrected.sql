-- What a reconcile corrects: versions that the API server's list proves to be untrue.
-- depends: 0007.scaling_rate

ALTER TABLE reconcile_runs ADD COLUMN corrected bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN reconcile_runs.corrected IS 'Objects of which the ledger had a version that the list proved untrue.';
