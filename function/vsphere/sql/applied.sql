-- Which event was applied last to each host (vsphere_applied), and whose turn a host is (vsphere_turns).

-- claim_host (host, owner, seconds)
-- Takes the turn of a host for so many seconds, where nobody has it or its time is over; returns a row if it was taken.
-- now is the value of the row that is inserted less its length: Citus takes no function where a conflict is resolved.
PREPARE claim_host (text, text, double precision) AS
INSERT INTO vsphere_turns AS held (host, owner, until)
VALUES ($1, $2, now() + $3 * interval '1 second')
ON CONFLICT (host) DO UPDATE SET owner = excluded.owner, until = excluded.until
WHERE held.until < excluded.until - $3 * interval '1 second' OR held.owner = excluded.owner
RETURNING true;

-- release_host (host, owner)
-- Gives the turn back, if the owner still has it.
PREPARE release_host (text, text) AS
DELETE FROM vsphere_turns WHERE host = $1 AND owner = $2;

-- newest_applied (resource)
-- Returns the newest event that was applied to a resource of Operations.
PREPARE newest_applied (text) AS
SELECT vcenter, event_key, event_time, event_number FROM vsphere_applied WHERE resource = $1;

-- record_applied (resource, host, action, vcenter, key, time, number)
-- Keeps an event as the newest that was applied, unless a newer one is there: a late repetition never goes back.
PREPARE record_applied (text, text, text, text, text, timestamptz, bigint) AS
INSERT INTO vsphere_applied AS known (resource, host, action, vcenter, event_key, event_time, event_number, applied_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, now())
ON CONFLICT (resource) DO UPDATE
SET host = excluded.host, action = excluded.action, vcenter = excluded.vcenter, event_key = excluded.event_key,
    event_time = excluded.event_time, event_number = excluded.event_number, applied_at = excluded.applied_at
WHERE (known.event_time, known.event_number) <= (excluded.event_time, excluded.event_number);
