"""The database of a command that needs no Kafka."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.wiring import database_connector
from consumer.core.errors import TransientError
from consumer.postgres.connection import Connection
from consumer.postgres.migrate import HEAD_REVISION
from consumer.postgres.positions import read_state
from consumer.settings import Settings, load_settings


@contextmanager
def open_database() -> Iterator[tuple[Settings, Callable[[], Connection]]]:
    """The settings, and what makes connections to a database of this version's schema; a failure inside ends the command with its code."""
    settings = load_settings(os.environ)
    settings.require_database()
    connect = database_connector(settings)
    try:
        revision = read_state(connect).revision
        if revision != HEAD_REVISION:
            newer = revision is not None and revision > HEAD_REVISION
            remedy = "install the newer version of integration-audit that made it" if newer else "run `integration-audit migrate`"
            text = f"the database's schema is at {revision or 'nothing'}, this version needs {HEAD_REVISION}: {remedy}"
            raise CommandError(text, ExitCode.SCHEMA_VERSION)
        yield settings, connect
    except TransientError as error:
        raise CommandError(str(error), ExitCode.DATABASE) from error
