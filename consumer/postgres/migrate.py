"""Brings the schema `audit` to this version's state: forward only, one migrator at a time, everything or nothing."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psycopg

from consumer.core.errors import ConfigurationError
from consumer.postgres.connection import connect
from consumer.postgres.failures import as_failure

if TYPE_CHECKING:
    from sqlalchemy import Connection as AlchemyConnection
    from sqlalchemy import Engine

    from consumer.postgres.connection import Connection

HEAD_REVISION = "0007"
"""The revision that this version of the program works with."""

_MIGRATIONS = Path(__file__).with_name("migrations")

# Numbers of the advisory lock; those with 2 to 5 are taken by audit.ensure_month and by retention.
_LOCK = "SELECT pg_advisory_xact_lock(1635083369, 1)"

_ALEMBIC = threading.Lock()
"""Alembic keeps its context in a module: two migrations in one process, of two databases, would mix them up."""


class UnknownRevisionError(ConfigurationError):
    """The database was migrated by a newer version of this program."""


def migrate(database_url: str, password: str | None = None) -> tuple[str | None, str]:
    """Migrates to HEAD_REVISION and says from which revision to which.

    All in one transaction under an advisory lock: of replicas that start together, one migrates, and the others wait
    and then find nothing to do. Whoever migrates is a superuser, or owns the database and may create roles, or owns it
    and is a member of audit_owner.

    Raises:
        ConfigurationError: PostgreSQL refused, or the schema is newer than this version (UnknownRevisionError).
        TransientError: PostgreSQL could not be asked.
    """
    # Not at the top: the worker imports this module for HEAD_REVISION, and Alembic would cost it 20 MB.
    from sqlalchemy.exc import DBAPIError  # noqa: PLC0415

    engine = _engine(database_url, password)
    try:
        with engine.begin() as connection:
            driver = connection.connection.driver_connection
            assert isinstance(driver, psycopg.Connection)  # noqa: S101 - it is what the engine was given
            driver.execute(_LOCK)
            before = current_revision(driver)
            if before == HEAD_REVISION:
                return before, HEAD_REVISION
            if before is not None and before > HEAD_REVISION:
                raise UnknownRevisionError(
                    f"the schema is at {before}, which this version ({HEAD_REVISION}) does not know: install the newer version that made it"
                )
            driver.execute((_MIGRATIONS / "prepare.sql").read_bytes())
            driver.execute("SET LOCAL ROLE audit_owner")  # so that all it makes is the owner's, whoever migrates
            _upgrade(connection)
            return before, HEAD_REVISION
    except DBAPIError as error:
        if isinstance(error.orig, psycopg.Error):
            raise as_failure(error.orig) from error
        raise
    except psycopg.Error as error:
        raise as_failure(error) from error
    finally:
        engine.dispose()


def current_revision(connection: Connection) -> str | None:
    """The schema's revision; None where there is no schema."""
    found = connection.execute("SELECT to_regclass('audit.alembic_version') IS NOT NULL").fetchone()
    if found is None or not found[0]:
        return None
    row = connection.execute("SELECT version_num FROM audit.alembic_version").fetchone()
    return None if row is None else str(row[0])


def _require_utf8(connection: Connection) -> None:
    """The log holds any text; a database of another encoding would refuse some of it, or give it back as bytes (SQL_ASCII)."""
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigurationError(
            f"the database's encoding is {encoding}, and must be UTF8: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def _engine(database_url: str, password: str | None) -> Engine:
    from sqlalchemy import create_engine  # noqa: PLC0415
    from sqlalchemy.pool import NullPool  # noqa: PLC0415

    def open_connection() -> Connection:
        connection = connect(database_url, password, application="integration-audit migrate")
        _require_utf8(connection)  # before SQLAlchemy asks what it then can't read
        connection.autocommit = False  # SQLAlchemy leaves it to the driver to begin transactions
        return connection

    # A creator, since libpq's URLs (several hosts, sockets, sslmode) are more than SQLAlchemy's own can say.
    return create_engine("postgresql+psycopg://", creator=open_connection, poolclass=NullPool)


def _upgrade(connection: AlchemyConnection) -> None:
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    with _ALEMBIC:
        command.upgrade(config, HEAD_REVISION)
