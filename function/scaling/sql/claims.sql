-- The statements of the scaling notices: tables scaling_notices and scaling_excess.
-- To look at one in psql, paste it, then: EXPLAIN EXECUTE forget_notices (50);
-- A claim is one transaction of lock_notices, forget_notices and claim_notice.

-- lock_notices (hpa, topic)
-- Lets the claims of one HPA, and of one topic, take turns until the end of the transaction. It is a statement of its
-- own, because the next one sees only what was committed before it began.
PREPARE lock_notices (text, text) AS
SELECT pg_advisory_xact_lock(hashtextextended($1, 0)), pg_advisory_xact_lock(hashtextextended($2, 0));

-- forget_notices (most)
-- Removes some rows that are of no use any more.
-- Locks those rows, and passes over what another one is removing.
PREPARE forget_notices (integer) AS
WITH excess AS (
    DELETE FROM scaling_excess WHERE last_at < clock_timestamp() - interval '30 days'
)
DELETE FROM scaling_notices WHERE ctid = ANY (ARRAY (
    SELECT ctid FROM scaling_notices WHERE expires_at < clock_timestamp()
    ORDER BY expires_at LIMIT $1 FOR UPDATE SKIP LOCKED
));

-- claim_notice (occurrence, topic, hpa, namespace, name, occurred_at, claim,
--               throttle, lease, kept, burst, refill, latest, quiet)
-- Claims an occurrence, or returns why not: claimed, duplicate, throttled, in flight or implausible; with the last one
-- how many there were of this HPA, and whether it is time for a warning.
--   occurrence, topic, hpa: digests of the occurrence, of its HPA and reason, of its HPA.
--   namespace, name: the HPA. occurred_at: when it happened, as its Event says. claim: the number of this claim.
--   throttle, lease, kept: seconds between two notices of the topic; of a claim; of a row.
--   burst, refill, latest: the rate, see function/scaling/rate.py; seconds.
--   quiet: seconds between two warnings about an HPA.
-- Locks its own row. Reads all rows of the HPA, which are at most 25 and one for each 300 seconds that rows are kept.
PREPARE claim_notice (
    text, text, text, text, text, timestamptz, text, float, float, float, integer, integer, float, float
) AS
WITH clock AS MATERIALIZED (
    SELECT now, CASE WHEN $6 BETWEEN now - $13 * interval '1 second' AND now THEN $6 ELSE now END AS counted_at
    FROM (SELECT clock_timestamp() AS now) AS read_once
), known AS MATERIALIZED (
    SELECT state FROM scaling_notices WHERE occurrence = $1
), ranked AS MATERIALIZED (
    -- rank * refill - time: what it rises by between two rows is how far the rate was used up between them.
    SELECT at, row_number() OVER (ORDER BY at) * $12 - extract(epoch FROM at) AS level
    FROM (
        SELECT counted_at FROM scaling_notices WHERE hpa = $3 AND occurrence <> $1
        UNION ALL
        SELECT counted_at FROM clock
    ) AS counted (at)
), rate AS MATERIALIZED (
    SELECT EXISTS (SELECT FROM known)
        OR max(level) FILTER (WHERE at >= counted_at) - min(level) FILTER (WHERE at <= counted_at)
           <= ($11 - 1) * $12 AS fits
    FROM ranked
    CROSS JOIN clock
), rivals AS MATERIALIZED (
    SELECT coalesce(bool_or(state = 'notified' AND sent_at > now - $8 * interval '1 second'), false) AS delivered,
           coalesce(bool_or(state = 'claimed' AND claimed_at > now - $9 * interval '1 second'), false) AS sending
    FROM scaling_notices
    CROSS JOIN clock
    WHERE $8 > 0 AND topic = $2 AND occurrence <> $1
), claimed AS (
    INSERT INTO scaling_notices AS kept
        (occurrence, topic, hpa, counted_at, state, claim, claimed_at, expires_at)
    SELECT $1, $2, $3, counted_at, CASE WHEN delivered THEN 'throttled' ELSE 'claimed' END, $7, now,
           now + ($8 + $10) * interval '1 second'
    FROM clock
    CROSS JOIN rate
    CROSS JOIN rivals
    WHERE fits AND (delivered OR NOT sending)
    ON CONFLICT (occurrence) DO UPDATE
    SET state = excluded.state, claim = excluded.claim, claimed_at = excluded.claimed_at,
        expires_at = excluded.expires_at
    WHERE kept.claim = excluded.claim
       OR kept.state = 'released'
       OR kept.state = 'claimed' AND kept.claimed_at < excluded.claimed_at - $9 * interval '1 second'
    RETURNING kept.state
), excess AS (
    INSERT INTO scaling_excess AS kept (namespace, name, occurrences, first_at, last_at, warned_at)
    SELECT $4, $5, 1, now, now, now
    FROM clock
    CROSS JOIN rate
    WHERE NOT fits
    ON CONFLICT (namespace, name) DO UPDATE
    SET occurrences = kept.occurrences + 1,
        last_at = excluded.last_at,
        warned_at = CASE WHEN kept.warned_at < excluded.last_at - $14 * interval '1 second'
                         THEN excluded.last_at ELSE kept.warned_at END
    RETURNING kept.occurrences, kept.warned_at = kept.last_at AS warn
)
SELECT CASE WHEN claimed.state IS NOT NULL THEN claimed.state
            WHEN known.state IN ('notified', 'throttled') THEN 'duplicate'
            WHEN excess.occurrences IS NOT NULL THEN 'implausible'
            ELSE 'in flight' END AS answer,
       coalesce(excess.occurrences, 0) AS occurrences,
       coalesce(excess.warn, false) AS warn
FROM clock
LEFT JOIN claimed ON true
LEFT JOIN known ON true
LEFT JOIN excess ON true;

-- mark_notice (occurrence)
-- Remembers that an occurrence was sent, whoever owns the claim by now.
PREPARE mark_notice (text) AS
UPDATE scaling_notices SET state = 'notified', sent_at = clock_timestamp() WHERE occurrence = $1;

-- release_notice (occurrence, claim)
-- Gives a claim back, if it is still the caller's.
PREPARE release_notice (text, text) AS
UPDATE scaling_notices SET state = 'released' WHERE occurrence = $1 AND claim = $2 AND state = 'claimed';
