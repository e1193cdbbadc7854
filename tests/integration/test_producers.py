"""The examples of producers on a real broker: what they send is in the log."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

import psycopg
import pytest

from tests.bed import producers
from tests.bed.events import encoded, event, message_value
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

ACME = 0
"""The partition of the examples' tenant, of four: the same from every language, so that its events keep their order."""

SENT = {
    "python": [
        ("sato", "add oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "FAILED", {"status": "Enable"}),
        ("suzuki", "enable integration", "SUCCESS", {"name": "Box", "id": "box"}),
    ],
    "java": [
        ("sato", "update oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "FAILED", {"status": "Enable"}),
        ("suzuki", "disable integration", "SUCCESS", {"name": "Box", "id": "box"}),
    ],
    "node": [
        ("sato", "delete oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "VALIDATION ERROR", {"status": "Disable"}),
        ("suzuki", "authorize integration", "SUCCESS", {"name": "Reporting", "id": "c-1", "scopes": ["k:app_record:read"]}),
    ],
}


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str) -> Workplace:
    """A topic and a database."""
    return Workplace(kafka_broker, database, topic)


@pytest.mark.parametrize("language", SENT)
def test_what_an_example_sends_is_in_the_log(place: Workplace, language: str) -> None:
    """Each event once, in the order of its changes, in the partition of its tenant, under the id that the example told."""
    done = producers.run(language, place.kafka.bootstrap_servers, place.topic)
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    place.drain()
    place.assert_complete([{"event_id": each} for each in ids])
    rows = place.query(
        "SELECT event_id::text, tenant, kafka_partition, login_name, action, result, complement FROM audit.audit_log ORDER BY kafka_offset"
    )
    assert [row[0] for row in rows] == ids
    assert all(each[14] == "7" for each in ids)
    assert {row[1] for row in rows} == {"acme"}
    assert {row[2] for row in rows} == {ACME}
    assert [row[3:] for row in rows] == SENT[language]


@pytest.mark.parametrize("language", SENT)
def test_an_example_says_what_kafka_has_not_confirmed(kafka_broker: KafkaBroker, new_topic: Callable[..., str], language: str) -> None:
    """A topic that takes nothing: not zero, none of the ids among the confirmed, no value of an event in what it says."""
    done = producers.run(language, kafka_broker.bootstrap_servers, new_topic(max_message_bytes="10"))
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(re.findall("[0-9a-f]{8}-[0-9a-f]{4}-7", done.stderr)) == 3, done.stderr
    assert "Reporting" not in done.stderr


class TestOutbox:
    """`examples/producers/python/outbox.py`, with the application's tables beside the log's."""

    @pytest.fixture(autouse=True)
    def modules(self, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
        """The example's modules, and its table."""
        self.place = place
        self.folder = producers.EXAMPLES / "python"
        monkeypatch.syspath_prepend(str(self.folder))
        self.outbox = import_module("outbox")
        self.change_event = import_module("audit_events").change_event
        with psycopg.connect(place.database) as connection:
            connection.execute((self.folder / "outbox.sql").read_bytes())
            connection.execute("CREATE TABLE slack_setting (enabled boolean)")

    def change(self, *, fail: bool = False) -> str:
        """What an application does: the change and its event, in one transaction; the event's id."""
        made = self.change_event("acme", "SlackSettingUpdated", {"enabled": True}, actor="sato")
        with psycopg.connect(self.place.database) as connection, connection.transaction(force_rollback=fail):
            connection.execute("INSERT INTO slack_setting VALUES (true)")
            self.outbox.record(connection, made)
        return str(made.event_id)

    def waiting(self) -> list[str]:
        """The ids in the outbox."""
        return [found for (found,) in self.place.query("SELECT event_id::text FROM audit_outbox ORDER BY number")]

    def relay(self, program: str | None = None, topic: str | None = None) -> "subprocess.Popen[bytes]":
        """A relay as a process of its own, or a program that uses its parts."""
        environment = {
            **os.environ, "DATABASE_URL": self.place.database, "KAFKA_TOPIC": topic or self.place.topic,
            "KAFKA_BOOTSTRAP_SERVERS": self.place.kafka.bootstrap_servers,
        }  # fmt: skip
        arguments = ["outbox.py"] if program is None else ["-c", program]
        return subprocess.Popen([sys.executable, *arguments], cwd=self.folder, env=environment)

    def test_a_relay_killed_before_it_deletes(self) -> None:
        """What it had sent is sent again: in the log once, and a duplicate in the books. A change that was rolled back has no event."""
        ids = [self.change(), self.change()]
        self.change(fail=True)
        dies = (
            "import os, signal, outbox\n"
            "class Dies(outbox.AuditProducer):\n"
            "    def send(self, events):\n"
            "        assert super().send(events) == []\n"
            "        os.kill(os.getpid(), signal.SIGKILL)\n"
            "outbox.AuditProducer = Dies\n"
            "outbox.main()\n"
        )
        assert self.relay(dies).wait(60) == -signal.SIGKILL
        assert self.waiting() == ids
        relay = self.relay()
        try:
            wait_until(lambda: not self.waiting(), "the outbox is empty")
            relay.terminate()
            assert relay.wait(60) == 0
        finally:
            relay.kill()
        self.place.drain()
        self.place.assert_complete([{"event_id": each} for each in ids], duplicates=2)

    def test_what_kafka_does_not_confirm_stays(self, new_topic: Callable[..., str]) -> None:
        """Nothing is deleted."""
        ids = [self.change()]
        once = (
            "import os, psycopg, outbox\n"
            "producer = outbox.AuditProducer(os.environ['KAFKA_BOOTSTRAP_SERVERS'])\n"
            "with psycopg.connect(os.environ['DATABASE_URL'], autocommit=True) as connection:\n"
            "    raise SystemExit(40 + outbox.relay_once(connection, producer))\n"
        )
        assert self.relay(once, new_topic(max_message_bytes="10")).wait(60) == 40
        assert self.waiting() == ids
        assert self.relay(once).wait(60) == 41
        assert self.waiting() == []


class TestValidate:
    """`integration-audit validate` on a topic."""

    def verdicts(self, place: Workplace, *arguments: str, code: int) -> list[dict[str, Any]]:
        """What it says; no database is named."""
        done = place.command("validate", "--json", *arguments, AUDIT_DATABASE_URL="")
        assert done.returncode == code, done.stderr
        return [json.loads(line) for line in done.stdout.splitlines()]

    def test_it_says_what_the_worker_then_does(self, place: Workplace) -> None:
        """Offset by offset, and no group is made for it."""
        first, second = event(), event()
        values = [
            *encoded([first, second, first]), None, b"", b"\x00\x00", message_value(event_id=first["event_id"], actor="suzuki"),
            message_value(occurred_at="1999-01-01T00:00:00Z"), message_value(source_ip="nowhere"), message_value() + b"\x00",
        ]  # fmt: skip
        place.publish(values, partition=0)
        *verdicts, last = self.verdicts(place, place.topic, "--from-beginning", code=9)
        assert [each["place"] for each in verdicts] == [{"partition": 0, "offset": offset} for offset in range(len(values))]
        groups = {each.group_id for each in place.kafka.admin.list_consumer_groups().result(30).valid}
        assert not groups & {"integration-audit-reconcile", place.environment["AUDIT_KAFKA_GROUP_ID"]}
        place.drain()
        told = {
            "written": sorted((each["place"]["offset"], each["action"]) for each in verdicts if each["outcome"] == "written"),
            "quarantined": sorted((each["place"]["offset"], each["reason"]) for each in verdicts if each["outcome"] == "quarantined"),
        }
        assert told == {
            "written": place.query("SELECT kafka_offset, action FROM audit.audit_log ORDER BY 1"),
            "quarantined": place.query("SELECT kafka_offset, reason FROM audit.quarantine ORDER BY 1"),
        }
        assert len(told["quarantined"]) == 6
        books = place.books()
        assert (last["summary"]["duplicate"], last["summary"]["tombstone"]) == (books["duplicates"], books["tombstones"]) == (1, 1)
        assert {each["field"] for verdict in verdicts for each in verdict["warnings"]} == {"key", "event_id", "value"}

    def test_the_newest_and_the_oldest(self, place: Workplace) -> None:
        """As many as asked for, over all partitions."""
        for partition, count in enumerate((1, 5, 5)):
            place.publish([message_value() for _ in range(count)], partition=partition)
        *newest, _ = self.verdicts(place, place.topic, "--limit", "5", code=0)
        assert [(each["place"]["partition"], each["place"]["offset"]) for each in newest] == [(0, 0), (1, 3), (1, 4), (2, 3), (2, 4)]
        *oldest, _ = self.verdicts(place, place.topic, "--limit", "5", "--from-beginning", code=0)
        assert [(each["place"]["partition"], each["place"]["offset"]) for each in oldest] == [(0, 0), (1, 0), (1, 1), (2, 0), (2, 1)]

    def test_an_example_is_beyond_reproach(self, place: Workplace) -> None:
        """Not even a warning."""
        done = producers.run("python", place.kafka.bootstrap_servers, place.topic)
        assert done.returncode == 0, done.stderr
        *verdicts, last = self.verdicts(place, place.topic, code=0)
        assert last["summary"]["written"] == len(verdicts) == 3
        assert last["summary"]["warnings"] == 0

    def test_a_topic_that_is_not_there(self, place: Workplace) -> None:
        """Perhaps it was meant to be a file."""
        done = place.command("validate", "nonesuch")
        assert done.returncode == 5
        assert "does not exist" in done.stderr
        assert "file" in done.stderr
