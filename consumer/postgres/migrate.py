"""Brings the database's schema to this version: forward only, plain SQL, one transaction."""

from pathlib import Path
from typing import Any, NamedTuple

import psycopg

from consumer.postgres.connection import connect
from consumer.postgres.failures import as_failure

HEAD_REVISION = "0001"
"""The schema that this version of the program needs."""

_SCRIPTS = Path(__file__).parent / "migrations"

# Transaction-wide, since a pooler may give the next transaction another session. Ten replicas that start at once wait here in turn.
_LOCK = "SELECT pg_advisory_xact_lock(hashtextextended('integration-audit migrate', 0))"


class Migrated(NamedTuple):
    """The revision before (None: there was no schema) and after."""

    before: str | None
    after: str


def migrate(database_url: str, password: str | None = None) -> Migrated:
    """Migrates to HEAD_REVISION; a second call finds nothing to do.

    Raises:
        TransientError: the database could not be used (ConfigurationError: it refused).
        ValueError: the schema is newer than this version.
    """
    # Imported here: the worker, which never migrates, need not hold them in memory.
    from alembic import command  # noqa: PLC0415
    from alembic.config import Config  # noqa: PLC0415
    from alembic.script import ScriptDirectory  # noqa: PLC0415
    from sqlalchemy import NullPool, create_engine  # noqa: PLC0415

    config = Config()
    config.set_main_option("script_location", str(_SCRIPTS))
    config.set_main_option("path_separator", "os")
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}

    def creator() -> Any:
        # libpq reads the URL, not SQLAlchemy: several hosts and Unix sockets work as everywhere else.
        connection = connect(database_url, password, application="integration-audit migrate")
        connection.autocommit = False
        return connection

    engine = create_engine("postgresql+psycopg://", creator=creator, poolclass=NullPool)
    try:
        with engine.begin() as connection:
            connection.exec_driver_sql(_LOCK)
            before = _revision(connection)
            if before is not None and before not in known:
                raise ValueError(f"the database's schema is at {before}, newer than this version knows ({HEAD_REVISION})")
            if before != HEAD_REVISION:
                if before is None:
                    connection.exec_driver_sql("CREATE SCHEMA IF NOT EXISTS audit")
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
    except psycopg.Error as error:
        raise as_failure(error) from error
    except Exception as error:
        cause = getattr(error, "orig", None)  # SQLAlchemy wraps the driver's errors
        if isinstance(cause, psycopg.Error):
            raise as_failure(cause) from error
        raise
    finally:
        engine.dispose()
    return Migrated(before, HEAD_REVISION)


def _revision(connection: Any) -> str | None:
    if connection.exec_driver_sql("SELECT to_regclass('audit.alembic_version')").scalar() is None:
        return None
    found: str | None = connection.exec_driver_sql("SELECT version_num FROM audit.alembic_version").scalar()
    return found
