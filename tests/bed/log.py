"""A log to read: written by the worker's own way, read by a role that may read and no more."""

import io
import os
import sys
import uuid
from collections.abc import Sequence
from contextlib import redirect_stderr, redirect_stdout
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import psycopg
import pytest

from consumer.cli.main import main
from consumer.core.clock import kept_range
from consumer.core.errors import TransientError
from consumer.core.events import Partition
from consumer.core.slicing import Cursor
from consumer.postgres.connection import Connection, connect
from consumer.postgres.store import PostgresStore, Written
from tests.bed.events import FakeMessage, decoder, event, message_value, slices_of

NOW = datetime.now(UTC)
TOPIC = "integration-changes"


def moment(ago: timedelta) -> str:
    """So long before now, as an event says it."""
    return (NOW - ago).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


class Done(NamedTuple):
    """A command that has ended."""

    returncode: int
    stdout: str
    stderr: str


def command_without_database(*arguments: str) -> Done:
    """Runs `integration-audit …` to its end, where no setting is made."""
    return _run(_clean(), *arguments)


def _clean() -> dict[str, str]:
    return {name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")}


def _run(environment: dict[str, str], *arguments: str) -> Done:
    before, argv = dict(os.environ), sys.argv
    out, err = io.StringIO(newline=""), io.StringIO()
    try:
        os.environ.clear()
        os.environ.update(environment)
        sys.argv = ["integration-audit", *arguments]
        with redirect_stdout(out), redirect_stderr(err), pytest.raises(SystemExit) as ended:
            main()
    finally:
        sys.argv = argv
        os.environ.clear()
        os.environ.update(before)
    return Done(int(ended.value.code or 0), out.getvalue(), err.getvalue())


class Library:
    """A database with a log, its worker and its readers."""

    def __init__(self, url: str) -> None:
        self.url = url
        self._offset = 0
        self._urls: dict[str, str] = {}
        self.store = PostgresStore(lambda: connect(self.as_role("audit_writer")), self.micros)
        self._partition = Partition(TOPIC, 0)
        self.store.open_positions({self._partition: ("id", 0)})

    @staticmethod
    def micros() -> int:
        """As the worker's clock."""
        return int(datetime.now(UTC).timestamp() * 1_000_000)

    def as_role(self, role: str) -> str:
        """The URL of a login role with nothing but this one."""
        if role in self._urls:
            return self._urls[role]
        name = f"{role.removeprefix('audit_')}_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {name} LOGIN IN ROLE {role}")  # type: ignore[call-overload]
        self._urls[role] = self.url.replace("postgres@", f"{name}@")
        return self._urls[role]

    def connect(self, role: str = "audit_reader") -> Connection:
        """A connection as a reader."""
        return connect(self.as_role(role))

    def write(self, values: Sequence[bytes], retention: timedelta = timedelta(days=3653)) -> Written:
        """What a worker does with these messages."""
        messages = [FakeMessage(value, self._offset + number, topic=TOPIC) for number, value in enumerate(values)]
        slices = slices_of(messages, {self._partition: Cursor("id", self._offset)}, decoder(), kept_range(self.micros(), retention))
        batch = self.store.prepare(slices)
        try:
            written = self.store.write(batch)
        except TransientError:  # as the worker: the same batch again
            written = self.store.write(batch)
        self._offset += len(values)
        return written

    def events(self, count: int, ago: timedelta = timedelta(hours=1), **fields: Any) -> list[str]:
        """Writes events a microsecond apart; their ids."""
        said = [event(occurred_at=moment(ago - timedelta(microseconds=number)), **fields) for number in range(count)]
        values = [message_value(**each) for each in said]
        for start in range(0, count, 5000):
            self.write(values[start : start + 5000])
        return [each["event_id"] for each in said]

    def command(self, *arguments: str, role: str = "audit_reader", **settings: str) -> Done:
        """Runs `integration-audit …` to its end, in this process: to start one takes longer than most commands do."""
        return _run(self.environment(role, **settings), *arguments)

    def environment(self, role: str = "audit_reader", **settings: str) -> dict[str, str]:
        """What the command is told."""
        return {**_clean(), "AUDIT_DATABASE_URL": self.as_role(role), "LOGNAME": "sato", **settings}

    def query(self, question: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(question, parameters or None).fetchall()  # type: ignore[call-overload,no-any-return]
