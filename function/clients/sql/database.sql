-- What is asked of the database itself before it is given work, and by readiness.

-- count_migrations (needed)
-- Counts those of some migrations that were applied.
PREPARE count_migrations (text[]) AS
SELECT count(*) FROM _yoyo_migration WHERE migration_id = ANY($1);

-- takes_writes ()
-- Returns whether the server is a standby, and whether transactions are read-only.
PREPARE takes_writes AS
SELECT pg_is_in_recovery(), current_setting('transaction_read_only') = 'on';

-- little_memory ()
-- Leaves the statements of this transaction so little memory that take_room needs the disk.
SET LOCAL work_mem = '64kB';

-- take_room ()
-- Takes some 300 kB of the server's disk for a moment, in a temporary file, and so fails where the disk is full.
-- No function of Postgres tells how much room there is, and a small row still finds some when a table cannot grow.
PREPARE take_room AS
SELECT count(*) FROM generate_series(1, 20000);
