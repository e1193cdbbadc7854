"""`integration-audit migrate`."""

import json
import os

import click

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.core.errors import TransientError
from consumer.postgres.migrate import UnknownRevisionError, migrate
from consumer.settings import load_settings


@click.command()
@click.option("--json", "as_json", is_flag=True, help="The outcome as a JSON object.")
def command(*, as_json: bool) -> None:
    """Bring the database's schema to this version; forward only, safe to run at any time and from many places at once.

    Needs a role that may create roles and owns the database (or a superuser). The worker's own role needs only audit_writer.
    """
    settings = load_settings(os.environ)
    settings.require_database()
    assert settings.database_url is not None  # noqa: S101 - required above
    password = settings.database_password.get_secret_value() if settings.database_password else None
    try:
        before, after = migrate(settings.database_url.get_secret_value(), password)
    except UnknownRevisionError as error:
        raise CommandError(str(error), ExitCode.SCHEMA_VERSION) from error
    except TransientError as error:
        raise CommandError(str(error), ExitCode.DATABASE) from error
    if as_json:
        click.echo(json.dumps({"before": before, "after": after}))
    elif before == after:
        click.echo(f"already at {after}")
    else:
        click.echo(f"migrated from {before or 'nothing'} to {after}")
