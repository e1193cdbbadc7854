"""psycopg's errors, sorted by what must be done: by type and SQLSTATE class, never by text."""

import psycopg

from consumer.core.errors import ConfigurationError, TransientError

_CONFIGURATION = ("28", "3D", "3F", "42")
_ROW = ("22", "23", "54")
NO_PARTITION = "23514"


def is_row_error(error: psycopg.Error) -> bool:
    """PostgreSQL (or psycopg, rendering) refuses the data itself: trying the same row again can't help."""
    state = error.sqlstate
    if state is None:
        return isinstance(error, psycopg.DataError)
    return state[:2] in _ROW


def is_missing_partition(error: psycopg.Error) -> bool:
    """No month holds the row: the same state as a broken CHECK, but without a constraint's name."""
    return error.sqlstate == NO_PARTITION and error.diag.constraint_name is None


def as_failure(error: psycopg.Error) -> TransientError:
    """The failure as the worker knows it. Its text is the server's primary message without details, which could hold values."""
    state = error.sqlstate
    # A failed connection has no diagnostics; libpq's own line names host and reason, and no password.
    what = error.diag.message_primary or (
        str(error).partition("\n")[0] if isinstance(error, psycopg.OperationalError) else type(error).__name__
    )
    text = f"PostgreSQL: {what}" + (f" (SQLSTATE {state})" if state else "")
    if state is not None and state[:2] in _CONFIGURATION:
        return ConfigurationError(text)
    return TransientError(text)
