"""Reading what was written: a question, and its rows."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import psycopg

from consumer.postgres.connection import Connection, Row
from consumer.postgres.failures import as_failure

LOG = """
SELECT occurred_at, level, module, action, login_name, result, complement, source_ip
FROM audit.audit_log ORDER BY occurred_at DESC, kafka_topic, kafka_partition, kafka_offset LIMIT %s"""

QUARANTINE = """
SELECT id, kafka_topic, kafka_partition, kafka_offset, reason, error, status
FROM audit.quarantine ORDER BY id DESC LIMIT %s"""

_BALANCED = "next_offset - first_offset + reread = written + duplicates + quarantined + tombstones + skipped + expired AS balanced"

BOOKS = f"""
SELECT kafka_topic, kafka_partition, next_offset - first_offset AS offsets, written, duplicates, quarantined, tombstones, skipped,
       expired, {_BALANCED}
FROM audit.consumer_position ORDER BY kafka_topic, kafka_topic_id, kafka_partition"""  # noqa: S608 - put together from constants

POSITIONS = f"""
SELECT kafka_topic, kafka_topic_id, kafka_partition, next_offset, first_offset, written, duplicates, quarantined, tombstones, skipped,
       expired, reread, {_BALANCED}, updated_at
FROM audit.consumer_position WHERE kafka_topic = %(topic)s OR %(topic)s::text IS NULL
ORDER BY kafka_topic, kafka_partition, updated_at"""  # noqa: S608 - put together from constants

WRITER_NEEDS = (
    "INSERT on audit.audit_log",
    "SELECT on audit.event",
    "INSERT on audit.event",
    "SELECT on audit.consumer_position",
    "INSERT on audit.consumer_position",
    "UPDATE on audit.consumer_position",
    "INSERT on audit.quarantine",
    "INSERT on audit.source_gap",
    "EXECUTE on audit.ensure_month",
    "EXECUTE on audit.is_removed",
    "EXECUTE on audit.log_state",
    "EXECUTE on audit.tell_retention",
)
"""All that a worker does, beside asking for the schema's version."""

OPERATOR_NEEDS = (
    "SELECT on audit.quarantine",
    "UPDATE on audit.quarantine",
    "SELECT on audit.quarantine_history",
    "INSERT on audit.quarantine_history",
    "INSERT on audit.audit_log",
    "SELECT on audit.event",
    "INSERT on audit.event",
    "SELECT on audit.consumer_position",
    "EXECUTE on audit.ensure_month",
    "EXECUTE on audit.is_removed",
    "EXECUTE on audit.set_position",
)
"""All that `quarantine` and `position` do, beside the same."""

# Of tables column by column: an operator may change only how a message was settled, and tell only what PostgreSQL does not know itself.
MISSING = """
SELECT needed FROM unnest(%(needed)s::text[]) AS needed
CROSS JOIN LATERAL (SELECT split_part(needed, ' on ', 1) AS privilege, split_part(needed, ' on ', 2) AS object) AS part
WHERE NOT CASE privilege
    WHEN 'EXECUTE' THEN EXISTS (
        SELECT FROM pg_proc
        WHERE pronamespace = 'audit'::regnamespace AND 'audit.' || proname = object AND has_function_privilege(pg_proc.oid, privilege)
    )
    ELSE has_any_column_privilege(object, privilege)
END"""


def rows_of(
    connect: Callable[[], Connection], question: str, parameters: Sequence[Any] | Mapping[str, Any] = ()
) -> tuple[list[str], list[Row]]:
    """Column names and rows.

    Raises:
        TransientError: the database could not be asked (ConfigurationError: it refused).
    """
    try:
        with connect() as connection:
            cursor = connection.execute(question, parameters or None)
            return [column.name for column in cursor.description or ()], cursor.fetchall()
    except psycopg.Error as error:
        raise as_failure(error) from error
