-- What every session with Postgres begins with, and how it waits.

-- apply_settings (settings)
-- Sets what the session needs, from a JSON object of settings by name, whatever the server's defaults.
-- synchronous_commit changes only where it is off, because acknowledged events could be lost then; its other values are
-- the operator's choice. Citus' coordinator ends where an INSERT ... SELECT on its tables is planned without values.
PREPARE apply_settings (json) AS
SELECT set_config(name, setting, false)
FROM json_each_text($1) AS needed (name, setting)
WHERE CASE name
    WHEN 'synchronous_commit' THEN current_setting(name) = 'off'
    WHEN 'plan_cache_mode' THEN NOT EXISTS (SELECT FROM pg_extension WHERE extname = 'citus')
    ELSE true
END;

-- wait_for_locks (limit)
-- Lets the session's statements wait so long for a lock from now on.
PREPARE wait_for_locks (text) AS
SELECT set_config('lock_timeout', $1, false);

-- lock_number (key)
-- Takes an advisory lock until the session ends; returns whether it was free.
PREPARE lock_number (bigint) AS
SELECT pg_try_advisory_lock($1);

-- lock_name (key)
-- As lock_number, for a key that is a text.
PREPARE lock_name (text) AS
SELECT pg_try_advisory_lock(hashtextextended($1, 0));

-- unlock ()
-- Gives back the advisory locks of the session.
PREPARE unlock AS
SELECT pg_advisory_unlock_all();
