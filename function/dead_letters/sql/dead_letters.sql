-- The dead letters that are kept: written by the sink, read and marked by the replay.

-- keep_letters (keys, deliveries, counts, first_at, last_at, destinations, codes, sentences, event_ids, sources, types,
-- attributes, data, data_base64, forms)
-- Keeps letters, of which no two have the same key. One that is there already is counted, says what the newest delivery
-- says, and waits for a replay again. A delivery that is kept twice, because nobody knew whether it was committed, is
-- one. The rows are locked in the order of their keys, as each pod of the sink does, so none waits in a circle.
-- The values are arrays, not one JSON text, because Postgres reads no \u0000 out of that.
PREPARE keep_letters (
    text[], text[], integer[], timestamptz[], timestamptz[], text[], integer[], text[], text[], text[], text[], text[],
    text[], text[], text[]
) AS
INSERT INTO dead_letters AS known (
    key, delivery, count, first_at, last_at, destination, code, sentence, event_id, source, type, attributes, data,
    data_base64, form
)
SELECT
    r.key, r.delivery, r.count, r.first_at, r.last_at, r.destination, r.code, r.sentence, r.event_id, r.source, r.type,
    r.attributes::json, r.data::json, r.data_base64, r.form
FROM unnest($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15) AS r (
    key, delivery, count, first_at, last_at, destination, code, sentence, event_id, source, type, attributes, data,
    data_base64, form
)
ORDER BY r.key COLLATE "C"
ON CONFLICT (key) DO UPDATE
SET delivery = excluded.delivery,
    count = known.count + excluded.count,
    last_at = excluded.last_at,
    destination = excluded.destination,
    code = excluded.code,
    sentence = excluded.sentence,
    attributes = excluded.attributes,
    data = excluded.data,
    data_base64 = excluded.data_base64,
    form = excluded.form,
    replayed_at = NULL
WHERE known.delivery <> excluded.delivery;

-- forget_old_letters (days)
-- Removes the letters that did not come again for so many days.
PREPARE forget_old_letters (integer) AS
DELETE FROM dead_letters WHERE last_at < now() - make_interval(days => $1);

-- forget_surplus_letters (most)
-- Removes the oldest letters above a number of them. It reads that many entries of the index dead_letters_last.
PREPARE forget_surplus_letters (integer) AS
DELETE FROM dead_letters
WHERE (last_at, number) <= (
    SELECT last_at, number FROM dead_letters ORDER BY last_at DESC, number DESC OFFSET $1 LIMIT 1
);

-- count_letters (since, codes, event_ids)
-- Counts the letters that wait for a replay: received within so many seconds, with one of the codes, of one of the
-- events; each where it is not NULL.
PREPARE count_letters (double precision, integer[], text[]) AS
SELECT count(*)
FROM dead_letters
WHERE replayed_at IS NULL
  AND ($1 IS NULL OR last_at >= now() - make_interval(secs => $1))
  AND ($2 IS NULL OR code = ANY ($2))
  AND ($3 IS NULL OR event_id = ANY ($3));

-- find_letters (since, codes, event_ids, after_at, after, most)
-- Returns those letters in the order in which they were received first, from the one after a time and a number on.
PREPARE find_letters (double precision, integer[], text[], timestamptz, bigint, integer) AS
SELECT
    number, first_at, event_id, type, last_at, count, destination, code, sentence, attributes::text, data::text,
    data_base64, form
FROM dead_letters
WHERE replayed_at IS NULL
  AND (first_at, number) > ($4, $5)
  AND ($1 IS NULL OR last_at >= now() - make_interval(secs => $1))
  AND ($2 IS NULL OR code = ANY ($2))
  AND ($3 IS NULL OR event_id = ANY ($3))
ORDER BY first_at, number
LIMIT $6;

-- mark_letter (number)
-- Marks a letter whose event was handled.
PREPARE mark_letter (bigint) AS
UPDATE dead_letters SET replayed_at = now() WHERE number = $1;
