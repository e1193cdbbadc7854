"""Exit codes by name, and the error that carries one."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How the process ended; listed in the README."""

    DONE = 0
    """All is done, or the worker was stopped gracefully."""

    FAILURE = 1
    """Unexpected: a mistake of ours."""

    USAGE = 2
    """The command line or the configuration can't be used."""

    INPUT = 3
    """A line of the input is no event."""

    DATABASE = 4
    """PostgreSQL can't be used."""

    KAFKA = 5
    """Kafka can't be used."""

    SCHEMA_VERSION = 6
    """The database's schema is older or newer than this version."""

    FATAL_CLIENT = 7
    """The Kafka client failed for good: start another process."""

    SHUTDOWN_TIMEOUT = 8
    """The watchdog ended a stop that took longer than AUDIT_SHUTDOWN_GRACE."""

    DIFFERENCES = 9
    """A check found something wrong."""

    HELD = 10
    """All is drained but partitions that are held until somebody mends what the message says."""

    REGISTRY = 11
    """The schema registry can't be used."""

    INTERRUPTED = 130
    """Interrupted: SIGINT, SIGTERM or SIGHUP, to any command but `run`."""


class CommandError(Exception):
    """Ends a command with one line on stderr."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code
