"""The main job on a real Kafka and a real PostgreSQL, run as users run it; what goes wrong is in `tests/faults`."""

import json
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from tests.bed.events import ENCODER, event, message_value
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.postgres import PostgresServer
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


def test_the_retention_is_told(place: Workplace, tmp_path: Path) -> None:
    """At a worker's start, where it is another one; until the database takes it, the worker waits."""
    role = f"worker_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(place.database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {role} LOGIN IN ROLE audit_writer")  # type: ignore[call-overload]
        connection.execute("REVOKE EXECUTE ON FUNCTION audit.tell_retention FROM audit_writer")
    url = place.database.replace("postgres@", f"{role}@")
    place.publish([message_value()])
    with place.worker(log=tmp_path / "log", AUDIT_DATABASE_URL=url) as process:
        wait_until(lambda: "permission denied for function tell_retention" in (tmp_path / "log").read_text(), "it says what it waits for")
        assert process.poll() is None
        with psycopg.connect(place.database, autocommit=True) as connection:
            connection.execute("GRANT EXECUTE ON FUNCTION audit.tell_retention TO audit_writer")
        wait_until(lambda: place.written() == 1, "it works")
    for retention in ("1096 days", "400 days"):
        place.drain(AUDIT_DATABASE_URL=url, AUDIT_RETENTION=retention)
    told = place.query("SELECT action, detail, who, database_role FROM audit.operation_history ORDER BY id")
    assert told == [
        ("retention changed", {"from": None, "to": "1096 days"}, "worker", role),
        ("retention changed", {"from": "1096 days", "to": "400 days"}, "worker", role),
    ]


def _text(row: tuple[object, ...]) -> str:
    return json.dumps(row, sort_keys=True)


def test_health_from_the_first_moment(place: Workplace) -> None:
    """Alive and not ready, with the reason, while the database is missing; ready once it works; the metrics say what it did."""
    health = Health()
    with place.worker(**health.settings, AUDIT_DATABASE_URL=f"postgresql://postgres@127.0.0.1:{free_port()}/none"):
        wait_until(lambda: "refused" in health.reasons, "the reason")
        assert health.live == 200
    with place.worker(**health.settings):
        wait_until(lambda: health.ready, "readiness")
        place.publish([message_value(), message_value(), b"garbage"])
        wait_until(lambda: sum(place.books().values()) == 3, "the messages")
        wait_until(lambda: health.metric("events_written_total") == 2, "the metric")
        assert 'integration_audit_quarantined_total{reason="undecodable"} 1.0' in health.text("/metrics")
