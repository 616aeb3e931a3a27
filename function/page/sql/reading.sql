-- What every view's transaction begins with.

-- read_one_moment ()
-- Lets the transaction see one moment of the ledger, so that a view's sums agree with its rows, and write nothing.
SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY;
