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

MISSING_PRIVILEGES = """
SELECT privilege || ' on ' || relation
FROM (VALUES ('audit.audit_log', 'INSERT'), ('audit.event', 'SELECT'), ('audit.event', 'INSERT'),
             ('audit.consumer_position', 'SELECT'), ('audit.consumer_position', 'INSERT'), ('audit.consumer_position', 'UPDATE'),
             ('audit.quarantine', 'INSERT'), ('audit.source_gap', 'INSERT')) AS needed (relation, privilege)
WHERE NOT has_any_column_privilege(relation, privilege)"""

# Column by column: an operator may change only how a message was settled, and tell only what PostgreSQL does not know itself.
MISSING_OPERATOR_PRIVILEGES = """
SELECT privilege || ' on ' || relation
FROM (VALUES ('audit.quarantine', 'SELECT'), ('audit.quarantine', 'UPDATE'), ('audit.quarantine_history', 'SELECT'),
             ('audit.quarantine_history', 'INSERT'), ('audit.audit_log', 'INSERT'), ('audit.event', 'SELECT'),
             ('audit.event', 'INSERT')) AS needed (relation, privilege)
WHERE NOT has_any_column_privilege(relation, privilege)"""


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
