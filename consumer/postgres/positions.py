"""What a start needs to know of the database: where partitions stand, and whether its schema fits this version."""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import psycopg

from consumer.core.events import Partition, PartitionPosition
from consumer.postgres import statements as sql
from consumer.postgres.connection import Connection, briefly
from consumer.postgres.failures import as_failure


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


def read_state(connect: Callable[[], Connection]) -> DatabaseState:
    """What `run` and `check` must know before anything else.

    Raises:
        TransientError: the database could not be asked (ConfigurationError: it refused).
    """
    try:
        with briefly(connect) as connection:
            role, superuser, read_only, table = (
                connection.execute(
                    "SELECT current_user, (SELECT rolsuper FROM pg_roles WHERE rolname = current_user),"
                    " current_setting('transaction_read_only')::boolean, to_regclass('audit.alembic_version')"
                ).fetchone()
                or (None,) * 4
            )
            revision = None
            if table is not None:
                row = connection.execute("SELECT version_num FROM audit.alembic_version").fetchone()
                revision = row[0] if row else None
            return DatabaseState(revision, connection.info.server_version, role, superuser, read_only)
    except psycopg.Error as error:
        raise as_failure(error) from error
