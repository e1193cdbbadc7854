"""One connection to PostgreSQL, made when it is needed, thrown away on any error, and cut from outside when the server is frozen."""

import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import psycopg

CONNECT_TIMEOUT = 5
"""Seconds; libpq's own default is to wait for the kernel, over two minutes."""

ANSWER_TIMEOUT = 10.0
"""Seconds for a short question outside the worker's writes, such as for the schema's version."""

Row = tuple[Any, ...]
Connection = psycopg.Connection[Row]


def connect(url: str, password: str | None = None, *, application: str = "integration-audit") -> Connection:
    """A connection in autocommit mode: every transaction is begun and ended in plain sight.

    Server-side prepared statements are off, since PgBouncer in transaction mode can't keep them.
    """
    extra: dict[str, Any] = {} if password is None else {"password": password}
    return psycopg.connect(
        url,
        autocommit=True,
        prepare_threshold=None,
        connect_timeout=CONNECT_TIMEOUT,
        fallback_application_name=application,
        **extra,
    )


class ConnectionKeeper:
    """Holds at most one connection, for one thread; `cut` may be called from another."""

    def __init__(self, connect: Callable[[], Connection]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    @contextmanager
    def use(self) -> Iterator[Connection]:
        """The connection; after any error it is closed, since its state is unknown."""
        if self._connection is None or self._connection.closed:
            self._connection = self._connect()
        try:
            yield self._connection
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Closes the connection, if there is one."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(psycopg.Error):
                connection.close()

    def cut(self) -> None:
        """Ends a call that hangs."""
        if self._connection is not None:
            cut(self._connection)


def cut(connection: Connection) -> None:
    """Shuts the socket down under a call that hangs: no server setting ends a wait for a frozen server."""
    if connection.closed:
        return
    with suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as raw:
        raw.shutdown(socket.SHUT_RDWR)


@contextmanager
def briefly(connect: Callable[[], Connection]) -> Iterator[Connection]:
    """A connection for a short question, which is cut after ANSWER_TIMEOUT."""
    with connect() as connection:
        timer = threading.Timer(ANSWER_TIMEOUT, cut, (connection,))
        timer.daemon = True
        timer.start()
        try:
            yield connection
        finally:
            timer.cancel()
