"""The drills of docs/backup.md: restored to a point in time, and from a dump; then the worker goes on."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from tests.bed.events import encoded, events
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

TABLES = ("audit_log", "event", "consumer_position", "quarantine", "source_gap", "operation_history", "alembic_version")


@pytest.fixture
def another(postgres: PostgresServer) -> Iterator[PostgresServer]:
    """A cluster of one's own."""
    server = PostgresServer(postgres._binaries)
    try:
        server.start()
        yield server
    finally:
        server.remove()


def ids(place: Workplace) -> list[str]:
    """The events in the log."""
    return [str(event_id) for (event_id,) in place.query("SELECT event_id FROM audit.audit_log ORDER BY 1")]


def content(place: Workplace) -> list[list[tuple[Any, ...]]]:
    """All that is there."""
    return [place.query(f"SELECT to_jsonb(kept) FROM audit.{table} AS kept ORDER BY 1") for table in TABLES]


def test_restored_to_a_point_in_time(kafka_broker: KafkaBroker, another: PostgresServer, new_topic: Callable[..., str]) -> None:
    """What was written after that point is read again; what Kafka has removed meanwhile is told as a gap."""
    archive = another.archive()
    place = Workplace(kafka_broker, another.new_database(), new_topic(2))

    def written(here: int) -> list[list[dict[str, Any]]]:
        batches = [events(here), events(here)]
        for number, batch in enumerate(batches):
            place.publish(encoded(batch), partition=number)
        return batches

    before = written(20)
    place.drain()
    backup = another.base_backup()
    between = written(20)
    place.drain()
    moment = place.value("SELECT clock_timestamp()")
    after = written(20)
    place.publish([b"garbage"], partition=0)
    place.drain()
    last = place.value("SELECT pg_walfile_name(pg_switch_wal())")
    wait_until(lambda: place.value("SELECT last_archived_wal >= %s FROM pg_stat_archiver", last), "the archive has it all")
    another.stop("immediate")
    recovery = f"""
        restore_command = 'cp {archive}/%f %p'
        recovery_target_time = '{moment}'
        recovery_target_action = 'promote'"""
    with another.restored(backup, recovery) as server:
        restored = Workplace(kafka_broker, server.url(place.database.rpartition("/")[2]), place.topic)
        wait_until(lambda: not restored.value("SELECT pg_is_in_recovery()"), "the recovery is at its end")
        kept = sorted(str(each["event_id"]) for batches in (before, between) for batch in batches for each in batch)
        assert ids(restored) == kept
        kafka_broker.delete_records(place.topic, 1, 50)
        restored.drain()
        again = [str(each["event_id"]) for each in after[0] + after[1][10:]]
        assert ids(restored) == sorted(kept + again)
        assert restored.books() == {
            "written": 110, "duplicates": 0, "quarantined": 1, "tombstones": 0, "skipped": 0, "expired": 10,
        }  # fmt: skip
        assert restored.query("SELECT kafka_partition, first_offset, next_offset FROM audit.source_gap") == [(1, 40, 50)]
        done = restored.command("reconcile")
        assert done.returncode == 0, done.stdout + done.stderr


def test_restored_from_a_dump(
    kafka_broker: KafkaBroker, postgres: PostgresServer, database: str, another: PostgresServer, new_topic: Callable[..., str]
) -> None:
    """Into another cluster: content, rights and guards are there, and a worker with nothing but its role goes on."""
    place = Workplace(kafka_broker, database, new_topic(1))
    first, lost = events(20), events(10)
    place.publish([*encoded(first), b"garbage", None])
    place.drain()
    name = database.rpartition("/")[2]
    worker = f"worker_{name}"
    with psycopg.connect(database, autocommit=True) as connection:
        connection.execute(f"CREATE ROLE {worker} LOGIN IN ROLE audit_writer")  # type: ignore[call-overload]
    roles, dump = postgres.folder / f"{name}.sql", postgres.folder / f"{name}.dump"
    postgres._run("pg_dumpall", "--roles-only", "-d", postgres.url(), "-f", str(roles))
    postgres._run("pg_dump", "--format=custom", "-d", database, "-f", str(dump))
    before = content(place)
    place.publish(encoded(lost))
    place.drain()
    another._run("psql", "-d", another.url(), "-f", str(roles))
    another._run("createdb", "-h", "127.0.0.1", "-p", str(another.port), "-U", "postgres", name)
    another._run("pg_restore", "--exit-on-error", "-d", another.url(name), str(dump))
    restored = Workplace(kafka_broker, another.url(name), place.topic, AUDIT_DATABASE_URL=another.url(name, worker))
    assert content(restored) == before
    with psycopg.connect(restored.database, autocommit=True) as connection, pytest.raises(psycopg.errors.InsufficientPrivilege):
        connection.execute("DELETE FROM audit.audit_log")
    restored.drain()
    assert ids(restored) == ids(place)
    assert restored.books() == place.books()
    done = restored.command("reconcile", AUDIT_DATABASE_URL=restored.database)
    assert done.returncode == 0, done.stdout + done.stderr
