"""The quarantine as an operator uses it: real PostgreSQL, the command as a process, a role with audit_operator and nothing else."""

import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from dataclasses import replace  # noqa: F401
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumer.core import actions
from consumer.core.clock import kept_range
from consumer.core.decoding import Decoder
from consumer.core.event_json import EventEncoder
from consumer.core.events import Partition
from consumer.core.pause import Backoff
from consumer.core.slicing import Cursor, slices_of
from consumer.operations.quarantine import Quarantine
from consumer.postgres.connection import connect
from consumer.postgres.quarantine import Selection
from consumer.postgres.settlement import Settlement
from consumer.postgres.store import PostgresStore
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, FakeMessage, decoder, event, message_value

pytestmark = pytest.mark.postgres

NOW = datetime.now(UTC)
RETENTION = timedelta(days=1096)
WHEN = (NOW - timedelta(hours=1)).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
TOPIC = "integration-changes"


def micros(when: datetime = NOW) -> int:
    """As the worker's clock."""
    return int(when.timestamp() * 1_000_000)


def later_schema() -> dict[str, Any]:
    """A writer's schema of a later version: an eleventh change."""
    schema = json.loads(json.dumps(event_schema()))
    (change,) = (field for field in schema["fields"] if field["name"] == "change")
    texts = [{"name": name, "type": "string"} for name in ("client_name", "client_id")]
    change["type"].append({"type": "record", "name": "WebhookAdded", "fields": texts})
    return schema  # type: ignore[no-any-return]


def evolved_schema() -> dict[str, Any]:
    """A writer's schema of a later version: the same changes, and one more field."""
    schema = json.loads(json.dumps(event_schema()))
    schema["fields"].append({"name": "trace_id", "type": ["null", "string"], "default": None})
    return schema  # type: ignore[no-any-return]


class Desk:
    """An operator's desk: a database with a worker's writing in it, and the commands."""

    def __init__(self, url: str) -> None:
        self.url = url
        with psycopg.connect(url, autocommit=True) as connection:
            self.role = f"operator_{uuid.uuid4().hex[:8]}"
            connection.execute(f"CREATE ROLE {self.role} LOGIN IN ROLE audit_operator")  # type: ignore[call-overload]
        self.operator_url = url.replace("postgres@", f"{self.role}@")
        self.offset = 0
        self.store = PostgresStore(lambda: connect(url), micros)
        self.partition = Partition(TOPIC, 0)
        self.store.open_positions({self.partition: ("id", 0)})

    def worker(self, values: Sequence[bytes | None], by: Decoder | None = None, headers: Any = None) -> None:
        """What a worker does with these messages."""
        messages = [
            FakeMessage(value, self.offset + number, topic=TOPIC, key=b"acme", headers=headers) for number, value in enumerate(values)
        ]
        cursors = {self.partition: Cursor("id", self.offset)}
        slices = slices_of(messages, cursors, by or decoder(), kept_range(micros(), RETENTION))
        self.store.write(self.store.prepare(slices))
        self.offset += len(values)

    def command(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Runs `integration-audit quarantine …`."""
        return subprocess.run(
            [sys.executable, "-m", "consumer", "quarantine", *arguments],
            env={
                **{name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")},
                "AUDIT_DATABASE_URL": self.operator_url, "LOGNAME": "sato", **settings,
            },
            capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def outcomes(self, *arguments: str, code: int = 0, **settings: str) -> dict[int, str]:
        """What became of each message, as --json tells."""
        done = self.command(*arguments, "--json", **settings)
        assert done.returncode == code, done.stderr
        tallies = [json.loads(line) for line in done.stdout.splitlines()]
        found = {each["id"]: each["outcome"] for each in tallies}
        assert len(found) == len(tallies)
        return found

    def query(self, question: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with psycopg.connect(self.url) as connection:
            return connection.execute(question, parameters or None).fetchall()  # type: ignore[call-overload,no-any-return]

    def history(self) -> list[tuple[Any, ...]]:
        """Who did what, and what came of it."""
        return self.query("SELECT quarantine_id, action, outcome, who, database_role FROM audit.quarantine_history ORDER BY id")

    def state(self) -> list[list[tuple[Any, ...]]]:
        """Everything that a retry could change, and the partitions of the log."""
        return [
            self.query("SELECT * FROM audit.audit_log ORDER BY event_id"),
            self.query("SELECT * FROM audit.event ORDER BY event_id"),
            self.query("SELECT * FROM audit.quarantine ORDER BY id"),
            self.query("SELECT * FROM audit.quarantine_history ORDER BY id"),
            self.query("SELECT * FROM audit.consumer_position"),
            self.query("SELECT inhrelid::regclass::text FROM pg_inherits WHERE inhparent = 'audit.audit_log'::regclass ORDER BY 1"),
        ]


@pytest.fixture
def desk(any_database: str) -> Desk:
    """A desk on either major."""
    return Desk(any_database)


@pytest.fixture
def desk18(database: str) -> Desk:
    """A desk on the newest major."""
    return Desk(database)


def now_event(**fields: Any) -> dict[str, Any]:
    """An event of an hour ago."""
    return event(occurred_at=WHEN, **fields)


def schema_folder(folder: Path, *schemas: dict[str, Any]) -> str:
    """A folder for AUDIT_SCHEMA_DIR."""
    for number, schema in enumerate(schemas):
        (folder / f"{number}.avsc").write_text(json.dumps(schema))
    return str(folder)


class TestRetry:
    """Into the log, once, and told."""

    def test_after_the_schema_is_known_every_event_comes_into_the_log_once(self, desk: Desk, tmp_path: Path) -> None:
        """`unknown schema`, then AUDIT_SCHEMA_DIR: dry run first, then for real, then there is nothing left to do."""
        events = [now_event() for _ in range(20)]
        encoder = EventEncoder(evolved_schema())
        desk.worker([encoder.encode(each) for each in events] + [b"garbage", ENCODER.encode(now_event())])
        assert desk.query("SELECT reason, count(*) FROM audit.quarantine GROUP BY 1 ORDER BY 1") == [
            ("undecodable", 1),
            ("unknown schema", 20),
        ]
        ids = [row[0] for row in desk.query("SELECT id FROM audit.quarantine WHERE reason = 'unknown schema' ORDER BY id")]
        books = desk.query("SELECT * FROM audit.consumer_position")
        retry = ("retry", "--reason", "unknown schema")
        before = desk.state()

        assert desk.outcomes(*retry, code=9) == dict.fromkeys(ids, "unknown schema")
        folder = schema_folder(tmp_path, evolved_schema())
        assert desk.outcomes(*retry, AUDIT_SCHEMA_DIR=folder) == dict.fromkeys(ids, "written")
        assert desk.state() == before

        assert desk.outcomes(*retry, "--yes", AUDIT_SCHEMA_DIR=folder) == dict.fromkeys(ids, "written")
        rows = desk.query(
            "SELECT event_id::text, kafka_topic, kafka_partition, kafka_offset FROM audit.audit_log WHERE kafka_offset < 20 ORDER BY 4"
        )
        assert rows == [(each["event_id"], TOPIC, 0, number) for number, each in enumerate(events)]
        assert desk.history() == [(each, "retried", "written", "sato", desk.role) for each in ids]
        assert desk.query("SELECT DISTINCT status, resolved_by, resolved_at IS NOT NULL FROM audit.quarantine WHERE id = ANY(%s)", ids) == [
            ("retried", "sato", True)
        ]
        assert desk.query("SELECT * FROM audit.consumer_position") == books
        assert desk.outcomes(*retry, "--yes", AUDIT_SCHEMA_DIR=folder) == {}
        assert desk.outcomes("retry", "--id", str(ids[0]), "--yes", AUDIT_SCHEMA_DIR=folder) == {ids[0]: "already retried"}
        assert desk.query("SELECT count(*) FROM audit.audit_log") == [(21,)]
        assert len(desk.history()) == 20

    def test_an_upgrade_that_knows_a_new_change(self, desk18: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
        """`unmapped change`, then a version whose table has the change.

        The upgrade is played in this process, the change taken as an action that the database's CHECK knows: an eleventh action needs a
        migration of its own.
        """
        encoder = EventEncoder(later_schema())
        change = {"type": "WebhookAdded", "client_name": "Reporting", "client_id": "c-1"}
        events = [now_event(change=change) for _ in range(5)]
        desk18.worker([encoder.encode(each) for each in events], Decoder(event_schema(), [later_schema()], 1_048_576))
        assert desk18.query("SELECT DISTINCT reason FROM audit.quarantine") == [("unmapped change",)]
        selection = Selection(reasons=("unmapped change",))

        def retry(by: Decoder) -> list[str]:
            settlement = Settlement(lambda: connect(desk18.operator_url))
            run = Quarantine(settlement, Backoff(lambda: 0.5), lambda _: None)
            outcomes = [each.outcome for each in run.retry(selection, by, kept_range(micros(), RETENTION), "sato", dry_run=False)]
            settlement.close()
            return outcomes

        assert retry(Decoder(event_schema(), [later_schema()], 1_048_576)) == ["unmapped change"] * 5
        known = actions.BY_CHANGE["OAuthClientAdded"]._replace(change_type="WebhookAdded")
        monkeypatch.setitem(actions.BY_CHANGE, "WebhookAdded", known)
        assert retry(Decoder(later_schema(), [event_schema()], 1_048_576)) == ["written"] * 5
        assert desk18.query("SELECT count(*), min(action), min(complement->>'client_id') FROM audit.audit_log") == [
            (5, "add oauth client", "c-1")
        ]
        assert [row[1:3] for row in desk18.history()] == [("retry failed", "unmapped change")] * 5 + [("retried", "written")] * 5

    def test_duplicates_conflicts_and_what_still_fails(self, desk: Desk, tmp_path: Path) -> None:
        """Each message has its own fate, in one run, and the dry run foretells it, over pages too."""
        encoder = EventEncoder(evolved_schema())
        first, second = now_event(), now_event()
        desk.worker([ENCODER.encode(first)])
        desk.worker(
            [
                encoder.encode(first),  # as the log holds it
                encoder.encode({**first, "tenant": "other"}),
                encoder.encode(second),
                encoder.encode(second),
                encoder.encode({**second, "tenant": "other"}),
                encoder.encode(now_event(source_ip="not an address")),
                encoder.encode(now_event(tenant="".join(uuid.uuid4().hex for _ in range(200)))),
                encoder.encode(event(occurred_at="1999-01-01T00:00:00Z")),
                b"garbage",
            ]
        )
        ids = [row[0] for row in desk.query("SELECT id FROM audit.quarantine ORDER BY id")]
        expected = dict(zip(ids, (
            "duplicate", "conflict", "written", "duplicate", "conflict", "invalid event", "unstorable", "out of range", "undecodable",
        ), strict=True))  # fmt: skip
        folder = schema_folder(tmp_path, evolved_schema())
        assert desk.outcomes("retry", "--all", code=9, AUDIT_SCHEMA_DIR=folder) == expected
        assert desk.query("SELECT count(*) FROM audit.audit_log") == [(1,)]
        assert desk.outcomes("retry", "--all", "--yes", code=9, AUDIT_SCHEMA_DIR=folder) == expected
        done = ("written", "duplicate")
        assert [row[:3] for row in desk.history()] == [
            (each, "retried" if outcome in done else "retry failed", outcome) for each, outcome in expected.items()
        ]
        assert dict(desk.query("SELECT id, status FROM audit.quarantine")) == {
            each: "retried" if outcome in done else "open" for each, outcome in expected.items()
        }
        assert desk.query("SELECT count(*), count(DISTINCT event_id) FROM audit.audit_log") == [(2, 2)]

    def test_out_of_range_and_then_kept_longer(self, desk: Desk) -> None:
        """A longer retention takes it, and its month is made; the dry run makes none."""
        when = (NOW - timedelta(days=1500)).strftime("%Y-%m-%dT%H:%M:%SZ")
        desk.worker([message_value(occurred_at=when)])
        (quarantine_id,) = desk.query("SELECT id FROM audit.quarantine WHERE reason = 'out of range'")[0]
        before = desk.state()
        assert desk.outcomes("retry", "--all", code=9) == {quarantine_id: "out of range"}
        assert desk.outcomes("retry", "--all", AUDIT_RETENTION="6 years") == {quarantine_id: "written"}
        assert desk.state() == before
        assert desk.outcomes("retry", "--all", "--yes", AUDIT_RETENTION="6 years") == {quarantine_id: "written"}
        assert desk.query("SELECT count(*) FROM audit.audit_log") == [(1,)]

    def test_oversized_and_then_allowed(self, desk18: Desk) -> None:
        """The value was kept byte for byte, so a larger limit is enough."""
        small = Decoder(event_schema(), [], 50)
        desk18.worker([ENCODER.encode(now_event())], small)
        assert list(desk18.outcomes("retry", "--reason", "oversized", "--yes").values()) == ["written"]

    def test_which_messages(self, desk18: Desk) -> None:
        """Every filter, and no command without one."""
        desk18.worker([b"garbage", b"more garbage", message_value(source_ip="x"), message_value(occurred_at="1999-01-01T00:00:00Z")])
        ids = [row[0] for row in desk18.query("SELECT id FROM audit.quarantine ORDER BY id")]
        tomorrow = (NOW + timedelta(days=1)).date().isoformat()
        for arguments, wanted in (
            (["--id", str(ids[0]), "--id", str(ids[2])], [ids[0], ids[2]]),
            (["--reason", "undecodable"], ids[:2]),
            (["--reason", "undecodable", "--reason", "out of range"], [*ids[:2], ids[3]]),
            (["--reason", "undecodable", "--id", str(ids[1])], [ids[1]]),
            (["--topic", TOPIC, "--partition", "0"], ids),
            (["--topic", "another"], []),
            (["--partition", "7"], []),
            (["--since", tomorrow], []),
            (["--until", tomorrow], ids),
            (["--all"], ids),
        ):
            assert list(desk18.outcomes("retry", *arguments, code=9 if wanted else 0)) == wanted, arguments
        for wrong in ([], ["--all", "--id", "1"], ["--since", "yesterday"], ["--all", "--by", " "]):
            for verb in (["retry"], ["discard", "--note", "why"]):
                assert desk18.command(*verb, *wrong).returncode == 2
        assert desk18.outcomes("retry", "--id", "4711", code=9) == {4711: "not found"}
        assert desk18.history() == []

    def test_more_than_a_page(self, desk18: Desk, tmp_path: Path) -> None:
        """By number and by bytes; the events of one page are known to the dry run of the next."""
        encoder = EventEncoder(evolved_schema())
        many = [now_event() for _ in range(1100)]
        desk18.worker([encoder.encode(each) for each in many] + [encoder.encode(many[0])])
        desk18.worker([bytes([1]) * 3_000_000 for _ in range(5)])
        folder = schema_folder(tmp_path, evolved_schema())
        for yes in ([], ["--yes"]):
            outcomes = list(desk18.outcomes("retry", "--all", *yes, code=9, AUDIT_SCHEMA_DIR=folder).values())
            assert outcomes == ["written"] * 1100 + ["duplicate"] + ["oversized"] * 5
        transactions = desk18.query("SELECT count(*) FROM audit.quarantine_history GROUP BY xmin ORDER BY min(id)")
        assert transactions == [(500,), (500,), (104,), (2,)]
        assert desk18.query("SELECT count(*), count(DISTINCT event_id) FROM audit.audit_log") == [(1100, 1100)]

    def test_an_operator_who_is_none(self, desk18: Desk) -> None:
        """A reader is refused, with one line and the exit code of the database."""
        desk18.worker([b"garbage"])
        with psycopg.connect(desk18.url, autocommit=True) as connection:
            connection.execute(f"REVOKE audit_operator FROM {desk18.role}; GRANT audit_reader TO {desk18.role}")  # type: ignore[call-overload]
        assert desk18.command("list").returncode == 0
        assert desk18.command("show", "1").returncode == 0
        done = desk18.command("retry", "--all", "--yes")
        assert (done.returncode, "permission denied" in done.stderr, "Traceback" in done.stderr) == (4, True, False)
