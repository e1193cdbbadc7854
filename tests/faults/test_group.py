"""Faults of the group: a stall (7), workers that come and go (8), a zombie (9), two writers in reverse order (20)."""

import signal
from pathlib import Path

import pytest

from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.inside import IMPATIENT, worker_inside
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace, wait_until

SMALL = {"AUDIT_BATCH_MAX_MESSAGES": "50"}


class TestFault07Stall:
    """Beyond max.poll.interval the partitions are lost; what is held is dropped or fenced, and nothing is doubled."""

    def test_fault_07_alone(self, place: Workplace) -> None:
        """It comes back and goes on from PostgreSQL's positions."""
        expected = events(2_000)
        place.publish(encoded(expected))
        with worker_inside({**place.environment, **SMALL}, **IMPATIENT) as inside:
            inside.run_until(lambda: place.written() > 100 and inside.worker._next is not None, "in the middle")
            wait_until(lambda: place.members() == 0, "the client has left the group")
            inside.run_until(lambda: place.written() == 2_000, "all is written")
            assert "partitions lost" in inside.ear.names
        place.assert_complete(expected)
        place.assert_committed_after_written()

    def test_fault_07_another_has_done_it(self, place: Workplace) -> None:
        """What the stalled worker holds was written by its successor: it is fenced."""
        expected = events(2_000)
        place.publish(encoded(expected))
        with worker_inside({**place.environment, **SMALL}, **IMPATIENT) as inside:
            inside.run_until(lambda: place.written() > 100 and inside.worker._next is not None, "in the middle")
            wait_until(lambda: place.members() == 0, "the client has left the group")
            place.drain()
            more = events(100)
            place.publish(encoded(more))
            inside.run_until(lambda: place.written() == 2_100, "it goes on")
            assert "fenced" in inside.ear.names
        place.assert_complete(expected + more)


class TestFault08WorkersComeAndGo:
    """Every event once, and nobody stays paused."""

    def test_fault_08_mid_batch(self, place: Workplace) -> None:
        """A second worker joins and leaves again while batches are written."""
        expected = events(6_000)
        with place.worker(**SMALL) as one:
            place.publish(encoded(expected[:4_000]))
            wait_until(lambda: place.written() > 200, "the first batches")
            with place.worker(**SMALL) as two:
                wait_until(lambda: place.members() == 2, "the second joins")
                place.publish(encoded(expected[4_000:5_000]))
                wait_until(lambda: place.written() >= 5_000, "both work")
                two.send_signal(signal.SIGTERM)
                assert two.wait(40) == 0
            place.publish(encoded(expected[5_000:]))
            wait_until(lambda: place.written() == 6_000, "the first goes on alone")
            assert one.poll() is None
        place.assert_complete(expected)
        place.assert_committed_after_written()

    def test_fault_08_during_an_outage(self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str]) -> None:
        """A third joins and a second leaves while the database is away: afterwards every partition is read."""
        expected = events(3_000)
        with place.worker(**SMALL, **database_way) as one, place.worker(**SMALL, **database_way) as two:
            place.publish(encoded(expected[:1_000]))
            wait_until(lambda: place.written() > 100 and place.members() == 2, "both work")
            postgres_proxy.refuse()
            postgres_proxy.cut()
            place.publish(encoded(expected[1_000:2_000]))
            with place.worker(**SMALL) as three:  # it has another way to the database
                wait_until(lambda: place.members() == 3, "the third joins")
                two.kill()
                wait_until(lambda: place.members() == 2, "the second is gone")
                postgres_proxy.accept()
                wait_until(lambda: place.written() == 2_000, "all is written")
                place.publish(encoded(expected[2_000:]))
                wait_until(lambda: place.written() == 3_000, "no partition stays paused")
                assert one.poll() is None
                assert three.poll() is None
        place.assert_complete(expected)


class TestFault09Zombie:
    """A frozen worker wakes after its partitions moved: it writes nothing, stays alive, and takes part again."""

    def test_fault_09_a_zombie_wakes(self, place: Workplace) -> None:
        """It was idle when it was frozen."""
        expected = events(1_500)
        with place.worker() as frozen:
            place.publish(encoded(expected[:500]))
            wait_until(lambda: place.written() == 500, "the first third")
            frozen.send_signal(signal.SIGSTOP)
            place.publish(encoded(expected[500:1_000]))
            with place.worker() as other:
                wait_until(lambda: place.written() == 1_000, "the other takes over")
                frozen.send_signal(signal.SIGCONT)
                place.publish(encoded(expected[1_000:]))
                wait_until(lambda: place.written() == 1_500, "both go on")
                assert frozen.poll() is None
                for process in (frozen, other):
                    process.send_signal(signal.SIGTERM)
                    assert process.wait(timeout=40) == 0
        place.assert_complete(expected)

    @pytest.mark.parametrize("request_", [b"COPY audit.audit_log", b"COMMIT"])
    def test_fault_09_a_zombie_with_a_batch_in_hand(
        self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], tmp_path: Path, request_: bytes
    ) -> None:
        """Frozen inside its transaction, with the lock of its positions: the successor ends that, and the zombie is fenced."""
        expected = events(1_000)
        with place.worker(log=tmp_path / "log", **database_way) as frozen:
            place.publish(encoded(expected[:200]))
            wait_until(lambda: place.written() == 200, "it works")
            postgres_proxy.freeze_before_request(request_)
            place.publish(encoded(expected[200:600]))
            postgres_proxy.wait_for_cut()
            frozen.send_signal(signal.SIGSTOP)
            with place.worker() as other:
                wait_until(lambda: place.written() == 600, "the other takes over")
                frozen.send_signal(signal.SIGCONT)
                postgres_proxy.thaw()
                wait_until(lambda: '"fenced"' in (tmp_path / "log").read_text(), "the zombie is fenced")
                place.publish(encoded(expected[600:]))
                wait_until(lambda: place.written() == 1_000 and place.members() == 2, "both go on")
                assert frozen.poll() is None
                assert other.poll() is None
        place.assert_complete(expected)
        place.assert_committed_after_written()


class TestFault20ReverseOrder:
    """Two workers write the same ids in opposite orders."""

    def test_fault_20_reverse_order(self, kafka_broker: KafkaBroker, postgres: PostgresServer, database: str, topic: str) -> None:
        """No deadlock; each event once, its twin is a duplicate."""
        kafka_broker.admin.delete_topics([topic])[topic].result(30)
        two = kafka_broker.create_topic(f"{topic}-two", 2)
        place = Workplace(kafka_broker, database, two, AUDIT_KAFKA_SESSION_TIMEOUT="3s")
        expected = events(6_000)
        values = encoded(expected)
        with place.worker(), place.worker():
            wait_until(lambda: place.members() == 2 and len(place.positions()) == 2, "both have a partition")
            place.publish(values, partition=0)
            place.publish(values[::-1], partition=1)
            wait_until(lambda: sum(place.books().values()) == 12_000, "all is accounted for")
        place.assert_complete(expected, duplicates=6_000)
        assert place.value("SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()") == 0
