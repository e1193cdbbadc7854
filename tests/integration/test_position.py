"""`position` on a real Kafka and PostgreSQL: shown, set by hand and from a group, while workers run; and the books stay true."""

import json
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from click.testing import CliRunner
from confluent_kafka import Consumer, TopicPartition

from consumer.cli.exit_codes import CommandError
from consumer.cli.main import cli
from consumer.core.errors import FencedError
from consumer.core.moves import Change
from consumer.operations.position import apply
from consumer.postgres.connection import connect
from tests.bed.events import ENCODER, encoded, events
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace, assert_discreet, wait_until
from tests.deploy import watching

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

NOTE = ("--note", "moved from the old tool", "--by", "sato")
NOWHERE = "127.0.0.1:1"


class Desk(Workplace):
    """A topic of one partition, and an operator's role."""

    def __init__(self, kafka: KafkaBroker, database: str, topic: str) -> None:
        super().__init__(kafka, database, topic)
        self.role = f"op_{uuid.uuid4().hex[:8]}"
        with psycopg.connect(database, autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {self.role} LOGIN IN ROLE audit_operator")  # type: ignore[call-overload]
            connection.execute(f"CREATE ROLE {self.role}_reads LOGIN IN ROLE audit_reader")  # type: ignore[call-overload]
        self.operator = {"AUDIT_DATABASE_URL": database.replace("postgres@", f"{self.role}@")}
        self.reader = {"AUDIT_DATABASE_URL": database.replace("postgres@", f"{self.role}_reads@")}

    def run(self, *arguments: str, **settings: str) -> tuple[int, str, str]:
        """A command in this process, which takes half the time; its exit code, and what it says."""
        environment = {name: text for name, text in self.environment.items() if name.startswith("AUDIT_")}
        done = CliRunner().invoke(cli, arguments, env={**environment, **self.reader, **settings})
        assert_discreet(done.stderr)
        if isinstance(done.exception, CommandError):
            return done.exception.exit_code, done.stdout, str(done.exception)
        return done.exit_code, done.stdout, done.stderr

    def set(self, *arguments: str, code: int = 0) -> list[dict[str, Any]]:
        """Runs `position set`; what it says of each partition."""
        found, told, error = self.run("position", "set", *arguments, *NOTE, "--json", **self.operator)
        assert found == code, error
        return [json.loads(line) for line in told.splitlines()]

    def shown(self) -> list[dict[str, Any]]:
        """What `position show` says."""
        code, told, error = self.run("position", "show", "--json")
        assert code == 0, error
        return [json.loads(line) for line in told.splitlines()]

    def reconciled(self) -> dict[str, Any]:
        """The summary of a reconciliation that finds nothing wrong."""
        code, told, error = self.run("reconcile", "--json")
        assert code == 0, told + error
        summary: dict[str, Any] = json.loads(told.splitlines()[-1])["summary"]
        return summary

    def told(self) -> list[tuple[Any, ...]]:
        """The history of moves."""
        return self.query("SELECT from_offset, to_offset, reread, who, note, database_role FROM audit.position_move ORDER BY id")

    def state(self) -> list[list[tuple[Any, ...]]]:
        """All that a move could change."""
        return [self.query(f"SELECT * FROM audit.{table}") for table in ("consumer_position", "source_gap", "operation_history")]

    def commit(self, group: str, offset: int) -> None:
        """Another group says that it is so far."""
        consumer = Consumer({**self.kafka.client, "group.id": group, "enable.auto.commit": False})
        consumer.commit(offsets=[TopicPartition(self.topic, 0, offset)], asynchronous=False)
        consumer.close()


@pytest.fixture
def desk(kafka_broker: KafkaBroker, database: str, new_topic: Callable[..., str]) -> Desk:
    """A desk of one's own."""
    return Desk(kafka_broker, database, new_topic(1))


def test_shown_with_kafka_and_without(desk: Desk) -> None:
    """Position, books and lag; without Kafka all but the lag; a partition that nobody has read; a topic made anew."""
    desk.publish([*encoded(events(5)), b"garbage", None])
    (before,) = desk.shown()
    assert (before["next_offset"], before["low"], before["high"], before["lag"]) == (None, 0, 7, 7)
    desk.drain()
    desk.publish(encoded(events(3)))
    (found,) = desk.shown()
    books = {"written": 5, "duplicates": 0, "quarantined": 1, "tombstones": 1, "skipped": 0, "expired": 0, "reread": 0, "balanced": True}
    assert books.items() <= found.items()
    assert (found["topic"], found["topic_id"], found["partition"]) == (desk.topic, desk.kafka.topic_id(desk.topic), 0)
    assert (found["first_offset"], found["next_offset"], found["low"], found["high"], found["lag"]) == (0, 7, 0, 10, 3)
    code, told, error = desk.run("position", "show", "--json", AUDIT_KAFKA_BOOTSTRAP_SERVERS=NOWHERE)
    assert (code, "low, high and lag are not known: Kafka: " in error) == (0, True)
    assert json.loads(told) == {**found, "low": None, "high": None, "lag": None}
    table = desk.command("position", "show", **desk.reader).stdout.splitlines()
    assert [line.count("\t") for line in table] == [len(found) - 1] * 2
    assert table[0].split("\t") == list(found)
    desk.kafka.delete_topic(desk.topic)
    desk.kafka.create_topic(desk.topic, 1)
    old, new = desk.shown()
    assert old == {**found, "low": None, "high": None, "lag": None}
    assert (new["topic_id"], new["next_offset"], new["lag"]) == (desk.kafka.topic_id(desk.topic), None, 0)


def test_ahead_while_a_worker_runs(desk: Desk) -> None:
    """It goes on at the new position; what was passed over is in books, gaps, history and reconcile. A dry run changes nothing."""
    with desk.worker() as worker:
        desk.publish(encoded(events(10)))
        wait_until(lambda: desk.written() == 10, "the first ones")
        with psycopg.connect(desk.database) as held:  # so that the worker does not come first
            held.execute("SELECT 1 FROM audit.consumer_position FOR UPDATE")
            desk.publish(encoded(events(25)))
            topic_id = desk.kafka.topic_id(desk.topic)
            held.execute("SELECT audit.set_position(%s, %s, 0, 10, 30, 'sato', 'moved', 'by hand')", (desk.topic, topic_id))
        wait_until(lambda: desk.written() == 15, "it goes on behind them")
        assert worker.poll() is None
    assert desk.books() == {**dict.fromkeys(desk.books(), 0), "written": 15, "expired": 20}
    assert desk.query("SELECT first_offset, next_offset FROM audit.source_gap") == [(10, 30)]
    assert desk.told() == [(10, 30, 0, "sato", "moved", "postgres")]
    summary = desk.reconciled()
    (decision,) = summary["decisions"]
    assert (decision["first_offset"], decision["next_offset"], summary["passed_over"], summary["verified"]) == (10, 30, 20, 15)
    assert summary["expired"] == []  # it was a decision
    assert "offsets 10 to 29 were passed over by decision 2 (audit.operation_history)" in desk.run("reconcile")[2]
    desk.publish(encoded(events(5)))
    before = desk.state()
    planned = [*desk.set(desk.topic, "0", "40"), *desk.set(desk.topic, "0", "35"), *desk.set(desk.topic, "0", "0")]
    assert [(each["before"], each["effect"], each["offsets"], each["operation"]) for each in planned] == [
        (35, "passes over", 5, None), (35, "stays", 0, None), (35, "reads again", 35, None),
    ]  # fmt: skip
    assert desk.state() == before


def test_back(desk: Desk) -> None:
    """What is read again counts as duplicates, or as what it is; before, while and after, the books and reconcile fit."""
    good = events(10)
    conflict = ENCODER.encode({**good[1], "tenant": "other"})
    desk.publish([*encoded(good), ENCODER.encode(good[0]), conflict, b"garbage", None, *encoded(events(2))])
    desk.drain()
    rows = desk.query("SELECT * FROM audit.audit_log ORDER BY 1")
    (done,) = desk.set(desk.topic, "0", "5", "--yes")
    assert (done["before"], done["after"], done["effect"], done["offsets"], done["operation"]) == (16, 5, "reads again", 11, 2)
    assert desk.told() == [(16, 5, 11, "sato", "moved from the old tool", desk.role)]
    (shown,) = desk.shown()
    assert (shown["next_offset"], shown["reread"], shown["balanced"], shown["lag"]) == (5, 11, True, 11)
    assert desk.reconciled()["decisions"] == []
    assert desk.value("SELECT books_unbalanced FROM audit.log_state()") == 0
    desk.drain()
    assert desk.value("SELECT books_unbalanced FROM audit.log_state()") == 0
    assert desk.query("SELECT * FROM audit.audit_log ORDER BY 1") == rows
    assert desk.books() == {"written": 12, "duplicates": 9, "quarantined": 4, "tombstones": 2, "skipped": 0, "expired": 0}
    assert desk.value("SELECT count(*) FROM audit.quarantine") == 2
    assert desk.reconciled()["verified"] == 16
    (runbooks,) = [each for each in watching.statements() if " AS counted" in each]
    assert desk.query(runbooks) == []
    with psycopg.connect(desk.database) as forger:
        forger.execute("ALTER TABLE audit.consumer_position DROP CONSTRAINT consumer_position_books_check")
        forger.execute("UPDATE audit.consumer_position SET duplicates = 10")
    assert [(passed, counted) for *_, passed, counted, _ in desk.query(runbooks)] == [(27, 28)]
    with psycopg.connect(desk.database) as forger:
        forger.execute("UPDATE audit.consumer_position SET reread = 12")
    assert '"columns": ["reread"]' in desk.run("reconcile", "--json")[1]


def test_ahead_by_mistake_and_back(desk: Desk) -> None:
    """Nothing stays unread, and an event that came again behind the gap has its row there."""
    good = events(10)
    desk.publish([*encoded(good), ENCODER.encode(good[4])])
    for target in ("3", "10"):
        desk.set(desk.topic, "0", target, "--yes")
    summary = desk.reconciled()
    assert [(each["first_offset"], each["next_offset"]) for each in summary["decisions"]] == [(0, 3), (3, 10)]
    desk.drain()
    assert desk.written() == 1
    desk.set(desk.topic, "0", "1", "--yes")
    desk.drain()
    assert sorted(str(each) for (each,) in desk.query("SELECT event_id FROM audit.audit_log")) == sorted(
        each["event_id"] for each in good[1:]
    )
    assert desk.books() == {**dict.fromkeys(desk.books(), 0), "written": 9, "duplicates": 2, "expired": 7}
    summary = desk.reconciled()
    assert [(each["first_offset"], each["next_offset"]) for each in summary["decisions"]] == [(0, 1)]


def test_from_another_group(desk: Desk) -> None:
    """The first position begins where the group stands; a group that is nobody's, and one that is behind Kafka's retention."""
    desk.publish(encoded(events(10)))
    desk.commit("old tool", 4)
    (planned,) = desk.set("--from-group", "old tool")
    assert (planned["before"], planned["after"], planned["effect"], planned["offsets"]) == (None, 4, "begins", 4)
    assert desk.query("SELECT * FROM audit.consumer_position") == []
    desk.set("--from-group", "old tool", "--topic", desk.topic, "--yes")
    desk.drain()
    assert desk.query("SELECT first_offset, next_offset, written FROM audit.consumer_position") == [(4, 10, 6)]
    assert [(each["first_offset"], each["next_offset"]) for each in desk.reconciled()["decisions"]] == [(0, 4)]
    assert desk.value("SELECT detail ->> 'source' FROM audit.operation_history WHERE action = 'position set'") == "group old tool"
    desk.set("--from-group", "nobody's", code=2)
    desk.kafka.delete_records(desk.topic, 0, 6)
    desk.set("--from-group", "old tool", code=2)  # Kafka has removed what is there


def test_what_is_refused(desk: Desk) -> None:
    """Whatever it is, nothing is changed, and it is said why."""
    desk.publish(encoded(events(10)))
    desk.drain()
    before = desk.state()
    (refused,) = desk.set(desk.topic, "0", "11", "--yes", code=2)
    assert refused["effect"] == "beyond the partition's end 10"
    desk.set(desk.topic, "7", "1", "--yes", code=2)
    desk.set("another", "0", "1", "--yes", code=2)
    for arguments in ((), (desk.topic,), (desk.topic, "0"), (desk.topic, "0", "1", "--from-group", "g"), (desk.topic, "0", "-1")):
        desk.set(*arguments, code=2)
    change = Change(desk.topic, 0, desk.kafka.topic_id(desk.topic), 9, 3, "", 0, allowed=True)
    for stale in (change, change._replace(before=None)):
        with pytest.raises(FencedError):
            apply(lambda: connect(desk.database), [change._replace(before=10), stale], "sato", "why", "by hand")
    for settings, code in ((desk.reader, 4), ({**desk.operator, "AUDIT_KAFKA_BOOTSTRAP_SERVERS": NOWHERE}, 5)):
        assert desk.run("position", "set", desk.topic, "0", "3", "--yes", *NOTE, **settings)[0] == code
    assert desk.state() == before
