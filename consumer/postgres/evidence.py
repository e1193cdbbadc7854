"""What the database holds, stretch by stretch, for a comparison with Kafka. Reads only: the role audit_reader is enough.

Rows of the log are looked up by their place through a BRIN index. The planner must not think that it knows better: a sequential scan of
the log for every stretch would take days.
"""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import date

import psycopg

from consumer.core.balance import Position
from consumer.core.events import AuditRecord, Partition
from consumer.core.findings import Finding, Kind, Table
from consumer.core.moves import Move
from consumer.core.reconciling import Known, QuarantinedRow
from consumer.core.stored import StoredRow, stored_row
from consumer.postgres.connection import ConnectionKeeper, Row
from consumer.postgres.failures import as_failure
from consumer.postgres.quarantine import Connect

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL lock_timeout = '30s'; SET LOCAL statement_timeout = "
_STRETCH = f"{_BEGIN} '5min'; SET LOCAL enable_seqscan = off; SET LOCAL enable_hashjoin = off; SET LOCAL enable_mergejoin = off"
_WHOLE = f"{_BEGIN} '6h'"
_PAGE = 1_000

_TIMES = (-62_135_596_800_000_000, 253_402_300_799_999_999)
"""Microseconds of the years 1 to 9999."""

_POSITIONS = """
SELECT kafka_topic, kafka_partition, kafka_topic_id, first_offset, next_offset, written, duplicates, quarantined, tombstones, skipped,
       expired, (
    SELECT coalesce(sum(gap.next_offset - gap.first_offset), 0)::bigint FROM audit.source_gap AS gap
    WHERE (gap.kafka_topic, gap.kafka_topic_id, gap.kafka_partition)
        = (position.kafka_topic, position.kafka_topic_id, position.kafka_partition)),
       reread, ARRAY(
    SELECT ARRAY[move.id, move.from_offset, move.to_offset, move.reread] FROM audit.position_move AS move
    WHERE (move.kafka_topic, move.kafka_topic_id, move.kafka_partition)
        = (position.kafka_topic, position.kafka_topic_id, position.kafka_partition)
    ORDER BY move.id)
FROM audit.consumer_position AS position
ORDER BY kafka_topic, kafka_partition, updated_at"""

_ROWS = """
SELECT log.kafka_offset, log.event_id::text,
       CASE WHEN isfinite(log.occurred_at) THEN (extract(epoch FROM log.occurred_at) * 1000000)::bigint ELSE 0 END,
       log.tenant, log.level, log.service, log.login_name, log.module, log.action, log.result, log.error_code, log.complement::text,
       log.subject_type, log.source_ip::text, log.content_hash, log.source_bytes,
       event.content_hash, event.occurred_at IS NOT DISTINCT FROM log.occurred_at
FROM audit.audit_log AS log LEFT JOIN audit.event AS event ON event.event_id = log.event_id
WHERE log.kafka_topic = %s AND log.kafka_partition = %s AND log.kafka_offset >= %s AND log.kafka_offset < %s
ORDER BY log.kafka_offset, log.recorded_at"""

_QUARANTINED = """
SELECT kafka_offset, kafka_topic_id, reason, status, sha256(key), sha256(value), headers, ARRAY(
    SELECT history.action || coalesce(' ' || history.outcome, '') FROM audit.quarantine_history AS history
    WHERE history.quarantine_id = quarantine.id AND history.action <> 'retry failed' ORDER BY history.id)
FROM audit.quarantine AS quarantine
WHERE kafka_topic = %s AND kafka_topic_id = ANY(%s) AND kafka_partition = %s AND kafka_offset >= %s AND kafka_offset < %s
ORDER BY id"""

_KNOWN = """
SELECT wanted.id::text, event.content_hash, log.content_hash, log.kafka_topic, log.kafka_partition, log.kafka_offset
FROM unnest(%s::uuid[], %s::bigint[]) AS wanted (id, micros)
LEFT JOIN audit.event AS event ON event.event_id = wanted.id
LEFT JOIN audit.audit_log AS log
    ON log.event_id = wanted.id AND log.occurred_at = timestamptz '1970-01-01 00:00:00Z' + wanted.micros * interval '1 microsecond'"""

# A month that is still there, or that no retention could have removed yet, is not gone, whatever somebody has written here.
_GONE = """
SELECT month FROM audit.retention_month
WHERE month + interval '1 month' < now() AT TIME ZONE 'UTC' - interval '6 weeks' AND NOT EXISTS (
    SELECT FROM pg_inherits JOIN pg_class ON pg_class.oid = inhrelid
    WHERE inhparent = 'audit.audit_log'::regclass AND NOT inhdetachpending AND relname = 'audit_log_' || to_char(month, 'YYYY_MM'))"""

_REMOVED = f"""
SELECT kafka_topic, kafka_partition, sum(removed)::bigint FROM audit.retention_history WHERE month IN ({_GONE})
GROUP BY kafka_topic, kafka_partition"""  # noqa: S608 - put together from constants

# A position that was set back has been further. OFFSET 0: how far is worked out once for each of them, and not for each row of the log.
_PASSED = """SELECT FROM (
        SELECT *, greatest(next_offset, (
            SELECT max(move.from_offset) FROM audit.position_move AS move
            WHERE (move.kafka_topic, move.kafka_topic_id, move.kafka_partition)
                = (kept.kafka_topic, kept.kafka_topic_id, kept.kafka_partition)
        )) AS reached FROM audit.consumer_position AS kept OFFSET 0
    ) AS position
    WHERE position.kafka_topic = found.kafka_topic AND position.kafka_partition = found.kafka_partition"""
_SAME_ID = "position.kafka_topic_id = found.kafka_topic_id"
_OFFSET = "found.kafka_offset >= position.first_offset AND found.kafka_offset < position.reached"
_RANGE = "found.first_offset >= position.first_offset AND found.next_offset <= position.reached"

_GAPS = "SELECT kafka_topic, kafka_partition, first_offset, next_offset FROM audit.source_gap ORDER BY 1, 2, 3"

_STRAY_ROWS = f"""
SELECT kafka_topic, kafka_partition, kafka_offset, event_id::text FROM audit.audit_log AS found
WHERE NOT EXISTS ({_PASSED} AND {_OFFSET})"""  # noqa: S608 - put together from constants

_STRAY_MESSAGES = f"""
SELECT kafka_topic, kafka_partition, kafka_offset, NULL FROM audit.quarantine AS found
WHERE NOT EXISTS ({_PASSED} AND {_SAME_ID} AND {_OFFSET})"""  # noqa: S608 - put together from constants

_STRAY_GAPS = f"""
SELECT kafka_topic, kafka_partition, first_offset, NULL FROM audit.source_gap AS found
WHERE NOT EXISTS ({_PASSED} AND {_SAME_ID} AND {_RANGE})"""  # noqa: S608 - put together from constants

_ROWLESS_EVENTS = f"""
SELECT NULL, NULL::integer, NULL::bigint, event_id::text FROM audit.event AS found WHERE NOT EXISTS (
    SELECT FROM audit.audit_log AS log WHERE log.event_id = found.event_id AND log.occurred_at = found.occurred_at)
  AND date_trunc('month', found.occurred_at AT TIME ZONE 'UTC') NOT IN ({_GONE})"""  # noqa: S608 - put together from constants

_STRAYS = (
    (_STRAY_ROWS, Kind.EXTRA, Table.LOG, "no position has passed this place"),
    (_STRAY_MESSAGES, Kind.EXTRA, Table.QUARANTINE, "no position has passed this place"),
    (_STRAY_GAPS, Kind.EXTRA, Table.GAP, "no position has passed this range"),
    (_ROWLESS_EVENTS, Kind.MISSING, Table.LOG, "the ledger knows the event, the log has no row of its time"),
)


class Snapshot:
    """The database as it is at one moment: so what a retry of the quarantine does meanwhile is seen whole or not at all."""

    def __init__(self, cursor: psycopg.Cursor[Row]) -> None:
        self._cursor = cursor

    def rows(self, partition: Partition, first: int, end: int) -> dict[int, list[StoredRow]]:
        """The rows of the log by offset, oldest first."""
        found: defaultdict[int, list[StoredRow]] = defaultdict(list)
        self._cursor.execute(_ROWS, (*partition, first, end), binary=True)
        for offset, *items, ledger_hash, same_time in self._cursor:
            found[offset].append(stored_row(offset, tuple(items), ledger_hash, same_time))
        return found

    def gone(self) -> frozenset[date]:
        """The months that retention has removed, or is about to."""
        return frozenset(month for (month,) in self._cursor.execute(_GONE).fetchall())

    def quarantined(self, partition: Partition, ids: Sequence[str], first: int, end: int) -> dict[int, list[QuarantinedRow]]:
        """The rows of the quarantine by offset, of these topic ids."""
        found: defaultdict[int, list[QuarantinedRow]] = defaultdict(list)
        self._cursor.execute(_QUARANTINED, (partition.topic, list(ids), partition.number, first, end), binary=True)
        for offset, topic_id, reason, status, key, value, headers, settled in self._cursor:
            found[offset].append(QuarantinedRow(offset, topic_id, reason, status, key, value, headers, tuple(settled)))
        return found

    def known(self, records: Sequence[AuditRecord]) -> dict[str, Known]:
        """What ledger and log know of these events, by id."""
        if not records:
            return {}
        times = [record.occurred_at if _TIMES[0] <= record.occurred_at <= _TIMES[1] else None for record in records]
        self._cursor.execute(_KNOWN, ([record.event_id for record in records], times), binary=True)
        return {each[0]: Known(each[1], each[2], None if each[3] is None else (each[3], each[4], each[5])) for each in self._cursor}


class Evidence:
    """Asks the database.

    Raises:
        TransientError: from every call, where the database could not be asked (ConfigurationError: it refused).
    """

    def __init__(self, connect: Connect) -> None:
        self._keeper = ConnectionKeeper(connect)

    def positions(self) -> list[Position]:
        """Every position, the latest of a partition last."""
        with self._transaction(_WHOLE) as cursor:
            cursor.execute(_POSITIONS)
            return [
                Position(Partition(topic, number), *cells)._replace(moves=tuple(Move(*move) for move in moves))
                for topic, number, *cells, moves in cursor
            ]

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """For the questions about one stretch."""
        with self._transaction(_STRETCH) as cursor:
            yield Snapshot(cursor)

    def removed(self) -> dict[Partition, int]:
        """How many rows retention has removed of each partition."""
        with self._transaction(_STRETCH) as cursor:
            return {Partition(topic, number): rows for topic, number, rows in cursor.execute(_REMOVED).fetchall()}

    def gaps(self) -> dict[Partition, list[tuple[int, int]]]:
        """What no worker could read of each partition: first offset, and the one after the last."""
        found: defaultdict[Partition, list[tuple[int, int]]] = defaultdict(list)
        with self._transaction(_STRETCH) as cursor:
            for topic, number, first, end in cursor.execute(_GAPS).fetchall():
                found[Partition(topic, number)].append((first, end))
        return found

    def strays(self) -> Iterator[Finding]:
        """What belongs to no position at all, and events of the ledger without a row: questions to the whole database, in one snapshot."""
        with self._transaction(_WHOLE) as cursor:
            for number, (question, kind, table, detail) in enumerate(_STRAYS):
                cursor.execute(f"DECLARE strays_{number} NO SCROLL CURSOR FOR {question}")
                while rows := cursor.execute(f"FETCH {_PAGE} FROM strays_{number}").fetchall():
                    for topic, partition, offset, event_id in rows:
                        yield Finding(kind, table, topic, partition, offset, event_id, (), detail)

    def close(self) -> None:
        """Closes the connection."""
        self._keeper.close()

    @contextmanager
    def _transaction(self, begin: str) -> Iterator[psycopg.Cursor[Row]]:
        try:
            with self._keeper.use() as connection, connection.cursor() as cursor:
                cursor.execute(begin)
                yield cursor
                cursor.execute("COMMIT")
        except psycopg.Error as error:
            raise as_failure(error) from error
