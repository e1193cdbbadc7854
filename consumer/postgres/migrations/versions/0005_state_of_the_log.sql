-- What an operator must see of the log while it runs: every worker asks for it some times a minute, so it must be cheap however long the log is.
-- Runs as audit_owner, so every object is its own.

-- What waits behind a lock of a running worker gives up instead of stopping it.
SET LOCAL lock_timeout = '30s';
SET LOCAL statement_timeout = '5min';

-- Nearly all of the quarantine is settled one day, and what is open must be found at once. A transaction knows no CONCURRENTLY; the
-- quarantine is small beside the log.
-- squawk-ignore require-concurrent-index-creation
CREATE INDEX quarantine_open_idx ON audit.quarantine (id) WHERE status = 'open';

-- Counts nothing without a bound: of open messages the first 10,000, of a partition's quarantined ones the first 100. What takes a look at
-- every row is `reconcile`'s. In the order of an index each, so that no estimate can tempt the planner to walk over the whole table.
CREATE FUNCTION audit.log_state(
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
            WHERE next_offset - first_offset <> written + duplicates + quarantined + tombstones + skipped + expired
               OR least(written, duplicates, quarantined, tombstones, skipped, expired) < 0
               OR expired <> coalesce(gap.offsets, 0)
               OR least(quarantined, 100) <> found.messages
               OR next_offset <= (
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

COMMENT ON FUNCTION audit.log_state() IS
    'For the metrics: open messages in quarantine (10000: so many or more), partitions whose books do not add up,'
    ' whole months made after the current one (-1: not even that one is there), and where the oldest month begins.';

REVOKE ALL ON FUNCTION audit.log_state() FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit.log_state() TO audit_writer, audit_operator;
