"""The main job on a real Kafka and a real PostgreSQL, run as users run it."""

import json
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from collections.abc import Callable
from typing import Any

import psycopg
import pytest
from confluent_kafka import Producer

from consumer.core.decoding import SINGLE_OBJECT, schema_fingerprint
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, event, message_value
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.postgres import PostgresServer
from tests.bed.raw_producer import produce_with_header_name
from tests.bed.worker import Workplace, wait_until
from tests.unit.test_document import FACTS

GOOD_BOOKS = {"duplicates": 0, "quarantined": 0, "tombstones": 0, "skipped": 0, "expired": 0}


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str) -> Workplace:
    """A workplace on the newest PostgreSQL."""
    return Workplace(kafka_broker, database, topic)


@pytest.mark.parametrize("protocol", ["classic", "consumer"])
def test_every_action_reaches_the_log(kafka_broker: KafkaBroker, any_database: str, topic: str, protocol: str) -> None:
    """All changes of the document, through both group protocols, into both majors."""
    place = Workplace(kafka_broker, any_database, topic, AUDIT_KAFKA_GROUP_PROTOCOL=protocol)
    place.publish([message_value({"type": change, **fields}) for change, fields, *_ in FACTS])
    place.drain()
    rows = place.query("SELECT level, module, action, complement, subject_type, service FROM audit.audit_log")
    expected = [(*where, action, json.loads(complement), subject, "Common") for _, _, where, action, complement, subject in FACTS]
    assert sorted(map(_text, rows)) == sorted(map(_text, expected))
    assert place.books() == {"written": len(FACTS), **GOOD_BOOKS}


def test_hostile_messages_cost_nobody_else_a_place(place: Workplace) -> None:
    """Three hundred good events are in the log; each bad message is in quarantine, byte for byte, for its own reason."""
    header = SINGLE_OBJECT + schema_fingerprint(event_schema())
    good = [message_value() for _ in range(300)]
    sample = message_value()
    bad: list[tuple[bytes, str]] = [
        (b"", "undecodable"),
        (b"garbage", "undecodable"),
        (sample[:-1], "undecodable"),
        (sample + b"\x00", "undecodable"),
        (header, "undecodable"),
        (header[:7], "undecodable"),
        (SINGLE_OBJECT + b"12345678" + sample[10:], "unknown schema"),
        (b"\x00\x00\x00\x00\x07" + sample[10:], "unknown schema"),
        (sample[:-2] + b"\x01\x01", "undecodable"),  # union index -1
        (message_value(occurred_at="1999-01-01T00:00:00Z"), "out of range"),
        (message_value(occurred_at="2999-01-01T00:00:00Z"), "out of range"),
        (message_value(source_ip="not an address"), "invalid event"),
        (sample.replace(b"-", b"_"), "invalid event"),
        (b"x" * 102_401, "oversized"),
        # PostgreSQL's index refuses a long text that does not compress.
        (message_value(tenant="".join(uuid.uuid4().hex for _ in range(200))), "unstorable"),
    ]
    values = list(good)
    for number, (value, _) in enumerate(bad):
        values.insert(number * 17, value)
    place.publish([*values, None], partition=0)
    place.drain(AUDIT_MAX_MESSAGE_BYTES="100 KiB")
    assert place.value("SELECT count(*) FROM audit.audit_log") == 300
    found = place.query("SELECT value, reason FROM audit.quarantine ORDER BY kafka_offset")
    assert [(bytes(value), reason) for value, reason in found] == bad
    assert place.books() == {**GOOD_BOOKS, "written": 300, "quarantined": len(bad), "tombstones": 1}


def test_nul_and_invalid_utf8_can_not_hide(place: Workplace) -> None:
    """Such an event is in the log, visibly escaped, with its raw message beside it."""
    nul = message_value(actor="sa\x00to")
    broken = message_value(actor="sakai").replace(b"sakai", b"s\xff\xedai")
    place.publish([nul, broken])
    place.drain()
    rows = place.query("SELECT login_name, source_bytes FROM audit.audit_log")
    assert sorted((name, bytes(raw)) for name, raw in rows) == sorted([("sa\\u0000to", nul), ("s\\udcff\\udcedai", broken)])


def test_duplicates_are_counted_and_conflicts_quarantined(place: Workplace) -> None:
    """In one batch or in two; a conflict keeps the first row as it is, also when only occurred_at differs."""
    first = event()
    later = {**first, "occurred_at": "2026-11-21T09:00:00Z"}
    place.publish([ENCODER.encode(first), ENCODER.encode(first), ENCODER.encode(later)], partition=0)
    place.drain()
    place.publish([ENCODER.encode(first), ENCODER.encode(later), ENCODER.encode(event())], partition=1)
    place.drain()
    assert place.books() == {**GOOD_BOOKS, "written": 2, "duplicates": 2, "quarantined": 2}
    assert place.query("SELECT DISTINCT reason FROM audit.quarantine") == [("conflict",)]
    assert place.value("SELECT count(*) FROM audit.audit_log WHERE occurred_at > '2026-11-21'") == 0


def test_aborted_transactions_are_absent_and_their_offsets_counted(place: Workplace) -> None:
    """Markers and aborted messages are `skipped`, at the end of the partition too."""
    producer = Producer({**place.kafka.client, "transactional.id": place.topic})
    producer.init_transactions()
    for commit in (True, False, True, False):
        producer.begin_transaction()
        for _ in range(10):
            producer.produce(place.topic, message_value(), partition=0)
        producer.flush()  # what is only queued would not reach the log of an aborted transaction
        (producer.commit_transaction if commit else producer.abort_transaction)()
    place.drain()
    assert place.books() == {**GOOD_BOOKS, "written": 20, "skipped": 24}


def test_expired_offsets_are_a_recorded_gap(place: Workplace) -> None:
    """What Kafka removed before it was read is counted and named; what is left is read."""
    place.publish([message_value() for _ in range(10)], partition=0)
    place.drain()
    place.publish([message_value() for _ in range(20)], partition=0)
    place.kafka.delete_records(place.topic, 0, 25)
    place.drain()
    assert place.books() == {**GOOD_BOOKS, "written": 15, "expired": 15}
    assert place.query("SELECT kafka_partition, first_offset, next_offset FROM audit.source_gap") == [(0, 10, 25)]


def test_a_topic_made_anew_is_another_topic(place: Workplace) -> None:
    """While a worker runs: all of the new topic is read, under a position of its own."""
    place.publish([message_value() for _ in range(10)], partition=0)
    with place.worker():
        wait_until(lambda: place.books()["written"] == 10, "the old topic is read")
        old = place.kafka.topic_id(place.topic)
        place.kafka.delete_topic(place.topic)
        place.kafka.create_topic(place.topic)
        place.publish([message_value() for _ in range(25)], partition=0)
        wait_until(lambda: place.value("SELECT count(*) FROM audit.audit_log") == 35, "the new topic is read")
    rows = place.query("SELECT kafka_topic_id = %s, next_offset FROM audit.consumer_position WHERE kafka_partition = 0", old)
    assert (False, 25) in rows


def test_a_database_taken_back_makes_the_worker_read_again(place: Workplace, postgres: PostgresServer) -> None:
    """The position is in the database, so a backup carries it."""
    place.publish([message_value() for _ in range(10)])
    place.drain()
    name = place.database.rpartition("/")[2]
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
    place.publish([message_value() for _ in range(10)])
    place.drain()
    assert place.value("SELECT count(*) FROM audit.audit_log") == 20
    place.drain(AUDIT_DATABASE_URL=f"{place.database}_backup")
    restored = Workplace(place.kafka, f"{place.database}_backup", place.topic)
    assert restored.value("SELECT count(*) FROM audit.audit_log") == 20
    assert restored.books() == {**GOOD_BOOKS, "written": 20}


def test_kill_nine_loses_and_doubles_nothing(place: Workplace) -> None:
    """A third of the stream are duplicates; whenever the worker dies, each event is there once, and the books are exact."""
    events = [message_value() for _ in range(8_000)]
    stream = events + events[:4_000]
    place.publish(stream)
    for kill in range(1, 7):
        with place.worker(AUDIT_BATCH_MAX_MESSAGES="200") as process:
            goal = min(kill * 1_500, len(stream))
            wait_until(lambda goal=goal: sum(place.books().values()) >= goal, "progress")
            process.kill()
    place.drain()
    assert place.value("SELECT count(*) FROM audit.audit_log") == 8_000
    assert place.value("SELECT count(DISTINCT event_id) FROM audit.event") == 8_000
    assert place.books() == {**GOOD_BOOKS, "written": 8_000, "duplicates": 4_000}


def test_a_frozen_worker_wakes_and_writes_nothing_twice(place: Workplace) -> None:
    """Its partitions move to another; awake again it is fenced, rejoins and goes on."""
    first_half = [message_value() for _ in range(500)]
    with place.worker() as frozen:
        place.publish(first_half)
        wait_until(lambda: place.books()["written"] == 500, "the first half")
        frozen.send_signal(signal.SIGSTOP)
        place.publish([message_value() for _ in range(500)])
        with place.worker() as other:
            wait_until(lambda: place.books()["written"] == 1_000, "the other takes over")
            frozen.send_signal(signal.SIGCONT)
            place.publish([message_value() for _ in range(500)])
            wait_until(lambda: place.books()["written"] == 1_500, "both go on")
            assert frozen.poll() is None
            for process in (frozen, other):
                process.send_signal(signal.SIGTERM)
                assert process.wait(timeout=40) == 0
    assert place.value("SELECT count(*) FROM audit.audit_log") == 1_500
    assert place.books() == {**GOOD_BOOKS, "written": 1_500}


def test_the_database_comes_back(kafka_broker: KafkaBroker, topic: str, postgres: PostgresServer) -> None:
    """Down, then up: the worker stays alive, resumes by itself, and stops gracefully while it is down."""
    place = Workplace(kafka_broker, postgres.new_database(), topic)
    with place.worker() as process:
        place.publish([message_value() for _ in range(10)])
        wait_until(lambda: place.books()["written"] == 10, "it works")
        postgres.stop("immediate")
        place.publish([message_value() for _ in range(10)])
        assert process.poll() is None
        postgres.start()
        wait_until(lambda: place.books()["written"] == 20, "it works again")
        postgres.stop()
        process.send_signal(signal.SIGTERM)
        try:
            assert process.wait(timeout=40) == 0
        finally:
            postgres.start()
    assert place.books() == {**GOOD_BOOKS, "written": 20}


def test_several_topics(kafka_broker: KafkaBroker, database: str, new_topic: Callable[..., str]) -> None:
    """Named by comma."""
    one, two = new_topic(1), new_topic(2)
    place = Workplace(kafka_broker, database, f"{one}, {two}")
    place.publish([message_value() for _ in range(5)], topic=one)
    place.publish([message_value() for _ in range(7)], topic=two)
    place.drain()
    rows = dict(place.query("SELECT kafka_topic, count(*) FROM audit.audit_log GROUP BY 1"))
    assert rows == {one: 5, two: 7}


def test_a_role_with_least_privilege_is_enough(place: Workplace, postgres: PostgresServer) -> None:
    """A login role that is granted audit_writer runs the worker."""
    role = f"worker_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres.url(), autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN; GRANT audit_writer TO {role}")
    place.publish([message_value(), b"garbage", message_value(occurred_at="2024-11-20T09:00:00Z")])
    log = place.drain(AUDIT_DATABASE_URL=place.database.replace("postgres@", f"{role}@"))
    assert "superuser" not in log
    assert place.books() == {**GOOD_BOOKS, "written": 2, "quarantined": 1}


@pytest.mark.parametrize(("revision", "remedy"), [("0000", "migrate"), ("9999", "newer version")])
def test_run_refuses_a_schema_of_another_version(place: Workplace, revision: str, remedy: str) -> None:
    """And says what to do."""
    with psycopg.connect(place.database) as connection:
        connection.execute("UPDATE audit.alembic_version SET version_num = %s", (revision,))
    done = place.command("run", "--drain")
    assert done.returncode == 6
    assert remedy in done.stderr


def test_check_and_publish(place: Workplace) -> None:
    """The commands around the worker."""
    checked = place.command("check", "--json")
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert {"what": f"topic {place.topic}", "found": "4 partitions", "remedy": ""} in json.loads(checked.stdout)
    published = place.command("publish", "--sample", "30", "--json")
    assert json.loads(published.stdout) == {"published": 30, "topic": place.topic}
    place.drain()
    assert place.value("SELECT count(DISTINCT action) FROM audit.audit_log") == 10
    assert isinstance(place.command("run", "--help"), subprocess.CompletedProcess)


def _text(row: tuple[object, ...]) -> str:
    return json.dumps(row, sort_keys=True)


def test_header_names_that_are_not_utf8(place: Workplace) -> None:
    """Each such message is alone in quarantine; many of them, since CPython calls a function in another way after some tens of calls."""
    place.publish([b"garbage"] * 60, partition=0)
    produce_with_header_name(place.kafka.bootstrap_servers, place.topic, b"garbage", b"\xff\xfe", 100)
    place.publish([message_value()], partition=0)
    place.drain()
    assert place.books() == {**GOOD_BOOKS, "written": 1, "quarantined": 160}
    assert place.value("SELECT count(*) FROM audit.quarantine WHERE headers IS NULL AND error LIKE '%%not UTF-8%%'") == 100


def test_health_from_the_first_moment(place: Workplace) -> None:
    """Alive and not ready, with the reason, while the database is missing; ready once it works; the metrics say what it did."""
    port = free_port()
    with place.worker(AUDIT_METRICS_PORT=str(port), AUDIT_DATABASE_URL=f"postgresql://postgres@127.0.0.1:{free_port()}/none"):
        wait_until(lambda: _get(port, "/health/ready")[1].get("reasons", ["starting"]) != ["starting"], "the reason")
        status, ready = _get(port, "/health/ready")
        assert status == 503
        assert "refused" in ready["reasons"][0]
        assert _get(port, "/health/live") == (200, {"live": True})
    with place.worker(AUDIT_METRICS_PORT=str(port)):
        wait_until(lambda: _get(port, "/health/ready")[0] == 200, "readiness")
        place.publish([message_value(), message_value(), b"garbage"])
        wait_until(lambda: sum(place.books().values()) == 3, "the messages")
        wait_until(lambda: "integration_audit_events_written_total 2.0" in _text_of(port, "/metrics"), "the metric")
        assert 'integration_audit_quarantined_total{reason="undecodable"} 1.0' in _text_of(port, "/metrics")


def _text_of(port: int, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=5) as answer:
        text: str = answer.read().decode()
        return text


def _get(port: int, path: str) -> tuple[int, dict[str, Any]]:
    try:
        return 200, json.loads(_text_of(port, path))
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())
    except OSError:
        return 0, {}
