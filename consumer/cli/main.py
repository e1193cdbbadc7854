"""The entry point: finds the command, and turns errors into one line and a named exit code."""

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import click

from consumer import __version__
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.interruption import like_ctrl_c
from consumer.cli.last_words import LastWords
from consumer.cli.pipes import forget_stdout, reader_is_gone
from consumer.settings import SettingsError

COMMANDS = {
    "run": "Write the events of the topics into the audit log, until told to stop.",
    "migrate": "Bring the database's schema to this version.",
    "publish": "Publish events from JSON Lines, or samples.",
    "actions": "Print the documented actions.",
    "validate": "Say what the worker would do with a file or a topic, message by message.",
    "check": "Say what is wrong with settings, connections and privileges, and the remedy.",
    "log": "Show the audit log, filtered, newest first, or follow it live.",
    "export": "Export the audit log into files: CSV, JSON Lines or Parquet.",
    "retention": "Show which months go, remove them, or hold them.",
    "quarantine": "See, retry or discard the messages that could not be in the log.",
    "position": "Show where the partitions stand, or set them elsewhere: by hand, or from another group.",
    "reconcile": "Compare log, quarantine and books with the topics, read again offset by offset.",
    "demo": "Run the whole thing on this machine, without Kafka or PostgreSQL installed.",
}


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """A reader that has seen enough, such as `head`, is no failure; click itself would make it exit code 1."""
    try:
        yield
    except BrokenPipeError as error:
        if not reader_is_gone():  # a socket breaks by the same error, and that is a failure
            raise ConnectionError("a connection broke") from error
        forget_stdout()
        raise click.exceptions.Exit(ExitCode.DONE) from error


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

    def make_context(self, info_name: str | None, args: list[str], *more: Any, **extra: Any) -> click.Context:
        """Reads the arguments; `--help` already prints here."""
        with _reader_may_leave():
            return super().make_context(info_name, args, *more, **extra)

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's signature
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))


@click.group(cls=_Lazy)
@click.version_option(__version__, prog_name="integration-audit")
@click.pass_context
def cli(context: click.Context) -> None:
    """Writes integration-change events from Kafka into a PostgreSQL audit log: nothing lost, nothing twice.

    Settings come from the environment (AUDIT_…) and from the file that AUDIT_CONFIG_FILE names.
    """
    if context.invoked_subcommand != "run":  # which stops gracefully
        context.with_resource(like_ctrl_c())


def main() -> None:
    """Runs the command line."""
    last_words = LastWords()
    threading.excepthook = last_words.thread_failed
    try:
        # Click returns the code of a command that ended by Exit, instead of raising it.
        status = cli.main(standalone_mode=False, obj=last_words)
        sys.stdout.flush()  # here, while a closed pipe can still be met quietly
        sys.exit(status if isinstance(status, int) else ExitCode.DONE)
    except click.ClickException as error:
        error.show()
        sys.exit(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(ExitCode.INTERRUPTED)
    except SettingsError as error:
        last_words.end(str(error), ExitCode.USAGE)
    except CommandError as error:
        last_words.end(str(error), error.exit_code)
    except BrokenPipeError:
        forget_stdout()
    except Exception as error:  # noqa: BLE001 - the last resort: without the error's own text, which could hold an event's values
        last_words.end_unexpected(error)
