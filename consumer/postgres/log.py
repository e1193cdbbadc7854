"""Reading the log: which rows, page by page or as a stream, and the looks of whoever follows it."""

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, LiteralString, NamedTuple

import psycopg

from consumer.core.errors import TransientError
from consumer.core.reading_out import StoredRecord
from consumer.postgres.connection import Connection, ConnectionKeeper
from consumer.postgres.failures import as_failure
from consumer.postgres.quarantine import Connect

PAGE = 1000
"""Rows of one fetch."""

COLUMNS = """event_id::text, occurred_at, tenant, level, service, login_name, module, action, result, error_code, complement, subject_type,
       host(source_ip) AS source_ip, kafka_topic, kafka_partition, kafka_offset, encode(content_hash, 'hex') AS content_hash, recorded_at"""

NEWEST_FIRST = "occurred_at DESC, kafka_topic, kafka_partition, kafka_offset, audit_log.event_id"
OLDEST_FIRST = "occurred_at, kafka_topic, kafka_partition, kafka_offset, audit_log.event_id"

_BELOW = """occurred_at <= %(at)s AND (occurred_at < %(at)s
    OR (kafka_topic, kafka_partition, kafka_offset, audit_log.event_id) > (%(topic)s, %(number)s, %(offset)s, %(event)s::uuid))"""

# In any text that the Complement holds, at any depth, and not in its keys.
_HOLDS = """EXISTS (SELECT FROM jsonb_path_query(complement, 'strict $.**') AS item
    WHERE jsonb_typeof(item) = 'string' AND strpos(lower(item #>> '{}'), lower(word)) > 0)"""

# A transaction that has written into the log, or is about to: COPY and INSERT lock the parent before they look at a row's columns.
_WRITERS = """
SELECT DISTINCT virtualtransaction FROM pg_locks
WHERE locktype = 'relation' AND mode = 'RowExclusiveLock' AND granted AND relation = 'audit.audit_log'::regclass
  AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"""

# A reader that stopped reading must not keep the snapshot, which retention would wait for.
_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL idle_in_transaction_session_timeout = '60s'"


class Filters(NamedTuple):
    """Which rows; of several filters all must fit, of several values of one any."""

    since: datetime | None = None  # of occurred_at, inclusive
    until: datetime | None = None  # exclusive
    tenant: tuple[str, ...] = ()
    level: tuple[str, ...] = ()
    service: tuple[str, ...] = ()
    login_name: tuple[str, ...] = ()
    module: tuple[str, ...] = ()
    action: tuple[str, ...] = ()
    result: tuple[str, ...] = ()
    error_code: tuple[str, ...] = ()
    words: tuple[str, ...] = ()  # each must be in a text of the Complement, whatever the case

    def where(self) -> tuple[LiteralString, dict[str, Any]]:
        """The condition and its parameters. Only what is asked for is in it: so that the planner sees it plainly."""
        conditions: list[LiteralString] = ["true"]
        if self.since is not None:
            conditions.append("occurred_at >= %(since)s")
        if self.until is not None:
            conditions.append("occurred_at < %(until)s")
        for name, values in self._listed():
            # One value as an equation: an index in the order of the answer can then give it.
            conditions.append(f"{name} = %({name}_0)s" if len(values) == 1 else f"{name} = ANY(%({name})s)")
        if self.words:
            conditions.append(f"(SELECT bool_and({_HOLDS}) FROM unnest(%(words)s::text[]) AS word)")  # noqa: S608 - constants
        parameters: dict[str, Any] = {"since": self.since, "until": self.until, "words": list(self.words)}
        for name, values in self._listed():
            parameters |= {name: list(values), f"{name}_0": values[0]}
        return " AND ".join(conditions), parameters

    def _listed(self) -> list[tuple[LiteralString, tuple[str, ...]]]:
        return [
            (name, values)
            for name, values in (
                ("tenant", self.tenant), ("level", self.level), ("service", self.service), ("login_name", self.login_name),
                ("module", self.module), ("action", self.action), ("result", self.result), ("error_code", self.error_code),
            )
            if values
        ]  # fmt: skip


def newest_query(filters: Filters, after: StoredRecord | None, limit: int) -> tuple[LiteralString, dict[str, Any]]:
    """The rows after this one, newest first."""
    where, parameters = filters.where()
    if after is not None:
        where += f" AND {_BELOW}"
        parameters |= {"at": after.occurred_at, "topic": after.kafka_topic, "number": after.kafka_partition}
        parameters |= {"offset": after.kafka_offset, "event": after.event_id}
    query: LiteralString = f"SELECT {COLUMNS} FROM audit.audit_log WHERE {where} ORDER BY {NEWEST_FIRST} LIMIT %(limit)s"  # noqa: S608 - constants
    return query, parameters | {"limit": limit}


class LogReader:
    """Reads the log over one connection, which is made anew after a failure.

    Raises, from every method:
        TransientError: the database could not be asked (ConfigurationError: it refused).
    """

    def __init__(self, connect: Connect) -> None:
        self._keeper = ConnectionKeeper(connect)

    def close(self) -> None:
        """Closes the connection."""
        self._keeper.close()

    def newest(self, filters: Filters, after: StoredRecord | None, limit: int) -> list[StoredRecord]:
        """A page of rows, newest first, after the row that the page before ended with."""
        try:
            with self._keeper.use() as connection:
                return [StoredRecord(*row) for row in connection.execute(*newest_query(filters, after, limit)).fetchall()]
        except psycopg.Error as error:
            raise as_failure(error) from error

    def look(self) -> tuple[datetime, list[str]]:
        """The database's time, and after it the transactions that write into the log; for a `Horizon`."""
        try:
            with self._keeper.use() as connection:
                ((now, standby),) = connection.execute("SELECT clock_timestamp(), pg_is_in_recovery()").fetchall()
                if standby:
                    raise TransientError("the server is a standby, which does not know who is writing: follow the log on the primary")
                return now, [row[0] for row in connection.execute(_WRITERS).fetchall()]
        except psycopg.Error as error:
            raise as_failure(error) from error

    def began(self, filters: Filters, recorded_since: datetime, limit: int) -> tuple[list[StoredRecord], dict[str, datetime]]:
        """In one snapshot: the newest rows, and every one recorded since then, which whoever follows has had."""
        try:
            with self._keeper.use() as connection:
                connection.execute(_BEGIN)
                newest = [StoredRecord(*row) for row in connection.execute(*newest_query(filters, None, limit)).fetchall()]
                where, parameters = filters.where()
                query: LiteralString = (
                    f"SELECT event_id::text, recorded_at FROM audit.audit_log WHERE {where} AND recorded_at >= %(recorded)s"  # noqa: S608 - constants
                )
                had = dict(connection.execute(query, parameters | {"recorded": recorded_since}).fetchall())
                connection.execute("COMMIT")
                return newest, had
        except psycopg.Error as error:
            raise as_failure(error) from error

    def recorded(self, filters: Filters, since: datetime) -> Iterator[StoredRecord]:
        """Rows recorded since then, oldest event first, all of one snapshot, in bounded memory."""
        where, parameters = filters.where()
        query: LiteralString = (
            f"SELECT {COLUMNS} FROM audit.audit_log WHERE {where} AND recorded_at >= %(recorded)s ORDER BY {OLDEST_FIRST}"  # noqa: S608 - constants
        )
        try:
            with self._keeper.use() as connection:
                connection.execute(_BEGIN)
                yield from stream(connection, query, parameters | {"recorded": since})
                connection.execute("COMMIT")
        except psycopg.Error as error:
            raise as_failure(error) from error


def stream(connection: Connection, query: LiteralString, parameters: Mapping[str, Any]) -> Iterator[StoredRecord]:
    """The rows through a cursor of the server, inside the caller's transaction."""
    with connection.cursor(name="log") as cursor:
        cursor.itersize = PAGE
        cursor.execute(query, parameters)
        for row in cursor:
            yield StoredRecord(*row)
