"""The quarantine as an operator uses it: real PostgreSQL, the command as a process, a role with audit_operator and nothing else."""

import base64
import json
import os
import subprocess
import sys
import uuid
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest

from consumer.core import actions
from consumer.core.clock import kept_range
from consumer.core.decoding import Decoder
from consumer.core.errors import TransientError
from consumer.core.event_json import EventEncoder
from consumer.core.events import AuditRecord, Partition
from consumer.core.pause import Backoff
from consumer.core.slicing import Cursor
from consumer.operations.quarantine import Quarantine, Tally, judge
from consumer.postgres.connection import connect
from consumer.postgres.quarantine import Selection
from consumer.postgres.reading import MISSING, OPERATOR_NEEDS, rows_of
from consumer.postgres.settlement import Settlement, StoredMessage
from consumer.postgres.store import PostgresStore
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, FakeMessage, decoder, event, message_value, slices_of
from tests.bed.fault_proxy import FaultProxy
from tests.bed.worker import wait_until

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

    def test_check_knows_what_an_operator_needs(self, desk: Desk) -> None:
        """Complete for audit_operator; a worker lacks all that settles a message, a reader all that writes."""

        def missing(role: str) -> set[str]:
            def as_role() -> Any:
                connection = connect(desk.url)
                connection.execute(f"SET ROLE {role}")  # type: ignore[call-overload]
                return connection

            return {row[0] for row in rows_of(as_role, MISSING, {"needed": list(OPERATOR_NEEDS)})[1]}

        history = {"SELECT on audit.quarantine_history", "INSERT on audit.quarantine_history"}
        assert missing("audit_operator") == set()
        of_quarantine = {"SELECT on audit.quarantine", "UPDATE on audit.quarantine", *history}
        assert missing("audit_writer") == {*of_quarantine, "EXECUTE on audit.set_position"}
        assert "UPDATE on audit.quarantine" in missing("audit_reader")


def waiting(desk: Desk) -> int:
    """How many connections to the database wait for a lock."""
    return int(desk.query("SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'")[0][0])


def retry_all(desk: Desk, by: Decoder, url: str | None = None) -> list[Tally]:
    """`retry --all --yes`, in this process."""
    settlement = Settlement(lambda: connect(url or desk.operator_url))
    run = Quarantine(settlement, Backoff(lambda: 0.5), lambda _: None)
    tallies = list(run.retry(Selection(), by, kept_range(micros(), RETENTION), "sato", dry_run=False))
    settlement.close()
    return tallies


class TestNeverTwice:
    """Whoever else writes, and whatever dies."""

    def test_two_retries_and_a_worker_with_the_same_events(self, desk: Desk) -> None:
        """All three at the same rows at the same moment: each event once, each message settled once, all of it told."""
        encoder, knowing = EventEncoder(evolved_schema()), Decoder(event_schema(), [evolved_schema()], 1_048_576)
        events = [now_event() for _ in range(700)]
        desk.worker([encoder.encode(each) for each in events])

        def upstream_again() -> None:
            for first in range(0, 700, 50):
                desk.worker([ENCODER.encode(each) for each in reversed(events[first : first + 50])])

        with psycopg.connect(desk.url) as gate, ThreadPoolExecutor(3) as threads:
            gate.execute("SELECT FROM audit.quarantine FOR UPDATE")
            retries = [threads.submit(retry_all, desk, knowing) for _ in range(2)]
            wait_until(lambda: waiting(desk) == 2, "both retries wait at the same rows")
            worker = threads.submit(upstream_again)
            gate.rollback()
            tallies = [each.outcome for retry in retries for each in retry.result()]
            worker.result()
        assert desk.query("SELECT count(*), count(DISTINCT event_id) FROM audit.audit_log") == [(700, 700)]
        assert desk.query("SELECT status, count(*) FROM audit.quarantine GROUP BY status") == [("retried", 700)]
        assert desk.query("SELECT count(*), count(DISTINCT quarantine_id) FROM audit.quarantine_history WHERE action = 'retried'") == [
            (700, 700)
        ]
        assert len([each for each in tallies if each in ("written", "duplicate")]) == 700
        books = desk.query("SELECT written, duplicates, quarantined FROM audit.consumer_position")[0]
        assert (books[0] + tallies.count("written"), books[0] + books[1], books[2]) == (700, 700, 700)

    def test_a_retry_that_waits_for_a_worker_finds_its_event(self, desk: Desk) -> None:
        """The worker's transaction holds the event when the retry comes to write it: a duplicate, not a second row."""
        encoder, knowing = EventEncoder(evolved_schema()), Decoder(event_schema(), [evolved_schema()], 1_048_576)
        one = now_event()
        desk.worker([encoder.encode(one)])
        with psycopg.connect(desk.url) as other, ThreadPoolExecutor(1) as threads:
            # What a worker does between its COPY and its COMMIT.
            record = judge(decoder(), ENCODER.encode(one), kept_range(micros(), RETENTION))
            assert isinstance(record, AuditRecord)
            other.execute("INSERT INTO audit.event VALUES (%s, %s, %s)", (one["event_id"], one["occurred_at"], record.content_hash))
            retry = threads.submit(retry_all, desk, knowing)
            wait_until(lambda: waiting(desk) == 1, "the retry waits for the event's key")
            other.commit()
            assert [each.outcome for each in retry.result()] == ["duplicate"]
        assert desk.query("SELECT count(*) FROM audit.event") == [(1,)]

    def test_a_backend_that_dies_in_the_middle(self, desk: Desk) -> None:
        """Nothing of the page stays; it is tried again and done once."""
        encoder, knowing = EventEncoder(evolved_schema()), Decoder(event_schema(), [evolved_schema()], 1_048_576)
        events = [now_event() for _ in range(3)]
        desk.worker([encoder.encode(each) for each in events])
        with psycopg.connect(desk.url) as other, ThreadPoolExecutor(1) as threads:
            other.execute("INSERT INTO audit.event VALUES (%s, now(), '')", (max(each["event_id"] for each in events),))
            retry = threads.submit(retry_all, desk, knowing)
            wait_until(lambda: waiting(desk) == 1, "the retry is in the middle of its transaction")
            blocked = "datname = current_database() AND wait_event_type = 'Lock'"
            assert desk.query(f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE {blocked}") == [(1,)]
            wait_until(lambda: waiting(desk) == 1, "it is tried again")
            other.rollback()
            assert [each.outcome for each in retry.result()] == ["written"] * 3
        assert desk.query("SELECT count(*) FROM audit.audit_log") == [(3,)]
        assert len(desk.history()) == 3

    def test_a_commit_whose_answer_was_lost(self, desk: Desk) -> None:
        """The page is tried again and found settled: in the log once, told once."""
        desk.worker([EventEncoder(evolved_schema()).encode(now_event()), b"garbage"])
        port = int(desk.url.rsplit(":", 1)[1].partition("/")[0])
        with FaultProxy("127.0.0.1", port) as proxy:
            proxy.cut_after_request(b"COMMIT")
            proxied = desk.operator_url.replace(f":{port}/", f":{proxy.port}/")
            tallies = retry_all(desk, Decoder(event_schema(), [evolved_schema()], 1_048_576), proxied)
            proxy.wait_for_cut()
        assert sorted(each.outcome for each in tallies) == ["already retried", "undecodable"]
        # What failed stays open, so its second try is told too.
        assert [row[1:3] for row in desk.history()] == [("retried", "written"), *[("retry failed", "undecodable")] * 2]
        assert desk.query("SELECT count(*) FROM audit.audit_log") == [(1,)]

    def test_a_database_that_stays_down(self) -> None:
        """After some tries the failure is told."""
        tries = 0

        def refuse() -> Any:
            nonlocal tries
            tries += 1
            raise psycopg.OperationalError("down")

        settlement = Settlement(refuse)
        message = StoredMessage(1, (TOPIC, "id", 0, 0), (None, b"", None))
        settlement.pages = lambda *_, **__: iter([[message]])  # type: ignore[method-assign]
        run = Quarantine(settlement, Backoff(lambda: 0.5), lambda _: None)
        with pytest.raises(TransientError):
            list(run.discard(Selection(), "sato", "why", dry_run=False))
        assert tries == 4


class TestDiscard:
    """Set aside for good, with who and why."""

    def test_who_and_why(self, desk: Desk) -> None:
        """A dry run changes nothing; then it is told, and final; the bytes stay."""
        desk.worker([b"garbage", b"more garbage"])
        first, second = (row[0] for row in desk.query("SELECT id FROM audit.quarantine ORDER BY id"))
        before = desk.state()
        discard = ("discard", "--id", str(first), "--note", "a test of ours", "--by", "suzuki")
        assert desk.outcomes(*discard) == {first: "discarded"}
        assert desk.state() == before
        assert desk.outcomes(*discard, "--yes") == {first: "discarded"}
        assert desk.query("SELECT value, status, resolved_by FROM audit.quarantine WHERE id = %s", first) == [
            (b"garbage", "discarded", "suzuki")
        ]
        assert desk.query("SELECT quarantine_id, action, outcome, note, who, database_role FROM audit.quarantine_history") == [
            (first, "discarded", None, "a test of ours", "suzuki", desk.role)
        ]
        assert desk.outcomes("retry", "--id", str(first), "--yes", code=9) == {first: "already discarded"}
        assert desk.outcomes(*discard, "--yes") == {first: "already discarded"}
        assert desk.outcomes("retry", "--all", code=9) == {second: "undecodable"}
        assert len(desk.history()) == 1

    def test_a_reason_must_be_given(self, desk18: Desk) -> None:
        """Without a note, or with a blank one, it is a mistake of usage."""
        desk18.worker([b"garbage"])
        for arguments in (["--all", "--yes"], ["--all", "--yes", "--note", "  "]):
            assert desk18.command("discard", *arguments).returncode == 2
        assert desk18.query("SELECT status FROM audit.quarantine") == [("open",)]


class TestList:
    """What is there."""

    def test_filters_counts_and_forms(self, desk18: Desk) -> None:
        """Open ones by default, newest first; counts by reason; one record a line into a pipe, and never a value."""
        desk18.worker([b"SECRET garbage", message_value(tenant="SECRET", source_ip="SECRET"), b"SECRET"])
        first, second, third = (row[0] for row in desk18.query("SELECT id FROM audit.quarantine ORDER BY id"))
        desk18.command("discard", "--id", str(third), "--note", "why", "--yes")

        def ids(*arguments: str) -> list[int]:
            done = desk18.command("list", "--json", *arguments)
            assert done.returncode == 0
            assert "SECRET" not in done.stdout + done.stderr
            return [json.loads(line)["id"] for line in done.stdout.splitlines()]

        assert ids() == [second, first]
        assert ids("--status", "any") == [third, second, first]
        assert ids("--status", "discarded") == [third]
        assert ids("--reason", "undecodable", "--status", "any", "--limit", "1") == [third]
        assert ids("--since", "2999-01-01") == []
        table = desk18.command("list")
        assert [line.split("\t")[0] for line in table.stdout.splitlines()] == ["id", str(second), str(first)]
        assert "2 of 2 shown: invalid event (open) 1, undecodable (open) 1" in table.stderr
        counts = [json.loads(line) for line in desk18.command("list", "--counts", "--status", "any", "--json").stdout.splitlines()]
        assert [(each["reason"], each["status"], each["messages"]) for each in counts] == [
            ("invalid event", "open", 1), ("undecodable", "discarded", 1), ("undecodable", "open", 1),
        ]  # fmt: skip

    def test_a_schema_of_another_version(self, desk18: Desk) -> None:
        """Said with its remedy and exit code."""
        with psycopg.connect(desk18.url, autocommit=True) as connection:
            connection.execute("UPDATE audit.alembic_version SET version_num = '0001'")
        done = desk18.command("list")
        assert (done.returncode, "integration-audit migrate" in done.stderr) == (6, True)


class TestShow:
    """Everything about one."""

    def test_everything_about_one(self, desk18: Desk) -> None:
        """Fields until the error, its place, headers as they came, history; as text, JSON, and the bytes alone."""
        value = ENCODER.encode(now_event(actor="sato"))[:-1] + b"\x02"  # the boolean at its end is neither 0 nor 1
        headers = [("source", b"\xff\x00"), ("empty", None), ("source", b"again")]
        desk18.worker([value], headers=headers)
        desk18.command("retry", "--all", "--yes", "--by", "suzuki")
        found = json.loads(desk18.command("show", "1", "--json").stdout)
        assert base64.b64decode(found["value"]) == value
        assert found["headers"] == [[name, None if text is None else base64.b64encode(text).decode()] for name, text in headers]
        assert (found["decoding"]["framing"], found["decoding"]["schema_known"]) == ("Avro single-object", True)
        assert {each["path"]: each["value"] for each in found["decoding"]["fields"]}["actor"] == "sato"
        assert found["decoding"]["stops"]["first_byte"] == len(value) - 1
        assert found["decoding"]["stops"]["field"] == "change.enabled"
        assert found["today"]["reason"] == "undecodable"
        assert [(each["action"], each["outcome"], each["who"]) for each in found["history"]] == [("retry failed", "undecodable", "suzuki")]
        text = desk18.command("show", "1").stdout
        assert ">02" in text
        assert "a boolean that is neither 0 nor 1" in text
        assert "retry failed by suzuki" in text
        raw = subprocess.run(
            [sys.executable, "-m", "consumer", "quarantine", "show", "1", "--raw"],
            env={**os.environ, "AUDIT_DATABASE_URL": desk18.operator_url}, capture_output=True, timeout=60, check=True,
        )  # fmt: skip
        assert raw.stdout == value
        assert desk18.command("show", "4711").returncode == 2

    def test_the_field_that_breaks_the_contract_is_marked(self, desk18: Desk) -> None:
        """A well-formed message: the place is that of the field; and what is fit for the log now is said to be."""
        desk18.worker([ENCODER.encode(now_event(source_ip="x\x1b[31m"))])
        found = json.loads(desk18.command("show", "1", "--json").stdout)
        assert found["decoding"]["stops"]["field"] == "source_ip"
        done = desk18.command("show", "1")
        assert "\x1b" not in done.stdout
        desk18.worker([EventEncoder(evolved_schema()).encode(now_event())])
        assert "no schema is known with this fingerprint" in desk18.command("show", "2").stdout

    def test_headers_come_back_as_they_were(self, desk18: Desk) -> None:
        """A decoder that looks at headers sees those of the message."""
        headers = [("id", b"\x00\x01"), ("none", None), ("id", b"")]
        desk18.worker([b"garbage", b"garbage"], headers=headers)
        desk18.worker([b"garbage"])
        settlement = Settlement(lambda: connect(desk18.operator_url))
        (page,) = settlement.pages(Selection(), whole=True)
        settlement.close()
        assert [message.headers() for message in page] == [headers, headers, None]
        assert [(each.topic(), each.partition(), each.offset(), each.key(), each.value()) for each in page] == [
            (TOPIC, 0, number, b"acme", b"garbage") for number in range(3)
        ]
