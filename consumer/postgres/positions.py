"""Where partitions stand, setting them elsewhere, and whether the schema fits this version."""

from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

import psycopg

from consumer.core.errors import ConfigurationError, FencedError
from consumer.core.events import Partition, PartitionPosition
from consumer.core.moves import Change
from consumer.postgres import statements as sql
from consumer.postgres.connection import Connection, briefly
from consumer.postgres.failures import as_failure

# By the catalog, which everybody may read: to_regclass fails where the role may not use the schema, and a name would say nothing of it.
_STATE = """
SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),
       current_setting('transaction_read_only')::boolean,
       (SELECT has_schema_privilege(relnamespace, 'USAGE') AND has_table_privilege(pg_class.oid, 'SELECT')
        FROM pg_class JOIN pg_namespace ON pg_namespace.oid = relnamespace
        WHERE nspname = 'audit' AND relname = 'alembic_version')"""


class UngrantedError(ConfigurationError):
    """The schema is there, and the role may not even ask for its version: it was granted none of ours."""

    def __init__(self, role: str) -> None:
        roles = "audit_writer, audit_reader, audit_operator or audit_retention"
        super().__init__(f"PostgreSQL: role {role} may not read audit.alembic_version: it must be granted {roles}")
        self.role = role


class DatabaseState(NamedTuple):
    """The database as it is found."""

    revision: str | None  # None: no schema
    server_version: int
    role: str
    superuser: bool
    read_only: bool


def positions_of(connection: Connection, wanted: Mapping[Partition, str]) -> dict[Partition, PartitionPosition]:
    """Where each partition (with its topic's id) stands that has a position."""
    topics = [partition.topic for partition in wanted]
    numbers = [partition.number for partition in wanted]
    found = connection.execute(sql.READ_POSITIONS, (topics, list(wanted.values()), numbers, [0] * len(numbers))).fetchall()
    return {Partition(topic, number): PartitionPosition(topic_id, offset) for topic, number, topic_id, offset in found}


def read_positions(connect: Callable[[], Connection], wanted: Mapping[Partition, str]) -> dict[Partition, PartitionPosition]:
    """As `positions_of`, over a connection of its own.

    Raises:
        TransientError: the database could not be asked.
    """
    try:
        with briefly(connect) as connection:
            return positions_of(connection, wanted)
    except psycopg.Error as error:
        raise as_failure(error) from error


def set_positions(connect: Callable[[], Connection], changes: Iterable[Change], who: str, note: str, source: str) -> list[int]:
    """Sets all of these positions or none, each from where it was seen; the entries of audit.operation_history that tell it.

    Raises:
        FencedError: one of them is somewhere else by now.
        TransientError: nothing is known of the outcome (ConfigurationError: the database refuses).
    """
    entries = []
    try:
        with briefly(connect) as connection, connection.transaction():
            connection.execute(f"SET LOCAL lock_timeout = '{sql.LOCK_TIMEOUT}s'")
            for each in changes:
                place = (each.topic, each.topic_id, each.partition, each.before, each.after)
                ((entry,),) = connection.execute(sql.SET_POSITION, (*place, who, note, source)).fetchall()
                if entry is None:
                    raise FencedError
                entries.append(entry)
    except psycopg.Error as error:
        raise as_failure(error) from error
    return entries


def read_state(connect: Callable[[], Connection]) -> DatabaseState:
    """What `run` and `check` must know before anything else.

    Raises:
        TransientError: the database could not be asked (ConfigurationError: it refused; UngrantedError: the schema, to this role).
    """
    try:
        with briefly(connect) as connection:
            role, superuser, read_only, readable = connection.execute(_STATE).fetchone() or (None,) * 4
            if readable is False:
                raise UngrantedError(role)
            revision = None
            if readable:
                row = connection.execute("SELECT version_num FROM audit.alembic_version").fetchone()
                revision = row[0] if row else None
            return DatabaseState(revision, connection.info.server_version, role, superuser, read_only)
    except psycopg.Error as error:
        raise as_failure(error) from error
