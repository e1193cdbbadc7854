"""`reconcile` on a real Kafka and PostgreSQL: an honest log has no finding, and what somebody changed by hand is found, with its place."""

import contextlib
import json
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Producer
from confluent_kafka.admin import AclBinding, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from consumer.cli.reconcile import command
from consumer.cli.wiring import now_micros
from consumer.core.errors import TopicUnreadableError
from consumer.core.event_json import EventEncoder
from consumer.core.events import Partition
from consumer.core.findings import Finding
from consumer.core.samples import sample_events
from consumer.kafka.reader import PartitionReader
from consumer.kafka.topics import Topics
from consumer.operations.reconcile import Progress, Reconciliation, Scope
from consumer.postgres.connection import connect
from consumer.postgres.evidence import Evidence
from consumer.postgres.rows import LOG_COLUMNS
from tests.bed.events import ENCODER, decoder, encoded, event, events, message_value
from tests.bed.kafka import KafkaBroker, unique_topic
from tests.bed.postgres import PostgresServer
from tests.bed.raw_producer import produce_with_header_name
from tests.bed.worker import Workplace, wait_until
from tests.integration.test_quarantine import evolved_schema, later_schema, schema_folder

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

DUPLICATE, CONFLICT, TOMBSTONE, GARBAGE, OVERSIZED, RETRIED, HEADERS, END = 30, 31, 32, 34, 36, 37, 45, 47
"""Offsets of partition 0: what they hold. Before them are events. Of partition 1 only what lies behind 33 is still in Kafka."""

AUTHORIZER = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"

READER = f"reader_{uuid.uuid4().hex[:8]}"
"""A role that has audit_reader and nothing else: the only one that the command is given."""

_MONTHS = "SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass"

BOOKS_WRITTEN = ("books", "consumer_position", "written")


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
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {READER} LOGIN IN ROLE audit_reader")  # type: ignore[call-overload]
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
        self.evidence = Evidence(lambda: connect(self.url))

    @property
    def topic(self) -> str:
        """The topic that was not made anew."""
        return self.scene.place.topic

    def event_id(self, offset: int) -> str:
        """Of an event of partition 0."""
        return str(self.scene.events[offset]["event_id"])

    def true_hash(self, offset: int) -> str:
        """What content_hash must be for the row of partition 0 to be consistent, as a literal."""
        with self.evidence.snapshot() as snapshot:
            ((row,),) = snapshot.rows(Partition(self.topic, 0), offset, offset + 1).values()
        return f"'\\x{row.true_hash.hex()}'"

    def at(self, offset: int, partition: int = 0) -> str:
        """The place, as a condition."""
        return f"kafka_topic = '{self.topic}' AND kafka_partition = {partition} AND kafka_offset = {offset}"

    def ask(self, question: str) -> list[Any]:
        """The first column."""
        with psycopg.connect(self.url) as connection:
            return [row[0] for row in connection.execute(question)]  # type: ignore[call-overload]

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
        environment |= {"AUDIT_DATABASE_URL": self.url.replace("postgres@", f"{READER}@"), **self.scene.settings, **settings}
        done = CliRunner().invoke(command, [*arguments, "--json"], env=environment)
        assert done.exit_code == code, (done.output, done.exception)
        return [json.loads(line) for line in done.stdout.splitlines()]

    def findings(self, *arguments: str) -> list[tuple[Any, ...]]:
        """Finding, table, columns, and what is known of the place; without the text and, of this topic, without the topic."""
        *found, last = self.reconcile(*arguments, code=9)
        assert last["summary"]["outcome"] == "differences"
        assert last["summary"]["findings"] == len(found)
        told = []
        for each in found:
            place = [each[name] for name in ("topic", "partition", "offset", "event_id") if each[name] not in (None, self.topic)]
            told.append((each["finding"], each["table"], ",".join(each["columns"]), *place))
        return sorted(told, key=str)


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
        (lost,) = summary["expired"]
        assert (lost["topic"], lost["partition"], lost["next_offset"] - lost["first_offset"]) == (desk.topic, 1, books["expired"])
        (last,) = desk.reconcile("--topic", desk.topic, "--partition", "1", "--to-offset", str(lost["first_offset"]), code=0)
        assert last["summary"]["expired"] == []


def moved(**columns: str) -> str:
    """A copy of a row of the log, some columns otherwise; `{}` is for the condition."""
    names = [name.strip() for name in LOG_COLUMNS.split(",")]
    return (
        f"INSERT INTO audit.audit_log ({LOG_COLUMNS}) SELECT {', '.join(columns.get(name, name) for name in names)}"
        " FROM audit.audit_log WHERE {}"
    )


class TestRowsOfTheLog:
    """By a superuser who has silenced the triggers."""

    def test_a_deleted_row(self, desk: Desk) -> None:
        """With its place, its event, and the books that remember it."""
        desk.tamper(f"DELETE FROM audit.audit_log WHERE {desk.at(5)}")
        assert desk.findings() == [(*BOOKS_WRITTEN, 0), ("missing", "audit_log", "", 0, 5, desk.event_id(5))]

    def test_a_row_deleted_from_the_ledger_too(self, desk: Desk) -> None:
        """Kafka remembers it."""
        desk.tamper(f"DELETE FROM audit.audit_log WHERE {desk.at(5)}", f"DELETE FROM audit.event WHERE event_id = '{desk.event_id(5)}'")
        assert desk.findings() == [(*BOOKS_WRITTEN, 0), ("missing", "audit_log", "", 0, 5, desk.event_id(5))]

    def test_a_deleted_row_that_has_duplicates(self, desk: Desk) -> None:
        """Wherever Kafka has the event, it is missing."""
        desk.tamper(f"DELETE FROM audit.audit_log WHERE event_id = '{desk.event_id(0)}'")  # wherever it came first
        found = desk.findings()
        for place in ((0, 0), (0, DUPLICATE), (desk.scene.anew, 0, 0)):
            assert ("missing", "audit_log", "", *place, desk.event_id(0)) in found

    def test_changed_columns(self, desk: Desk) -> None:
        """Each by its name, at its place; a time is in the ledger too."""
        changes = [
            ("tenant", "'x'"), ("login_name", "'x'"), ("result", "'FAILED'"), ("error_code", "'x'"), ("subject_type", "'x'"),
            ("service", "'x'"), ("level", "'Information'"), ("module", "'Integrations'"), ("source_ip", "'198.51.100.1'"),
            ("action", "'add oauth client'"),
        ]  # fmt: skip
        samples = [
            ("source_bytes", "'x'"), ("complement", """complement || '{"more": 1}'"""), ("complement", "'{}'"),
            ("occurred_at", "occurred_at + interval '1 microsecond'"),
            ("source_ip", "set_masklen(coalesce(source_ip, '192.0.2.7'), 24)"),
        ]  # fmt: skip
        places = (
            dict(zip(range(20, 30), changes, strict=True))
            | dict(zip(range(5, 10), samples, strict=True))
            | {10: ("content_hash", "sha256('x')")}
        )
        desk.tamper(
            *(f"UPDATE audit.audit_log SET {column} = {value} WHERE {desk.at(offset)}" for offset, (column, value) in places.items())
        )
        expected = [("different", "audit_log", column, 0, offset, desk.event_id(offset)) for offset, (column, _) in places.items()]
        expected.append(("different", "event", "occurred_at", 0, 8, desk.event_id(8)))
        expected.append(("missing", "audit_log", "", desk.event_id(8)))
        assert desk.findings() == sorted(expected, key=str)

    def test_another_event_id(self, desk: Desk) -> None:
        """The row at the place is not of the event."""
        other = str(uuid.uuid4())
        desk.tamper(f"UPDATE audit.audit_log SET event_id = '{other}' WHERE {desk.at(6)}")
        found = desk.findings()
        assert ("different", "audit_log", "event_id", 0, 6, desk.event_id(6)) in found
        assert ("missing", "event", "", 0, 6, other) in found

    def test_a_row_changed_together_with_its_hash_and_the_ledger(self, desk: Desk) -> None:
        """Nothing in the database contradicts it; Kafka does."""
        desk.tamper(f"UPDATE audit.audit_log SET login_name = 'nobody' WHERE {desk.at(26)}")
        true = desk.true_hash(26)
        desk.tamper(
            f"UPDATE audit.audit_log SET content_hash = {true} WHERE {desk.at(26)}",
            f"UPDATE audit.event SET content_hash = {true} WHERE event_id = '{desk.event_id(26)}'",
        )
        assert desk.findings() == [
            ("different", "audit_log", "login_name,content_hash", 0, 26, desk.event_id(26)),
            ("different", "event", "content_hash", 0, 26, desk.event_id(26)),
        ]

    def test_a_doubled_row(self, desk: Desk) -> None:
        """The key lets it in with another time."""
        desk.tamper(moved(occurred_at="occurred_at + interval '1 microsecond'").format(desk.at(7)))
        assert desk.findings() == [(*BOOKS_WRITTEN, 0), ("doubled", "audit_log", "occurred_at", 0, 7, desk.event_id(7))]

    def test_forged_rows(self, desk: Desk) -> None:
        """Known to the ledger, consistent, at places that are another message's, or nobody's."""
        offsets = [DUPLICATE, CONFLICT, TOMBSTONE, GARBAGE, OVERSIZED, 8, 1_000_000, END]
        forged = {offset: str(uuid.uuid4()) for offset in offsets}
        for offset, event_id in forged.items():
            desk.tamper(moved(event_id=f"'{event_id}'", kafka_offset=str(offset), content_hash="'x'").format(desk.at(7)))
            with desk.evidence.snapshot() as snapshot:
                rows = snapshot.rows(Partition(desk.topic, 0), offset, offset + 1)[offset]
            (true,) = (f"'\\x{row.true_hash.hex()}'" for row in rows if row.record.event_id == event_id)
            desk.tamper(
                f"INSERT INTO audit.event SELECT event_id, occurred_at, {true} FROM audit.audit_log WHERE event_id = '{event_id}'",
                f"UPDATE audit.audit_log SET content_hash = {true} WHERE event_id = '{event_id}'",
            )
        expected = [("extra", "audit_log", "", 0, offset, event_id) for offset, event_id in forged.items()]
        assert desk.findings() == sorted([(*BOOKS_WRITTEN, 0), *expected], key=str)

    def test_a_row_of_a_topic_that_nobody_reads(self, desk: Desk) -> None:
        """Its place is nobody's."""
        desk.tamper(f"UPDATE audit.audit_log SET kafka_topic = 'elsewhere' WHERE {desk.at(9)}")
        assert ("extra", "audit_log", "", "elsewhere", 0, 9, desk.event_id(9)) in desk.findings()

    def test_a_moved_row(self, desk: Desk) -> None:
        """To a tombstone's place: there it is too many, and where it was its message looks like an earlier duplicate."""
        desk.tamper(f"UPDATE audit.audit_log SET kafka_offset = {TOMBSTONE} WHERE {desk.at(9)}")
        assert desk.findings() == [
            ("books", "consumer_position", "duplicates", 0),
            ("different", "audit_log", "kafka_offset", 0, 9, desk.event_id(9)),
            ("extra", "audit_log", "", 0, TOMBSTONE, desk.event_id(9)),
        ]

    def test_what_a_retry_has_written(self, desk: Desk) -> None:
        """Its row has the place of the quarantined message, and can be missing or changed like any other."""
        desk.tamper(f"UPDATE audit.audit_log SET tenant = 'x' WHERE {desk.at(RETRIED)}")
        ((*found, _),) = desk.findings()
        assert found == ["different", "audit_log", "tenant", 0, RETRIED]
        desk.tamper(f"DELETE FROM audit.audit_log WHERE {desk.at(RETRIED)}")
        books, (*found, _) = desk.findings()
        assert (books, found) == ((*BOOKS_WRITTEN, 0), ["missing", "audit_log", "", 0, RETRIED])

    def test_where_kafka_has_nothing_any_more(self, desk: Desk) -> None:
        """A changed row contradicts its hash, a deleted or forged one the books."""
        (event_id,) = desk.ask(f"SELECT event_id::text FROM audit.audit_log WHERE {desk.at(3, 1)}")
        desk.tamper(f"UPDATE audit.audit_log SET tenant = 'x' WHERE {desk.at(3, 1)}")
        assert desk.findings() == [("different", "audit_log", "content_hash", 1, 3, event_id)]
        desk.tamper(f"DELETE FROM audit.audit_log WHERE {desk.at(3, 1)}", f"DELETE FROM audit.event WHERE event_id = '{event_id}'")
        assert desk.findings() == [(*BOOKS_WRITTEN, 1)]

    def test_a_topic_made_anew(self, desk: Desk) -> None:
        """At a place that both topics have there are two rows: either may be missing, and there can't be a third."""
        anew = desk.scene.anew
        place = f"kafka_topic = '{anew}' AND kafka_offset = 5"
        old, new = desk.ask(f"SELECT event_id::text FROM audit.audit_log WHERE {place} ORDER BY recorded_at")
        third = str(uuid.uuid4())
        desk.tamper(moved(event_id=f"'{third}'").format(f"{place} AND event_id = '{new}'"))
        found = desk.findings()
        assert ("extra", "audit_log", "", anew, 0, 5, third) in found
        assert (*BOOKS_WRITTEN, anew, 0) in found
        desk.tamper(f"DELETE FROM audit.audit_log WHERE event_id IN ('{third}', '{new}')")
        assert ("missing", "audit_log", "", anew, 0, 5, new) in desk.findings()
        desk.tamper(f"DELETE FROM audit.audit_log WHERE event_id = '{old}'")
        assert ("missing", "audit_log", "", old) in desk.findings()


class TestDeedsThatFitTogether:
    """Rows, ledger and books changed so that each fits the others: only Kafka knows better."""

    @staticmethod
    def erased(desk: Desk, *offsets: int) -> tuple[str, ...]:
        """Events gone from log and ledger."""
        ids = ", ".join(f"'{desk.event_id(offset)}'" for offset in offsets)
        return f"DELETE FROM audit.audit_log WHERE event_id IN ({ids})", f"DELETE FROM audit.event WHERE event_id IN ({ids})"

    def position(self, desk: Desk, change: str) -> str:
        """The position of partition 0 of the topic, otherwise."""
        return f"UPDATE audit.consumer_position SET {change} WHERE kafka_topic = '{desk.topic}' AND kafka_partition = 0"

    def test_a_beginning_cut_off(self, desk: Desk) -> None:
        """The position begins later, and says it has written less."""
        desk.tamper(*self.erased(desk, 5), self.position(desk, "first_offset = 6, written = written - 6"))
        assert ("missing", "consumer_position", "", 0, 0) in desk.findings()

    @pytest.mark.parametrize("change", ["kafka_topic_id = 'another'", None])
    def test_a_position_taken_away(self, desk: Desk, change: str | None) -> None:
        """Under another id its offsets would be of an older topic; without any, nobody would ask."""
        taken = f"DELETE FROM audit.consumer_position WHERE kafka_topic = '{desk.topic}' AND kafka_partition = 0"
        desk.tamper(self.position(desk, change) if change else taken)
        assert ("missing", "consumer_position", "", 0, 0) in desk.findings()

    def test_an_event_hidden_as_a_conflict(self, desk: Desk) -> None:
        """The ledger has no other event of its id."""
        desk.tamper(
            *self.erased(desk, 5),
            "INSERT INTO audit.quarantine (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, key, value, headers)"
            " SELECT kafka_topic, kafka_topic_id, 0, 5, 'conflict', error, '5', value, headers FROM audit.quarantine LIMIT 1",
            self.position(desk, "written = written - 1, quarantined = quarantined + 1"),
        )
        assert ("different", "quarantine", "reason", 0, 5, desk.event_id(5)) in desk.findings()

    def test_a_removal_that_retention_could_not_have_made(self, desk: Desk) -> None:
        """The month is still there, and younger than any retention."""
        (month,) = desk.ask(f"SELECT date_trunc('month', occurred_at AT TIME ZONE 'UTC')::date FROM audit.audit_log WHERE {desk.at(5)}")
        desk.tamper(
            *self.erased(desk, 5),
            "INSERT INTO audit.operation_history (who, action, detail) VALUES ('me', 'removal began', '{}')",
            f"INSERT INTO audit.retention_month SELECT '{month}', max(id) FROM audit.operation_history",
            f"INSERT INTO audit.retention_history VALUES ('{month}', '{desk.topic}', 0, 1, 5, 5)",
        )
        assert ("missing", "audit_log", "", 0, 5, desk.event_id(5)) in desk.findings()


class TestTheOtherTables:
    """Quarantine, ledger, books."""

    def test_altered_messages(self, desk: Desk) -> None:
        """Their bytes, their reasons, their statuses."""
        changes = [
            (33, "value", "'x'"), (GARBAGE, "value", "NULL"), (35, "key", "NULL"), (HEADERS, "headers", """'[["a", null]]'"""),
            (CONFLICT, "reason", "'invalid event'"), (40, "reason", "'conflict'"), (41, "status", "'discarded'"),
            (OVERSIZED, "status", "'open'"), (42, "headers", "'[]'"),
        ]  # fmt: skip
        desk.tamper(*(f"UPDATE audit.quarantine SET {column} = {value} WHERE {desk.at(offset)}" for offset, column, value in changes))
        expected = [("different", "quarantine", column, 0, offset) for offset, column, _ in changes]
        assert desk.findings() == sorted(expected, key=str)

    def test_a_deleted_message(self, desk: Desk) -> None:
        """Kafka and the books remember it."""
        desk.tamper(f"DELETE FROM audit.quarantine WHERE {desk.at(GARBAGE)}")
        assert desk.findings() == [("books", "consumer_position", "quarantined", 0), ("missing", "quarantine", "", 0, GARBAGE)]

    def test_a_forged_message(self, desk: Desk) -> None:
        """At the place of an event, and at nobody's."""
        copy = (
            "INSERT INTO audit.quarantine (kafka_topic, kafka_topic_id, kafka_partition, kafka_offset, reason, error, key, value)"
            " SELECT kafka_topic, kafka_topic_id, kafka_partition, {}, reason, error, key, value FROM audit.quarantine WHERE {}"
        )
        desk.tamper(copy.format(TOMBSTONE, desk.at(GARBAGE)), copy.format(999, desk.at(GARBAGE)))
        assert desk.findings() == [
            ("books", "consumer_position", "quarantined", 0),
            ("extra", "quarantine", "", 0, TOMBSTONE),
            ("extra", "quarantine", "", 0, 999),
        ]

    def test_a_history_that_was_deleted(self, desk: Desk) -> None:
        """Nobody retried it, they say; then why is it in the log?"""
        desk.tamper(
            f"DELETE FROM audit.quarantine_history WHERE quarantine_id = (SELECT id FROM audit.quarantine WHERE {desk.at(RETRIED)})"
        )
        found = desk.findings()
        assert ("different", "quarantine", "status", 0, RETRIED) in found
        assert ("extra", "audit_log", "", 0, RETRIED) in [each[:5] for each in found]

    @pytest.mark.parametrize(
        ("columns", "found"),
        [
            ("written = written + 1, duplicates = duplicates - 1", ["written", "duplicates"]),
            ("quarantined = quarantined - 1, tombstones = tombstones + 1", ["quarantined", "tombstones"]),
            ("tombstones = tombstones - 1, skipped = skipped + 1", ["tombstones", "skipped"]),
            ("expired = expired + 1, skipped = skipped - 1", ["expired", "skipped"]),
        ],
    )
    def test_changed_books(self, desk: Desk, columns: str, found: list[str]) -> None:
        """Even if they still add up."""
        constraint = "ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check"
        with psycopg.connect(desk.url) as connection:
            connection.execute(constraint)
        desk.tamper(f"UPDATE audit.consumer_position SET {columns} WHERE kafka_topic = '{desk.topic}' AND kafka_partition = 0")
        assert sorted(each[2] for each in desk.findings()) == sorted(found)

    def test_books_that_do_not_add_up(self, desk: Desk) -> None:
        """The constraint taken away."""
        with psycopg.connect(desk.url) as connection:
            connection.execute("ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check")
        desk.tamper(f"UPDATE audit.consumer_position SET skipped = 7 WHERE kafka_topic = '{desk.topic}' AND kafka_partition = 0")
        assert ("books", "consumer_position", "", 0) in desk.findings()

    def test_a_position_set_back_or_forward(self, desk: Desk) -> None:
        """What it no longer covers is nobody's; and Kafka never had what it covers too much."""
        where = f"WHERE kafka_topic = '{desk.topic}' AND kafka_partition = 0"
        desk.tamper(f"UPDATE audit.consumer_position SET next_offset = next_offset - 1, quarantined = quarantined - 1 {where}")
        assert desk.findings() == [("extra", "quarantine", "", 0, END - 1)]
        desk.tamper(f"UPDATE audit.consumer_position SET next_offset = next_offset + 2, quarantined = quarantined + 1, skipped = 1 {where}")
        assert desk.findings() == [("missing", "Kafka", "", 0, END)]

    def test_the_ledger(self, desk: Desk) -> None:
        """An event that it forgot, one that it knows otherwise, one that it made up."""
        forged = str(uuid.uuid4())
        desk.tamper(
            f"DELETE FROM audit.event WHERE event_id = '{desk.event_id(10)}'",
            f"UPDATE audit.event SET content_hash = '\\x00' WHERE event_id = '{desk.event_id(11)}'",
            f"INSERT INTO audit.event VALUES ('{forged}', now(), '\\x00')",
        )
        assert desk.findings() == [
            ("different", "event", "content_hash", 0, 11, desk.event_id(11)),
            ("missing", "audit_log", "", forged),
            ("missing", "event", "", 0, 10, desk.event_id(10)),
        ]

    def test_a_gap_that_was_deleted(self, desk: Desk) -> None:
        """The books say that offsets expired; which ones is told in source_gap alone."""
        desk.tamper("DELETE FROM audit.source_gap")
        assert desk.findings() == [("books", "source_gap", "expired", 1)]


class TestCommand:
    """Its arguments, its codes, its words."""

    def test_a_range(self, desk: Desk) -> None:
        """Only what is inside is looked at."""
        desk.tamper(f"DELETE FROM audit.audit_log WHERE {desk.at(5)}")
        place = ("--topic", desk.topic, "--partition", "0")
        assert desk.findings(*place, "--from-offset", "5", "--to-offset", "6") == [("missing", "audit_log", "", 0, 5, desk.event_id(5))]
        (last,) = desk.reconcile(*place, "--from-offset", "6", code=0)
        assert last["summary"]["offsets"] == END - 6
        for nothing in (("--topic", desk.topic, "--partition", "77"), (*place, "--from-offset", "900000")):
            assert desk.reconcile(*nothing, code=2) == []
        (last,) = desk.reconcile("--topic", desk.scene.anew, code=0)
        assert last["summary"]["partitions"] == 1

    def test_for_people(self, desk: Desk) -> None:
        """One finding a line, a summary on stderr, and no value of an event."""
        desk.tamper(f"UPDATE audit.audit_log SET tenant = 'hidden' WHERE {desk.at(25)}")
        settings = {**desk.scene.settings, "AUDIT_DATABASE_URL": desk.url}
        done = desk.scene.place.command("reconcile", **settings)
        assert done.returncode == 9, done.stderr
        header, line = done.stdout.splitlines()
        found = dict(zip(header.split("\t"), line.split("\t"), strict=True))
        detail = "the row is not what Kafka has here; its content_hash does not fit the row"
        assert found == {
            "finding": "different", "table": "audit_log", "topic": desk.topic, "partition": "0", "offset": "25",
            "event_id": desk.event_id(25), "columns": "tenant", "detail": detail,
        }  # fmt: skip
        assert "1 findings: different 1" in done.stderr
        assert "hidden" not in done.stderr

    def test_a_schema_that_is_not_known_here(self, desk: Desk) -> None:
        """What can't be compared is no success, and the remedy is named."""
        *found, _ = desk.reconcile(code=9, AUDIT_SCHEMA_DIR="")
        (only,) = found
        assert (only["finding"], only["offset"]) == ("unreadable", RETRIED)
        assert "AUDIT_SCHEMA_DIR" in only["detail"]

    def test_no_kafka_no_database_no_sense(self, desk: Desk) -> None:
        """Each has its code and one line."""
        for code, arguments in (
            (2, ("--from-offset", "1")),
            (2, ("--topic", desk.topic, "--partition", "0", "--from-offset", "2", "--to-offset", "2")),
            (2, ("--topic", "unknown")),
            (2, ("--partition", "0")),
        ):
            assert desk.reconcile(*arguments, code=code) == []
        for code, name, settings in (
            (4, "PostgreSQL", {"AUDIT_DATABASE_URL": "postgresql://127.0.0.1:1/none"}),
            (5, "Kafka", {"AUDIT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}),
        ):
            done = desk.scene.place.command("reconcile", **settings)
            assert (done.returncode, done.stdout) == (code, ""), done.stderr
            assert done.stderr.startswith(name)
            assert len(done.stderr.splitlines()) == 1


class TestMeanwhile:
    """What happens while it reads."""

    def test_a_worker_and_a_retry(self, kafka_broker: KafkaBroker, database: str, topic: str, tmp_path: Path) -> None:
        """Workers write and an operator retries: never a difference."""
        place = Workplace(kafka_broker, database, topic, AUDIT_BATCH_MAX_MESSAGES="50", AUDIT_QUARANTINE_LIMIT="0")
        encoder = EventEncoder(evolved_schema())
        settings = {**place.environment, "AUDIT_SCHEMA_DIR": schema_folder(tmp_path, evolved_schema())}
        good = events(600)
        with place.worker():
            wait_until(lambda: len(place.positions()) == len(place.ends()), "every partition has a position")
            for number in range(0, 600, 200):
                some = good[number : number + 200]
                place.publish([*encoded(some), *encoded(some[:20]), *(encoder.encode(event()) for _ in range(20)), None])
                done = CliRunner().invoke(command, [], env=settings)
                assert done.exit_code == 0, (done.output, done.exception)
                retry = place.command("quarantine", "retry", "--all", "--yes", AUDIT_SCHEMA_DIR=settings["AUDIT_SCHEMA_DIR"])
                assert retry.returncode == 0, retry.stderr
            wait_until(lambda: place.positions() == place.ends(), "all is written")
        done = CliRunner().invoke(command, ["--json"], env=settings)
        assert done.exit_code == 0, done.output
        assert json.loads(done.stdout)["summary"]["written"] == 600

    def test_what_retention_has_removed(self, kafka_broker: KafkaBroker, database: str, topic: str, tmp_path: Path) -> None:
        """By its own records: rows, duplicates and a retry of a month that is gone; and a row of another month deleted by hand is found."""
        place = Workplace(kafka_broker, database, topic)
        old = (datetime.now(UTC) - timedelta(days=600)).strftime("%Y-%m-15T09:00:00Z")
        gone = [event(occurred_at=old) for _ in range(20)]
        late = EventEncoder(evolved_schema()).encode(event(occurred_at=old))
        values = [*encoded(gone), *encoded(gone[:5]), late, *encoded(events(30))]
        place.publish(values, partition=0)
        place.drain()
        schemas = schema_folder(tmp_path, evolved_schema())
        retry = place.command("quarantine", "retry", "--all", "--yes", AUDIT_SCHEMA_DIR=schemas)
        assert retry.returncode == 0, retry.stderr
        removal = place.command("retention", "apply", "--yes", "--shorten", AUDIT_RETENTION="400 days")
        assert removal.returncode == 0, removal.stderr
        assert place.value("SELECT count(*) FROM audit.audit_log") == 30
        settings = {**place.environment, "AUDIT_SCHEMA_DIR": schemas}
        done = CliRunner().invoke(command, ["--json"], env=settings)
        assert done.exit_code == 0, done.output
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute("SET session_replication_role = replica")
            for table in ("audit.audit_log", *(name for (name,) in place.query(_MONTHS))):
                connection.execute(f"ALTER TABLE {table} DISABLE TRIGGER append_only")  # type: ignore[arg-type]
            connection.execute("DELETE FROM audit.audit_log WHERE kafka_offset = 40")
        done = CliRunner().invoke(command, ["--json"], env=settings)
        assert done.exit_code == 9, done.output
        found = [json.loads(line) for line in done.stdout.splitlines()[:-1]]
        assert (found[0]["finding"], found[0]["offset"]) == ("missing", 40)
        assert {each["finding"] for each in found[1:]} == {"books"}

    def run(self, place: Workplace, happens: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> tuple[list[Finding], Reconciliation]:
        """A run while which something happens, after the ends of the partitions were asked for."""
        monkeypatch.setattr("consumer.operations.reconcile.STRETCH", 7)
        pending = [happens]

        def tell(_: Progress) -> None:
            if pending:
                pending.pop()()

        with contextlib.closing(Evidence(lambda: connect(place.database))) as evidence:
            reader = PartitionReader(place.kafka.client)
            topics = Topics(place.kafka.client, [place.topic])
            run = Reconciliation(evidence, topics, reader, decoder(), tell=tell)
            try:
                return list(run.run(Scope())), run
            finally:
                reader.close()

    @pytest.fixture
    def place(self, kafka_broker: KafkaBroker, database: str, new_topic: Callable[..., str]) -> Workplace:
        """Thirty events in one partition, written."""
        place = Workplace(kafka_broker, database, new_topic(1))
        place.publish(encoded(events(30)))
        place.drain()
        return place

    def test_retention(self, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
        """What Kafka removes under our eyes is not compared, and said to be so."""
        found, run = self.run(place, lambda: place.kafka.delete_records(place.topic, 0, 18), monkeypatch)
        assert found == []
        assert (run.summary.offsets, run.summary.verified, run.summary.not_in_kafka) == (30, 12, 18)

    def test_a_topic_made_anew(self, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
        """Its messages are not taken for the old ones."""

        def happens() -> None:
            place.kafka.delete_topic(place.topic)
            place.kafka.create_topic(place.topic, 1)
            place.publish(encoded(events(40)))

        with pytest.raises(TopicUnreadableError, match="made anew"):
            self.run(place, happens, monkeypatch)

    def test_without_any_right_to_groups(self, tmp_path: Path, database: str) -> None:
        """It joins none, commits nothing, and none appears."""
        broker = KafkaBroker(tmp_path, {"authorizer.class.name": AUTHORIZER, "allow.everyone.if.no.acl.found": "true"})
        broker.start()
        try:
            place = Workplace(broker, database, broker.create_topic("guarded", 1))
            place.publish(encoded(events(20)))
            place.drain()
            denied = AclBinding(
                ResourceType.GROUP, "*", ResourcePatternType.LITERAL, "User:ANONYMOUS", "*", AclOperation.ALL, AclPermissionType.DENY
            )
            for future in broker.admin.create_acls([denied]).values():
                future.result(30)
            wait_until(lambda: place.members() == -1, "nobody may use a group")
            done = place.command("reconcile", "--json")
            assert done.returncode == 0, done.stderr
            assert json.loads(done.stdout)["summary"]["verified"] == 20
        finally:
            broker.stop()

    def test_no_group_appears(self, scene: Scene, desk: Desk) -> None:
        """Kafka knows of none but the worker's."""
        desk.reconcile(code=0)
        groups = scene.place.kafka.admin.list_consumer_groups().result(30).valid
        assert not [each.group_id for each in groups if "reconcile" in each.group_id]
