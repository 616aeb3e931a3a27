-- What every view's transaction begins and ends with.

-- begin_reading ()
-- Begins a transaction that sees one moment of the ledger, so that a view's sums agree with its rows, and cannot write.
BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;

-- end_reading ()
-- Ends it.
COMMIT;
