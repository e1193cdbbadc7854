"""The database's side of an export: its entries in the history, and one snapshot of the log."""

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, LiteralString

import psycopg

from consumer.core.reading_out import StoredRecord
from consumer.postgres.failures import as_failure
from consumer.postgres.log import COLUMNS, OLDEST_FIRST, Filters, stream
from consumer.postgres.quarantine import Connect

# The lock before the snapshot: a month that retention takes away meanwhile would else be missing without a word. It stops no writer.
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; LOCK TABLE audit.audit_log IN ACCESS SHARE MODE"


def began(connect: Connect, who: str, detail: Mapping[str, Any]) -> int:
    """Tells the history that an export begins, and commits; the entry's id.

    Raises:
        TransientError: there is no entry, so there must be no export (ConfigurationError: the database refuses).
    """
    return _told(connect, "SELECT audit.export_began(%s, %s::jsonb)", (who, json.dumps(detail)))


def ended(connect: Connect, export: int, detail: Mapping[str, Any], *, completed: bool) -> None:
    """Tells the history how the export ended.

    Raises:
        TransientError: the history does not say it (ConfigurationError: the database refuses).
    """
    _told(connect, "SELECT audit.export_ended(%s, %s, %s::jsonb)", (export, completed, json.dumps(detail)))


@contextmanager
def snapshot(connect: Connect, filters: Filters) -> Iterator[Iterator[StoredRecord]]:
    """The rows that fit, oldest first, all as of one moment, in bounded memory.

    Raises:
        TransientError: the database could not be asked (ConfigurationError: it refused).
    """
    where, parameters = filters.where()
    query: LiteralString = f"SELECT {COLUMNS} FROM audit.audit_log WHERE {where} ORDER BY {OLDEST_FIRST}"  # noqa: S608 - constants
    try:
        with connect() as connection:
            connection.execute(_BEGIN)
            yield stream(connection, query, parameters)
            connection.execute("COMMIT")
    except psycopg.Error as error:
        raise as_failure(error) from error


def _told(connect: Connect, statement: LiteralString, parameters: tuple[Any, ...]) -> int:
    try:
        with connect() as connection:
            ((entry,),) = connection.execute(statement, parameters).fetchall()
            return int(entry)
    except psycopg.Error as error:
        raise as_failure(error) from error
