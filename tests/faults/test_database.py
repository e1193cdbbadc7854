"""Faults of the way to the database and of what it says: down (6), restored (12), cut, frozen, read-only, full (13)."""

import os
import signal
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.inside import IMPATIENT, worker_inside
from tests.bed.kafka import KafkaBroker
from tests.bed.needs import missing
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace, wait_until

SMALL = {"AUDIT_BATCH_MAX_MESSAGES": "50"}


class TestFault06DatabaseDown:
    """Longer than max.poll.interval: the group keeps the worker, memory is bounded, nothing is quarantined, and it resumes."""

    @pytest.mark.parametrize("how", ["refused", "frozen"])
    def test_fault_06_database_down(self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], how: str) -> None:
        """Refused, or silent."""
        expected = events(3_000)
        with worker_inside({**place.environment, **SMALL, **database_way}, **IMPATIENT) as inside:
            place.publish(encoded(expected[:1_000]))
            inside.run_until(lambda: place.written() > 100, "the first batches")
            if how == "refused":
                postgres_proxy.refuse()
                postgres_proxy.cut()
            else:
                postgres_proxy.freeze()
            place.publish(encoded(expected[1_000:]))
            outage_ends = time.monotonic() + 2.5 * IMPATIENT["max_poll_interval_ms"] / 1000
            inside.run_until(lambda: time.monotonic() > outage_ends, "the outage is longer than max.poll.interval")
            assert "PostgreSQL" in "".join(inside.worker.not_ready())
            consumed = {partition: cursor.offset for partition, cursor in inside.worker._cursors.items()}
            assert sum(consumed.values()) - sum(inside.worker.written.values()) <= 2 * 50
            place.assert_committed_after_written()
            postgres_proxy.accept()
            postgres_proxy.thaw()
            inside.run_until(lambda: place.written() == 3_000, "all is written")
            assert not inside.ear.names.count("partitions lost")
            assert not inside.ear.names.count("partitions revoked")
            assert inside.ear.names.count("partitions assigned") == 1
        place.assert_complete(expected)

    def test_fault_06_under_an_idle_worker(
        self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], health: Health
    ) -> None:
        """It is not ready, though it has nothing to write; and ready again by itself."""
        with place.worker(**database_way, **health.settings):
            wait_until(lambda: health.ready, "it works")
            postgres_proxy.refuse()
            postgres_proxy.cut()
            wait_until(lambda: "PostgreSQL" in health.reasons, "not ready, with the reason")
            assert health.live == 200
            postgres_proxy.accept()
            wait_until(lambda: health.ready, "ready again")


class TestFault12Restore:
    """The position is in the database, so a backup carries it."""

    def test_fault_12_restored_from_a_backup(self, place: Workplace, postgres: PostgresServer) -> None:
        """The worker reads again what the restore lost, although Kafka was told that it is done."""
        expected = events(20)
        place.publish(encoded(expected[:10]))
        place.drain()
        name = place.database.rpartition("/")[2]
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
        place.publish(encoded(expected[10:]))
        place.drain()
        place.assert_complete(expected)
        restored = Workplace(place.kafka, f"{place.database}_backup", place.topic)
        restored.drain()
        restored.assert_complete(expected)

    def test_fault_12_under_an_idle_worker(self, place: Workplace, postgres: PostgresServer) -> None:
        """Nothing is written any more, so no fence says it: the worker looks at its positions."""
        expected = events(20)
        place.publish(encoded(expected[:10]))
        place.drain()
        name = place.database.rpartition("/")[2]
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}_backup TEMPLATE {name}")
            with place.worker() as process:
                place.publish(encoded(expected[10:]))
                wait_until(lambda: place.written() == 20, "all is written")
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
                connection.execute(f"ALTER DATABASE {name}_backup RENAME TO {name}")
                wait_until(lambda: place.written() == 20, "what the restore lost is written again")
                assert process.poll() is None
        place.assert_complete(expected)


class TestFault13Outcomes:
    """Whatever becomes of a call, the same batch is tried again; nothing is lost or doubled."""

    @pytest.mark.parametrize("side", ["before", "after"])
    @pytest.mark.parametrize("request_", [b"BEGIN", b"COPY audit.event", b"COPY audit.audit_log", b"COMMIT"])
    def test_fault_13_cut(
        self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], side: str, request_: bytes
    ) -> None:
        """Before the request or before its answer: at COMMIT, the row is in and nobody was told."""
        expected = events(400)
        with worker_inside({**place.environment, **SMALL, **database_way}) as inside:
            place.publish(encoded(expected[:200]))
            inside.run_until(lambda: place.written() > 0, "the first batch")
            (postgres_proxy.cut_before_request if side == "before" else postgres_proxy.cut_after_request)(request_)
            place.publish(encoded(expected[200:]))
            inside.run_until(postgres_proxy._tripped.is_set, "the cut")
            inside.run_until(lambda: place.written() == 400, "all is written")
            assert "held" in inside.ear.names
            assert ("fenced" in inside.ear.names) == (side == "after" and request_ == b"COMMIT")
        place.assert_complete(expected)

    def test_fault_13_no_answer_to_commit(self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str]) -> None:
        """While nobody knows what became of a batch, Kafka is not told that it is done."""
        expected = events(400)
        with worker_inside({**place.environment, **SMALL, **database_way}) as inside:
            place.publish(encoded(expected[:200]))
            inside.run_until(lambda: place.written() == 200 and place.committed() == place.positions(), "it works")
            postgres_proxy.freeze_before_request(b"COMMIT")
            place.publish(encoded(expected[200:]))
            inside.run_until(lambda: "PostgreSQL: no answer yet" in inside.worker.not_ready(), "not ready, with the reason")
            assert place.written() == 200
            place.assert_committed_after_written()
            postgres_proxy.thaw()
            inside.run_until(lambda: place.written() == 400, "all is written")
        place.assert_complete(expected)

    def test_fault_13_a_frozen_backend(self, place: Workplace, monkeypatch: pytest.MonkeyPatch) -> None:
        """The call is cut by the client, for no setting of the server would end it."""
        monkeypatch.setattr("consumer.worker.WRITE_DEADLINE", 3.0)
        expected = events(400)
        with worker_inside({**place.environment, **SMALL}) as inside:
            place.publish(encoded(expected[:200]))
            inside.run_until(lambda: place.written() == 200, "it works")
            backend = _backend(place)
            os.kill(backend, signal.SIGSTOP)
            try:
                place.publish(encoded(expected[200:]))
                inside.run_until(lambda: "PostgreSQL: no answer yet" in inside.worker.not_ready(), "not ready, with the reason")
                inside.run_until(lambda: place.written() == 400, "written through another connection")
                assert "call to PostgreSQL cut" in inside.ear.names
            finally:
                os.kill(backend, signal.SIGCONT)
        place.assert_complete(expected)

    def test_fault_13_terminated(self, place: Workplace) -> None:
        """pg_terminate_backend, again and again."""
        expected = events(3_000)
        with worker_inside({**place.environment, **SMALL}) as inside:
            place.publish(encoded(expected))
            for goal in (200, 1_000, 2_000):
                inside.run_until(lambda goal=goal: place.written() >= goal, "progress")
                place.query("SELECT pg_terminate_backend(%s)", _backend(place))
            inside.run_until(lambda: place.written() == 3_000, "all is written")
            assert "held" in inside.ear.names
        place.assert_complete(expected)

    def test_fault_13_read_only(self, place: Workplace, postgres: PostgresServer, health: Health) -> None:
        """It failed over: the worker holds, connects anew, and goes on once somebody may write."""
        expected = events(400)
        name = place.database.rpartition("/")[2]
        with place.worker(**health.settings) as process, psycopg.connect(postgres.url(), autocommit=True) as connection:
            place.publish(encoded(expected[:200]))
            wait_until(lambda: place.written() == 200 and health.ready, "it works")
            connection.execute(f"ALTER DATABASE {name} SET default_transaction_read_only = on")
            place.query("SELECT pg_terminate_backend(%s)", _backend(place))
            place.publish(encoded(expected[200:]))
            wait_until(lambda: "25006" in health.reasons, "not ready, with the reason")
            assert health.live == 200
            connection.execute(f"ALTER DATABASE {name} RESET default_transaction_read_only")
            wait_until(lambda: place.written() == 400 and health.ready, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_fault_13_no_connection_left(self, place: Workplace, postgres: PostgresServer, health: Health) -> None:
        """max_connections are taken by others when the worker needs a new one."""
        expected = events(400)
        role = f"worker_{uuid.uuid4().hex[:8]}"  # for a superuser some connections are kept
        with psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE ROLE {role} LOGIN; GRANT audit_writer TO {role}")
        url = place.database.replace("postgres@", f"{role}@")
        with place.worker(AUDIT_DATABASE_URL=url, **health.settings) as process:
            place.publish(encoded(expected[:200]))
            wait_until(lambda: place.written() == 200 and health.ready, "it works")
            with ExitStack() as others:
                place.query("SELECT pg_terminate_backend(%s)", _backend(place))
                with suppress(psycopg.OperationalError):
                    while True:
                        others.enter_context(psycopg.connect(url))
                place.publish(encoded(expected[200:]))
                wait_until(lambda: "connection slots" in health.reasons, "not ready, with the reason")
                assert health.live == 200
            wait_until(lambda: place.written() == 400 and health.ready, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)


class TestFault13FullDisk:
    """PostgreSQL has no room: nothing is quarantined, and once there is room the same batch is written."""

    @pytest.fixture
    def small_disk(self, postgres: PostgresServer) -> Iterator[Callable[[str], str]]:
        """Makes a database on a disk of its own, and resizes that; a tmpfs, for which root is needed."""
        name = f"small_{uuid.uuid4().hex[:8]}"
        folder = postgres.folder / name
        with _mounted(folder, postgres.folder) as resize, psycopg.connect(postgres.url(), autocommit=True) as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION '{folder}'")
            template = postgres.new_database().rpartition("/")[2]
            connection.execute(f"CREATE DATABASE {name} TEMPLATE {template} TABLESPACE {name}")
            try:

                def resized(size: str) -> str:
                    resize(size)
                    return postgres.url(name)

                yield resized
            finally:
                connection.execute(f"DROP DATABASE {name} WITH (FORCE)")
                connection.execute(f"DROP TABLESPACE {name}")

    def test_fault_13_a_full_disk(self, kafka_broker: KafkaBroker, topic: str, small_disk: Callable[[str], str], health: Health) -> None:
        """No space left on device, and then some."""
        used = int(subprocess.run(["du", "-sk", "--", *_tablespaces(small_disk("64m"))], check=True, capture_output=True).stdout.split()[0])
        place = Workplace(kafka_broker, small_disk(f"{used + 1024}k"), topic, **SMALL)
        expected = events(6_000)
        with place.worker(**health.settings) as process:
            place.publish(encoded(expected))
            wait_until(lambda: "53100" in health.reasons, "not ready, with the reason")
            assert health.live == 200
            small_disk("256m")
            wait_until(lambda: place.written() == 6_000 and health.ready, "all is written")
            assert process.poll() is None
        place.assert_complete(expected)


def _tablespaces(url: str) -> list[str]:
    with psycopg.connect(url) as connection:
        question = "SELECT pg_tablespace_location(dattablespace) FROM pg_database WHERE datname = current_database()"
        return [place for (place,) in connection.execute(question).fetchall()]


@contextmanager
def _mounted(folder: Path, like: Path) -> Iterator[Callable[[str], object]]:
    if os.geteuid() != 0:
        missing("root's rights, to mount a small disk")
    folder.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "tmpfs", str(folder)], check=False, capture_output=True).returncode:
        missing("the right to mount a small disk")
    try:
        owner = like.stat()
        os.chown(folder, owner.st_uid, owner.st_gid)
        yield lambda size: subprocess.run(["mount", "-o", f"remount,size={size}", str(folder)], check=True)
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)
        folder.rmdir()


def _backend(place: Workplace) -> int:
    """The backend of the only worker."""
    question = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'integration-audit'"
    pid: int = place.value(question)
    return pid
