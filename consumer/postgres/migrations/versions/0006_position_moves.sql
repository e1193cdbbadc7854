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
