"""Exit codes by name, and the error that carries one."""

from enum import IntEnum


class ExitCode(IntEnum):
    """How the process ended; listed in the README."""

    DONE = 0
    FAILURE = 1  # unexpected
    USAGE = 2  # usage or configuration
    INPUT = 3  # a line of the input is no event
    DATABASE = 4  # PostgreSQL can't be used
    KAFKA = 5  # Kafka can't be used
    SCHEMA_VERSION = 6  # the database's schema is older or newer than this version
    FATAL_CLIENT = 7  # the Kafka client failed for good: start another process
    SHUTDOWN_TIMEOUT = 8  # the watchdog ended a stop that took longer than AUDIT_SHUTDOWN_GRACE
    DIFFERENCES = 9  # a check found something wrong


class CommandError(Exception):
    """Ends a command with one line on stderr."""

    def __init__(self, message: str, exit_code: ExitCode) -> None:
        super().__init__(message)
        self.exit_code = exit_code
