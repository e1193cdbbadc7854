"""The database's side of retention: what there is, what is held, and each step of a month's removal."""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from datetime import date, datetime
from typing import Any, LiteralString, NamedTuple

import psycopg

from consumer.core.clock import month_after
from consumer.core.errors import ConfigurationError, TransientError
from consumer.core.retention import Hold, first_moment, touching
from consumer.postgres.connection import Connection, briefly
from consumer.postgres.failures import as_failure
from consumer.postgres.quarantine import Connect

LEDGER_BATCH = 2_000
"""Events that the ledger forgets in one transaction."""

_DETACH_WAIT: LiteralString = "10min"
"""How long a reader that has the month open is waited for; nobody else waits meanwhile."""

_FINALIZE_WAIT: LiteralString = "2s"
"""FINALIZE waits with a lock in hand that the making of a month needs: so it never waits long, and is tried again."""

# Months by their tables: attached, half detached (a DETACH that was interrupted), or detached and not dropped yet. What somebody has
# detached by hand, for an archive of his own, was never declared, and is not ours.
_MONTHS = """
SELECT to_date(relname, '"audit_log_"YYYY_MM') AS month,
       CASE WHEN inhrelid IS NULL THEN 'detached' WHEN inhdetachpending THEN 'detaching' ELSE 'attached' END AS state,
       greatest(reltuples, 0)::bigint AS rows, pg_total_relation_size(pg_class.oid) AS bytes
FROM pg_class LEFT JOIN pg_inherits ON inhrelid = pg_class.oid
WHERE relnamespace = 'audit'::regnamespace AND relkind = 'r' AND relname ~ '^audit_log_[0-9]{4}_[0-9]{2}$'
  AND (NOT coalesce(inhdetachpending, true)
       OR EXISTS (SELECT FROM audit.retention_month AS gone WHERE gone.month = to_date(relname, '"audit_log_"YYYY_MM')))
ORDER BY month"""

_HOLDS = "SELECT id, tenant, since, until FROM audit.active_hold ORDER BY id"

_LISTED = "SELECT id, at, who, database_role, reason, tenant, since, until FROM audit.active_hold ORDER BY id"

_HAS_ROWS = """
SELECT EXISTS (SELECT FROM {table} WHERE tenant = %(tenant)s AND occurred_at >= %(first)s AND occurred_at < %(end)s
    AND (%(since)s::timestamptz IS NULL OR occurred_at >= %(since)s) AND (%(until)s::timestamptz IS NULL OR occurred_at < %(until)s))"""

_ROWS_IN = "SELECT count(*) FROM audit.audit_log WHERE occurred_at >= %s AND occurred_at < %s"

_LAST_RETENTION = "SELECT detail ->> 'to' FROM audit.operation_history WHERE action = 'retention changed' ORDER BY id DESC LIMIT 1"

_TELL_RETENTION = "SELECT audit.tell_retention(%s, %s)"

_TELL = "INSERT INTO audit.operation_history (who, action, belongs_to, detail) VALUES (%s, %s, %s, %s::jsonb) RETURNING id"

# The same lock as audit.ensure_month's: no worker is in the middle of making the month while it is declared gone.
_DECLARE = """
INSERT INTO audit.retention_month (month, operation_id) VALUES (%s, %s) ON CONFLICT DO NOTHING"""

_NEXT = """
SELECT event_id, occurred_at FROM {table} WHERE (occurred_at, event_id) > (%s, %s::uuid) ORDER BY occurred_at, event_id LIMIT %s"""

# By the time too: an event that came again with another time, after its first row was gone, is another row's.
_FORGET = """
DELETE FROM audit.event USING unnest(%s::uuid[]) AS gone (event_id)
WHERE event.event_id = gone.event_id AND event.occurred_at >= %s AND event.occurred_at < %s"""

_REMEMBER = """
INSERT INTO audit.event (event_id, occurred_at, content_hash)
SELECT event_id, occurred_at, content_hash FROM {table} ORDER BY event_id ON CONFLICT DO NOTHING"""

_COUNT = """
INSERT INTO audit.retention_history (month, kafka_topic, kafka_partition, removed, first_offset, last_offset)
SELECT %s, kafka_topic, kafka_partition, count(*), min(kafka_offset), max(kafka_offset) FROM {table} GROUP BY kafka_topic, kafka_partition
RETURNING removed"""

NO_EVENT = "00000000-0000-0000-0000-000000000000"


class Month(NamedTuple):
    """A month of the log as it is found."""

    month: date
    state: str  # attached, detaching, detached
    rows: int  # as the statistics have it
    bytes: int


def table_of(month: date) -> LiteralString:
    """The month's table; out of numbers only."""
    return f"audit.audit_log_{month.year:04}_{month.month:02}"


def rows_in(connection: Connection, month: date) -> int:
    """How many rows the log has of the month, counted: what the statistics say may be old, or nothing yet."""
    ((rows,),) = connection.execute(_ROWS_IN, (first_moment(month), first_moment(month_after(month)))).fetchall()
    return int(rows)


def months(connection: Connection) -> list[Month]:
    """Every month that there is, oldest first."""
    return [Month(*row) for row in connection.execute(_MONTHS).fetchall()]


def holds(connection: Connection) -> list[Hold]:
    """Every hold that is not released."""
    return [Hold(*row) for row in connection.execute(_HOLDS).fetchall()]


def holding(connection: Connection, month: date, active: Sequence[Hold], table: LiteralString = "audit.audit_log") -> list[int]:
    """The holds that keep the month: of a period all its months, of a tenant those with a row of it."""
    question = _HAS_ROWS.replace("{table}", table)
    bounds = {"first": first_moment(month), "end": first_moment(month_after(month))}
    return [
        hold.id
        for hold in touching(active, month)
        if hold.tenant is None or connection.execute(question, hold._asdict() | bounds).fetchall() == [(True,)]
    ]


def listed_holds(connection: Connection) -> tuple[list[str], list[tuple[Any, ...]]]:
    """Every hold that is not released, with who and why."""
    cursor = connection.execute(_LISTED)
    return [column.name for column in cursor.description or ()], cursor.fetchall()


def last_retention(connection: Connection) -> str | None:
    """The retention that the history was told last, by a worker's start or by a removal; None: none yet."""
    found = connection.execute(_LAST_RETENTION).fetchone()
    return None if found is None else str(found[0])


def now(connection: Connection) -> datetime:
    """The database's time: months are not to go by a clock of somewhere else."""
    ((found,),) = connection.execute("SELECT now()").fetchall()
    assert isinstance(found, datetime)  # noqa: S101 - it is what now() gives
    return found


@contextmanager
def session(connect: Connect) -> Iterator[Connection]:
    """A connection, and failures as the rest of the program knows them."""
    try:
        with connect() as connection:
            yield connection
    except psycopg.errors.LockNotAvailable as error:
        raise TransientError("PostgreSQL: a reader has had the log open for too long: end it, and run this again") from error
    except psycopg.Error as error:
        raise as_failure(error) from error


def tell_retention(connect: Connect, who: str, retention: str) -> None:
    """A retention other than the last one is told in the history; for a worker, which may read nothing of it.

    Raises:
        TransientError: nothing is known of the outcome (ConfigurationError: the database refuses).
    """
    try:
        with briefly(connect) as connection:
            connection.execute(_TELL_RETENTION, (who, retention))
    except psycopg.Error as error:
        raise as_failure(error) from error


class Remover:
    """Removes months, as the owner of the log, over one connection. Every step may be the last one before a kill: the next run goes on.

    No step stops the worker: DETACH CONCURRENTLY takes no lock that a reader or writer of the log waits for.
    """

    def __init__(self, connection: Connection, who: str) -> None:
        self._connection = connection
        self._who = who

    def begin(self) -> bool:
        """Becomes the owner; false where another removal is running."""
        try:
            self._connection.execute("SET ROLE audit_owner")
        except psycopg.errors.InsufficientPrivilege as error:
            raise ConfigurationError("removing months drops tables: use a role that was given GRANT audit_owner") from error
        ((alone,),) = self._connection.execute("SELECT pg_try_advisory_lock(1635083369, 4)").fetchall()
        return bool(alone)

    def tell_retention(self, retention: str) -> None:
        """A retention other than the last one is told in the history."""
        self._connection.execute(_TELL_RETENTION, (self._who, retention))

    def declare(self, month: date) -> int:
        """From now on nobody makes the month any more; the entry of the history that its removal belongs to."""
        with self._connection.transaction():
            self._connection.execute("SET LOCAL lock_timeout = '30s'")
            self._connection.execute("SELECT pg_advisory_xact_lock(1635083369, 2)")
            found = self._connection.execute("SELECT operation_id FROM audit.retention_month WHERE month = %s", (month,)).fetchone()
            if found is not None:
                return int(found[0])
            entry = self._tell("removal began", None, {"month": f"{month:%Y-%m}"})
            self._connection.execute(_DECLARE, (month, entry))
            return entry

    def detach(self, month: date) -> None:
        """Takes the month out of the log; waits for readers that had it, but keeps nobody waiting meanwhile."""
        with _limit(self._connection, "lock_timeout", _DETACH_WAIT):
            self._connection.execute(f"ALTER TABLE audit.audit_log DETACH PARTITION {table_of(month)} CONCURRENTLY")

    def finalize(self, month: date) -> bool:
        """Ends a detaching that was interrupted; false where a reader still has the month."""
        try:
            with _limit(self._connection, "statement_timeout", _FINALIZE_WAIT):
                self._connection.execute(f"ALTER TABLE audit.audit_log DETACH PARTITION {table_of(month)} FINALIZE")
        except psycopg.errors.QueryCanceled:
            return False
        return True

    def forget(self, month: date, progress: Callable[[int], None]) -> None:
        """The ledger forgets the month's events, in small transactions."""
        first, end = first_moment(month), first_moment(month_after(month))
        at, event = first, NO_EVENT
        query = _NEXT.replace("{table}", table_of(month)).replace("> (%s", ">= (%s", 1)
        while rows := self._connection.execute(query, (at, event, LEDGER_BATCH)).fetchall():
            self._connection.execute(_FORGET, ([row[0] for row in rows], first, end))
            progress(len(rows))
            event, at = rows[-1]
            query = _NEXT.replace("{table}", table_of(month))

    def drop(self, month: date, entry: int) -> int | None:
        """Counts the month's rows into the retention's history and drops it, in one transaction; None where a hold came in time."""
        table = table_of(month)
        with self._connection.transaction():
            self._connection.execute("SET LOCAL lock_timeout = '30s'")
            self._connection.execute("SELECT pg_advisory_xact_lock(1635083369, 3)")
            if holding(self._connection, month, holds(self._connection), table):
                return None
            counts = self._connection.execute(_COUNT.replace("{table}", table), (month,)).fetchall()
            rows = sum(count for (count,) in counts)
            self._tell("month removed", entry, {"month": f"{month:%Y-%m}", "rows": rows})
            self._connection.execute(f"DROP TABLE {table}")
            return int(rows)

    def keep(self, month: date, entry: int) -> None:
        """Brings a detached month back into the log and the ledger, whole: a hold came after its removal began."""
        bounds = (first_moment(month), first_moment(month_after(month)))
        lower, upper = (f"{each:%Y-%m-%d} 00:00:00+00" for each in bounds)
        with self._connection.transaction():
            self._connection.execute("SET LOCAL lock_timeout = '30s'")
            self._connection.execute(_REMEMBER.replace("{table}", table_of(month)))
            self._connection.execute(
                f"ALTER TABLE audit.audit_log ATTACH PARTITION {table_of(month)} FOR VALUES FROM ('{lower}') TO ('{upper}')"
            )
            self._tell("month kept", entry, {"month": f"{month:%Y-%m}"})

    def _tell(self, action: str, belongs_to: int | None, detail: Mapping[str, Any]) -> int:
        ((entry,),) = self._connection.execute(_TELL, (self._who, action, belongs_to, json.dumps(detail))).fetchall()
        return int(entry)


@contextmanager
def _limit(connection: Connection, setting: LiteralString, value: LiteralString) -> Iterator[None]:
    """A limit of the session, since DETACH CONCURRENTLY runs in no transaction."""
    connection.execute(f"SET {setting} = '{value}'")
    try:
        yield
    finally:
        with suppress(psycopg.Error):
            connection.execute(f"RESET {setting}")


def add_hold(
    connect: Connect, who: str, reason: str, *, tenant: str | None, since: datetime | None, until: datetime | None
) -> int:  # fmt: skip
    """Holds what fits; the hold's number.

    Raises:
        TransientError: nothing is known of the outcome (ConfigurationError: the database refuses).
    """
    return _number(connect, "SELECT audit.add_hold(%s, %s, %s, %s, %s)", (who, reason, tenant, since, until))


def release_hold(connect: Connect, hold: int, who: str, reason: str) -> int:
    """Releases a hold; the number of the history's entry.

    Raises:
        TransientError: nothing is known of the outcome, or there is no such hold (ConfigurationError: the database refuses).
    """
    return _number(connect, "SELECT audit.release_hold(%s, %s, %s)", (hold, who, reason))


def _number(connect: Connect, statement: LiteralString, parameters: tuple[Any, ...]) -> int:
    with session(connect) as connection:
        ((number,),) = connection.execute(statement, parameters).fetchall()
        return int(number)
