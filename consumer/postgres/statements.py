"""The SQL of the write, in the order in which a transaction uses it."""

from consumer.postgres.rows import LEDGER_COLUMNS, LOG_COLUMNS

LOCK_TIMEOUT = 5
"""Seconds to wait for a lock; then whoever holds it is frozen, or in trouble of its own."""

STATEMENT_TIMEOUT = 60
"""Seconds for one statement."""

# One round trip. SET LOCAL and not options of the connection: PgBouncer in transaction mode refuses those.
BEGIN = f"BEGIN; SET LOCAL lock_timeout = '{LOCK_TIMEOUT}s'; SET LOCAL statement_timeout = '{STATEMENT_TIMEOUT}s'"

_SLICES = """unnest(%s::text[], %s::text[], %s::int[], %s::bigint[])
    AS slice (topic, topic_id, number, expected)"""

_SAME_PARTITION = """position.kafka_topic = slice.topic
    AND position.kafka_topic_id = slice.topic_id
    AND position.kafka_partition = slice.number"""

LOCK_POSITIONS = f"""
SELECT position.next_offset = slice.expected
FROM {_SLICES}
JOIN audit.consumer_position AS position ON {_SAME_PARTITION}
ORDER BY position.kafka_topic, position.kafka_topic_id, position.kafka_partition
FOR UPDATE OF position"""  # noqa: S608 - put together from constants

# One parameter instead of eleven arrays: half the time for a batch of one message.
ADVANCE = f"""
UPDATE audit.consumer_position AS position
SET next_offset = slice.next_offset,
    written = position.written + slice.written,
    duplicates = position.duplicates + slice.duplicates,
    quarantined = position.quarantined + slice.quarantined,
    tombstones = position.tombstones + slice.tombstones,
    skipped = position.skipped + slice.skipped,
    expired = position.expired + slice.expired,
    updated_at = now()
FROM json_to_recordset(%s::json)
    AS slice (topic text, topic_id text, number int, expected bigint, next_offset bigint,
              written bigint, duplicates bigint, quarantined bigint, tombstones bigint, skipped bigint, expired bigint)
WHERE {_SAME_PARTITION}
  AND position.next_offset = slice.expected"""  # noqa: S608 - put together from constants

# Who holds the row: its xmax is the transaction that has locked or changed it. No stored pid, which a pooler would make wrong.
END_BLOCKERS = f"""
SELECT count(pg_terminate_backend(lock.pid))
FROM {_SLICES}
JOIN audit.consumer_position AS position ON {_SAME_PARTITION}
JOIN pg_locks AS lock
  ON lock.locktype = 'transactionid' AND lock.transactionid = position.xmax
 AND lock.mode = 'ExclusiveLock' AND lock.granted
WHERE lock.pid <> pg_backend_pid()"""  # noqa: S608 - put together from constants

OPEN_POSITIONS = """
INSERT INTO audit.consumer_position (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)
SELECT topic, topic_id, number, low, low
FROM unnest(%s::text[], %s::text[], %s::int[], %s::bigint[]) AS slice (topic, topic_id, number, low)
ORDER BY topic, topic_id, number
ON CONFLICT DO NOTHING"""

READ_POSITIONS = f"""
SELECT slice.topic, slice.number, slice.topic_id, position.next_offset
FROM {_SLICES}
JOIN audit.consumer_position AS position ON {_SAME_PARTITION}"""  # noqa: S608 - put together from constants

# Null where it is not where it is expected to be: the fence of whoever sets it by hand.
SET_POSITION = "SELECT audit.set_position(%s, %s, %s, %s, %s, %s, %s, %s)"

# Ids as text and as bytes: a UUID object for each of them takes ten times as long.
KNOWN_EVENTS = "SELECT uuid_send(event_id), content_hash FROM audit.event WHERE event_id = ANY(%s::uuid[])"

COPY_LEDGER = f"COPY audit.event ({LEDGER_COLUMNS}) FROM STDIN (FORMAT BINARY)"
COPY_LOG = f"COPY audit.audit_log ({LOG_COLUMNS}) FROM STDIN (FORMAT BINARY)"

# The fence excludes a second quarantine of the same message, but for a position that an operator set back: then it is there already.
QUARANTINE = """
INSERT INTO audit.quarantine
    (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, key, value, headers)
VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s::jsonb)
ON CONFLICT DO NOTHING"""

SOURCE_GAP = """
INSERT INTO audit.source_gap (kafka_topic, kafka_topic_id, kafka_partition, first_offset, next_offset)
VALUES (%s, %s, %s, %s, %s)"""

# Null where retention has removed the month, which is then never made again.
ENSURE_MONTH = "SELECT CASE WHEN NOT audit.is_removed(month) THEN audit.ensure_month(month) END FROM (VALUES (%s::date)) AS asked (month)"

# Its own limit, far below that of a write, which may have to wait for it.
BEGIN_LOOK = "BEGIN READ ONLY; SET LOCAL statement_timeout = '2s'"
LOG_STATE = """
SELECT quarantine_open, books_unbalanced, months_ahead, coalesce(extract(epoch FROM oldest_month), 0)::float8 FROM audit.log_state()"""
