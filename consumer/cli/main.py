"""The entry point: finds the command, and turns errors into one line and a named exit code."""

import os
import sys
from importlib import import_module

import click

from consumer import __version__
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.settings import SettingsError

COMMANDS = {
    "run": "Write the events of the topics into the audit log, until told to stop.",
    "migrate": "Bring the database's schema to this version.",
    "publish": "Publish events from JSON Lines, or samples.",
    "actions": "Print the documented actions.",
    "check": "Say what is wrong with settings, connections and privileges, and the remedy.",
    "demo": "Run the whole thing on this machine, without Kafka or PostgreSQL installed.",
}


class _Lazy(click.Group):
    """Imports a command when it is used: the help of one need not wait for the libraries of all."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        if cmd_name not in COMMANDS:
            return None
        command = import_module(f"consumer.cli.{cmd_name}").command
        assert isinstance(command, click.Command)  # noqa: S101 - each module has one
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="integration-audit")
def cli() -> None:
    """Writes integration-change events from Kafka into a PostgreSQL audit log: nothing lost, nothing twice.

    Settings come from the environment (AUDIT_…) and from the file that AUDIT_CONFIG_FILE names.
    """


def main() -> None:
    """Runs the command line."""
    try:
        cli.main(standalone_mode=False)
    except click.exceptions.Exit as error:
        sys.exit(error.exit_code)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)
    except SettingsError as error:
        _end(str(error), ExitCode.USAGE)
    except CommandError as error:
        _end(str(error), error.exit_code)
    except BrokenPipeError:
        # The reader has seen enough. Python would complain once more when it flushes.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except Exception as error:
        if os.environ.get("AUDIT_LOG_LEVEL") == "debug":
            raise
        _end(f"unexpected {type(error).__name__}; AUDIT_LOG_LEVEL=debug shows where", ExitCode.FAILURE)


def _end(message: str, code: ExitCode) -> None:
    click.echo(message, err=True)
    sys.exit(code)
