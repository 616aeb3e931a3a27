-- The past of one machine costs what one machine costs: a filter on virtual_machines_at reaches the indexes.
-- depends: 0015.prune_runs

-- A function with a setting of its own is run as a whole, and what it returns is filtered afterwards: one machine among
-- a million took 20 seconds. Without one it is planned as part of the query that names it.
ALTER FUNCTION virtual_machines_at(timestamptz) RESET jit;

-- The setting kept Postgres from compiling the query for the estimated cost of a large fleet, which takes longer than it
-- runs. It is the database's now, where the role that migrates may set it and nobody has decided otherwise.
DO $$
BEGIN
    IF EXISTS (
        SELECT FROM pg_database AS d
        WHERE d.datname = current_database() AND pg_has_role(d.datdba, 'USAGE')
          AND NOT EXISTS (
              SELECT FROM pg_db_role_setting AS s
              WHERE s.setdatabase = d.oid AND s.setrole = 0 AND s.setconfig::text LIKE '%jit=%'
          )
    ) THEN
        EXECUTE format('ALTER DATABASE %I SET jit = off', current_database());
    END IF;
END
$$;
