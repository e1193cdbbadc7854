"""What is said of an error that ends the process, or a thread: a line on stderr, or one of the log where a command writes a log.

Without the text of an error that is not ours, which could hold an event's values: PostgreSQL's hold whole rows, and a driver's a password.
"""

import os
import sys
import threading
import traceback
from typing import NoReturn

import click

from consumer.cli.exit_codes import ExitCode

_HINT = "AUDIT_LOG_LEVEL=debug shows where"


class LastWords:
    """Belongs to the process: `main` makes it, a command finds it as click's `obj`."""

    def __init__(self) -> None:
        self._logged = False

    def log(self) -> None:
        """From now on stderr is a log, set up by `configure_logging`."""
        self._logged = True

    def end(self, reason: str, code: ExitCode, where: str | None = None) -> NoReturn:
        """Says the reason and ends the process by its code."""
        if self._logged:
            import structlog  # noqa: PLC0415 - here, for most commands write no log

            structlog.get_logger().error("failed", reason=reason, exit_code=int(code), where=where)
        else:
            click.echo(where or reason, err=True)
        sys.exit(code)

    def end_unexpected(self, error: Exception) -> NoReturn:
        """Likewise, for a mistake of ours: by its type, and its places where that is asked for."""
        name = f"unexpected {type(error).__name__}"
        if _debug():
            self.end(name, ExitCode.FAILURE, places(error))
        self.end(f"{name}; {_HINT}", ExitCode.FAILURE)

    def thread_failed(self, failed: threading.ExceptHookArgs) -> None:
        """Instead of Python's own, which prints the error's text. The process goes on."""
        thread = failed.thread.name if failed.thread else "?"
        where = places(failed.exc_value) if failed.exc_value is not None and _debug() else None
        if self._logged:
            import structlog  # noqa: PLC0415 - as above

            structlog.get_logger().error("thread failed", error=failed.exc_type.__name__, thread=thread, where=where)
            return
        click.echo(f"unexpected {failed.exc_type.__name__} in the thread {thread}", err=True)
        if where is not None:
            click.echo(where, err=True)


def _debug() -> bool:
    return os.environ.get("AUDIT_LOG_LEVEL", "").lower() == "debug"


def places(error: BaseException) -> str:
    """Where in the code an error and its causes were raised, and their types; never their texts."""
    chain: list[BaseException] = []
    step: BaseException | None = error
    while step is not None and step not in chain:
        chain.insert(0, step)
        step = step.__cause__ or step.__context__
    said = []
    for each in chain:
        said += ["Traceback (most recent call last):\n", *traceback.format_tb(each.__traceback__)]
        said.append(f"{type(each).__module__}.{type(each).__qualname__} (what it says may hold an event's values, and is not shown)\n")
    return "".join(said).rstrip("\n")
