-- Positions that an operator sets: told in the history, accounted for in the books, and by nobody else.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- ---------------------------------------------------------------- the books

-- First of all: whoever writes holds a lock on this table for as long as the transaction lasts, so nobody is in the middle of one from here on.
-- squawk-ignore ban-drop-constraint -- its successor comes with the next statement
ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check,
    ADD COLUMN reread bigint NOT NULL DEFAULT 0 CONSTRAINT consumer_position_reread_check CHECK (reread >= 0);
-- squawk-ignore constraint-missing-not-valid -- a row a partition, and the lock is there already
ALTER TABLE audit.consumer_position ADD CONSTRAINT consumer_position_books_check CHECK (
    next_offset - first_offset + reread = written + duplicates + quarantined + tombstones + skipped + expired
);

COMMENT ON COLUMN audit.consumer_position.reread IS
    'Offsets that count twice, since an operator set the position back and they are read again; 0 where nobody did.';
COMMENT ON COLUMN audit.consumer_position.expired IS
    'Offsets that were never read: Kafka removed them before, or an operator set the position past them; see source_gap and position_move.';
COMMENT ON TABLE audit.source_gap IS
    'Ranges of offsets, next_offset exclusive, that Kafka removed before they were read, or that an operator passed over.';

-- ---------------------------------------------------------------- the history

-- squawk-ignore ban-drop-constraint, constraint-missing-not-valid -- one more word is allowed; the table is small
ALTER TABLE audit.operation_history DROP CONSTRAINT operation_history_action_check, ADD CONSTRAINT operation_history_action_check CHECK (
    action IN (
        'export began', 'export completed', 'export failed',
        'hold added', 'hold released',
        'retention changed', 'removal began', 'month removed', 'month kept',
        'position set'
    )
);

CREATE VIEW audit.position_move AS
SELECT
    id,
    at,
    who,
    database_role,
    detail ->> 'topic' AS kafka_topic,
    detail ->> 'topic_id' AS kafka_topic_id,
    (detail ->> 'partition')::integer AS kafka_partition,
    (detail ->> 'from')::bigint AS from_offset,
    (detail ->> 'to')::bigint AS to_offset,
    (detail ->> 'reread')::bigint AS reread,
    detail ->> 'note' AS note
FROM audit.operation_history
WHERE action = 'position set';

COMMENT ON VIEW audit.position_move IS 'Positions that an operator set: from where (null: there was none) to where, who and why.';

-- Sets a position from where the operator saw it; null where it is somewhere else by now, and nothing is changed. So it may be called while
-- workers run: one that holds the partition finds its next write fenced, and goes on from the new position.
CREATE FUNCTION audit.set_position(
    topic text, topic_id text, number integer, expected bigint, target bigint, who text, note text, source text
) RETURNS bigint
LANGUAGE plpgsql
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
AS $$
DECLARE
    books audit.consumer_position%ROWTYPE;
    again bigint := 0;
    entry bigint;
BEGIN
    IF coalesce(note !~ '\S', true) OR coalesce(target < 0, true) OR target = expected THEN
        RAISE EXCEPTION 'a position is set to another offset, for a reason' USING ERRCODE = 'invalid_parameter_value';
    END IF;
    IF expected IS NULL THEN
        INSERT INTO audit.consumer_position (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)
        VALUES (topic, topic_id, number, target, target) ON CONFLICT DO NOTHING;
        IF NOT FOUND THEN
            RETURN NULL;
        END IF;
    ELSE
        SELECT * INTO books FROM audit.consumer_position AS position
        WHERE position.kafka_topic = topic AND position.kafka_topic_id = topic_id AND position.kafka_partition = number
        FOR UPDATE;
        IF books.next_offset IS DISTINCT FROM expected THEN
            RETURN NULL;
        END IF;
        again := greatest(expected - greatest(target, books.first_offset), 0);
        UPDATE audit.consumer_position AS position
        SET first_offset = least(first_offset, target),
            next_offset = target,
            expired = expired + greatest(target - expected, 0),
            reread = reread + again,
            updated_at = now()
        WHERE position.kafka_topic = topic AND position.kafka_topic_id = topic_id AND position.kafka_partition = number;
        IF target > expected THEN
            INSERT INTO audit.source_gap (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)
            VALUES (topic, topic_id, number, expected, target);
        END IF;
    END IF;
    INSERT INTO audit.operation_history (who, action, detail)
    VALUES (who, 'position set', jsonb_build_object(
        'topic', topic, 'topic_id', topic_id, 'partition', number, 'from', expected, 'to', target, 'reread', again, 'note', note,
        'source', source
    ))
    RETURNING id INTO entry;
    RETURN entry;
END
$$;

-- ---------------------------------------------------------------- the metrics

-- As before, but for what is read again: it counts twice, and until then it lies beyond the position.
CREATE OR REPLACE FUNCTION audit.log_state(
    OUT quarantine_open bigint, OUT books_unbalanced bigint, OUT months_ahead integer, OUT oldest_month timestamptz
)
LANGUAGE sql
STABLE
SECURITY DEFINER
SET search_path = pg_catalog, pg_temp
SET timezone = 'UTC'
AS $$
    SELECT
        (SELECT count(*) FROM (SELECT FROM audit.quarantine WHERE status = 'open' ORDER BY id LIMIT 10000) AS open),
        (
            SELECT count(*)
            FROM audit.consumer_position AS position
            LEFT JOIN (
                SELECT kafka_topic, kafka_topic_id, kafka_partition, sum(next_offset - first_offset) AS offsets
                FROM audit.source_gap GROUP BY 1, 2, 3
            ) AS gap USING (kafka_topic, kafka_topic_id, kafka_partition)
            CROSS JOIN LATERAL (
                SELECT count(*) AS messages FROM (
                    SELECT FROM audit.quarantine AS message
                    WHERE message.kafka_topic = position.kafka_topic AND message.kafka_topic_id = position.kafka_topic_id
                      AND message.kafka_partition = position.kafka_partition
                    ORDER BY message.kafka_offset LIMIT 100
                ) AS bounded
            ) AS found
            WHERE next_offset - first_offset + reread <> written + duplicates + quarantined + tombstones + skipped + expired
               OR least(written, duplicates, quarantined, tombstones, skipped, expired) < 0
               OR expired <> coalesce(gap.offsets, 0)
               OR found.messages NOT BETWEEN least(quarantined - reread, 100) AND least(quarantined, 100)
               OR next_offset + reread <= (
                    SELECT max(message.kafka_offset) FROM audit.quarantine AS message
                    WHERE message.kafka_topic = position.kafka_topic AND message.kafka_topic_id = position.kafka_topic_id
                      AND message.kafka_partition = position.kafka_partition
               )
        ),
        (
            SELECT (coalesce(min(ahead), 13) - 1)::integer FROM generate_series(0, 12) AS ahead
            WHERE NOT audit.has_month((date_trunc('month', now()) + ahead * interval '1 month')::date)
        ),
        (
            SELECT min(to_timestamp(right(relname::text, 7), 'YYYY_MM')) FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
            WHERE inhparent = 'audit.audit_log'::regclass AND NOT inhdetachpending AND relname ~ '^audit_log_\d{4}_\d\d$'
        )
$$;

-- ---------------------------------------------------------------- rights

REVOKE ALL ON FUNCTION audit.set_position(text, text, integer, bigint, bigint, text, text, text) FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.set_position(text, text, integer, bigint, bigint, text, text, text) TO audit_operator;
GRANT SELECT ON audit.position_move TO audit_reader, audit_operator;

-- By column: where a position begins, and what is read again, is only set by the function, which tells it.
REVOKE INSERT, UPDATE ON audit.consumer_position FROM audit_writer, audit_operator;
GRANT INSERT (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset) ON audit.consumer_position
    TO audit_writer, audit_operator;
GRANT UPDATE (next_offset, written, duplicates, quarantined, tombstones, skipped, expired, updated_at) ON audit.consumer_position
    TO audit_writer, audit_operator;

-- When a row was recorded, and what became of a message in quarantine, is not for whoever brings it to say.
REVOKE INSERT ON audit.audit_log, audit.quarantine, audit.source_gap FROM audit_writer, audit_operator;
GRANT INSERT (
    event_id, occurred_at, tenant, level, service, login_name, module, action, result, error_code, complement, subject_type, source_ip,
    kafka_topic, kafka_partition, kafka_offset, content_hash, source_bytes
) ON audit.audit_log TO audit_writer, audit_operator;
GRANT INSERT (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, key, value, headers) ON audit.quarantine
    TO audit_writer, audit_operator;
GRANT INSERT (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset) ON audit.source_gap TO audit_writer, audit_operator;
