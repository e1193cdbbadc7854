"""`reconcile` on a real Kafka and PostgreSQL: an honest log has no finding, and whatever somebody changed by hand is found, with its place."""

import json
import uuid
from typing import Any, NamedTuple

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer

from consumer.cli.reconcile import command
from consumer.cli.wiring import now_micros
from consumer.core.event_json import EventEncoder
from consumer.core.samples import sample_events
from tests.bed.events import ENCODER, encoded, event, events, message_value
from tests.bed.kafka import KafkaBroker, unique_topic
from tests.bed.postgres import PostgresServer
from tests.bed.raw_producer import produce_with_header_name
from tests.bed.worker import Workplace
from tests.integration.test_quarantine import evolved_schema, later_schema, schema_folder

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

DUPLICATE, CONFLICT = 30, 31
"""Offsets of partition 0: what they hold."""


class Scene(NamedTuple):
    """Topics and a database in which everything has happened that honest work can bring about."""

    place: Workplace
    server: PostgresServer
    settings: dict[str, str]
    anew: str  # the topic that was made anew
    events: list[dict[str, Any]]  # of partition 0, by offset


def publish_transaction(place: Workplace, *, commit: bool) -> None:
    """Ten events to partition 1."""
    producer = Producer({**place.kafka.client, "transactional.id": f"{place.topic}-{commit}"})
    producer.init_transactions()
    producer.begin_transaction()
    for value in encoded(events(10)):
        producer.produce(place.topic, value, partition=1)
    producer.flush()
    (producer.commit_transaction if commit else producer.abort_transaction)()


def publish_everything(place: Workplace, anew: str) -> list[dict[str, Any]]:
    """What the first drain finds; the events of partition 0."""
    good = [*sample_events(20, seed=7, now=now_micros()), *events(10)]
    garbage = [b"", b"garbage", ENCODER.encode(event())[:-1], b"x" * 110_000]
    evolved, later = EventEncoder(evolved_schema()), EventEncoder(later_schema())
    unknown = events(2)
    change = {"type": "WebhookAdded", "client_name": "Reporting", "client_id": "c-1"}
    values = [
        *encoded(good),
        ENCODER.encode(good[0]),  # DUPLICATE
        ENCODER.encode({**good[1], "tenant": "other"}),  # CONFLICT
        None,
        *garbage,
        evolved.encode(unknown[0]),  # the retry writes it
        evolved.encode(good[2]),  # the retry finds a duplicate
        later.encode(event(change=change)),
        message_value(source_ip="not an address"),
        message_value(occurred_at="1999-01-01T00:00:00Z"),
        message_value(tenant="".join(uuid.uuid4().hex for _ in range(200))),
        message_value(actor="sa\x00to", source_ip="2001:db8::7"),
        None,
    ]
    place.publish(values, partition=0)
    producer = Producer(place.kafka.client)
    producer.produce(place.topic, b"garbage", partition=0, headers=[("a", b"\x00\xff"), ("n\x00l", None)])
    assert producer.flush(30) == 0
    produce_with_header_name(place.kafka.bootstrap_servers, place.topic, b"garbage", b"\xff\xfe", 1)
    publish_transaction(place, commit=True)
    publish_transaction(place, commit=False)
    place.publish(encoded([*events(5), good[3]]), partition=1)
    place.publish(encoded(good[:4] + events(6)), partition=0, topic=anew)
    return good


@pytest.fixture(scope="module")
def scene(kafka_broker: KafkaBroker, postgres: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Scene:
    """A worker has been here, and an operator."""
    database = postgres.new_database()
    topic, anew = unique_topic(kafka_broker, 2), unique_topic(kafka_broker, 1)
    settings = {"AUDIT_KAFKA_TOPIC": f"{topic},{anew}", "AUDIT_MAX_MESSAGE_BYTES": "100 KiB", "AUDIT_QUARANTINE_LIMIT": "0"}
    place = Workplace(kafka_broker, database, topic, **settings)
    good = publish_everything(place, anew)
    place.drain()
    place.publish(encoded(events(8)), partition=1)
    kafka_broker.delete_records(topic, 1, place.ends()[1] - 3)
    kafka_broker.delete_topic(anew)
    kafka_broker.create_topic(anew, 1)
    # The same events at the same offsets, and others: of a place there may now be two rows.
    place.publish(encoded(good[:2] + events(6)), partition=0, topic=anew)
    place.drain()
    folder = schema_folder(tmp_path_factory.mktemp("schemas"), evolved_schema(), later_schema())
    done = place.command("quarantine", "retry", "--reason", "unknown schema", "--yes", AUDIT_SCHEMA_DIR=folder)
    assert done.returncode == 9, done.stderr  # the change that has no action remains
    done = place.command("quarantine", "discard", "--reason", "oversized", "--note", "too long", "--yes")
    assert done.returncode == 0, done.stderr
    assert {row[0] for row in place.query("SELECT DISTINCT reason FROM audit.quarantine")} == {
        "undecodable", "unknown schema", "invalid event", "out of range", "conflict", "unstorable", "oversized",
    }  # fmt: skip
    assert all(place.books().values())
    return Scene(place, postgres, {**settings, "AUDIT_SCHEMA_DIR": folder}, anew, good)


class Desk:
    """A copy of the scene's database, to be changed by hand, and the command."""

    def __init__(self, scene: Scene) -> None:
        self.scene = scene
        name = f"copy_{uuid.uuid4().hex[:12]}"
        with psycopg.connect(scene.server.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {scene.place.database.rpartition('/')[2]}")  # type: ignore[call-overload]
        self.url = scene.server.url(name)

    def tamper(self, *statements: str) -> None:
        """As a superuser who knows the way."""
        with psycopg.connect(self.url) as connection:
            for table in ("audit_log", "event", "quarantine", "quarantine_history"):
                connection.execute(f"ALTER TABLE audit.{table} DISABLE TRIGGER ALL")  # type: ignore[call-overload]
            for statement in statements:
                assert connection.execute(statement).rowcount > 0, statement  # type: ignore[call-overload]

    def reconcile(self, *arguments: str, code: int, **settings: str) -> list[dict[str, Any]]:
        """The findings; the summary is the last of them."""
        environment = {name: text for name, text in self.scene.place.environment.items() if name.startswith("AUDIT_")}
        environment |= {"AUDIT_DATABASE_URL": self.url, **self.scene.settings, **settings}
        done = CliRunner().invoke(command, [*arguments, "--json"], env=environment)
        assert done.exit_code == code, (done.output, done.exception)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def findings(self, *arguments: str) -> set[tuple[Any, ...]]:
        """Each finding without its text."""
        *found, last = self.reconcile(*arguments, code=9)
        assert last["summary"]["outcome"] == "differences"
        return {(*list(each.values())[:6], tuple(each["columns"])) for each in found}


@pytest.fixture
def desk(scene: Scene) -> Desk:
    """A desk of one's own."""
    return Desk(scene)


class TestHonest:
    """What a worker and an operator have done has no finding."""

    def test_nothing_is_found_and_everything_is_counted(self, desk: Desk) -> None:
        """Duplicates, conflicts, the whole quarantine, tombstones, transactions, a gap, and a topic made anew."""
        (last,) = desk.reconcile(code=0)
        summary = last["summary"]
        books = desk.scene.place.books()
        assert summary["outcome"] == "accounted for"
        assert summary["offsets"] == sum(books.values()) - 8  # which the topic made anew has twice, under two ids
        assert summary["quarantined"] == books["quarantined"]
        assert summary["tombstones"] == books["tombstones"]
        assert (summary["written"], summary["not_in_kafka"] > books["expired"]) == (books["written"], True)
