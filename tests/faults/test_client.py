"""Faults inside the Kafka client: callbacks that raise (1), fatal errors (3), offset commits that fail (4)."""

import signal

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.kafka.topics import TopicsWithoutIds
from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.inside import IMPATIENT, worker_inside
from tests.bed.mock_kafka import OFFSET_COMMIT, MockKafka
from tests.bed.worker import Workplace, wait_until

SMALL = {"AUDIT_BATCH_MAX_MESSAGES": "50"}
ILLEGAL_GENERATION, UNKNOWN_MEMBER, REBALANCE_IN_PROGRESS, STALE_EPOCH = 22, 25, 27, 113


class TestFault01ACallbackRaises:
    """The consumer is rebuilt, and no offset is passed over; but for the statistics, which are not worth it."""

    def test_fault_01_statistics(self, place: Workplace) -> None:
        """Whoever hears of them fails, again and again: nothing happens."""
        expected = events(300)
        place.publish(encoded(expected))
        heard = []

        def fail(state: object) -> None:
            heard.append(state)
            raise ZeroDivisionError

        with worker_inside(place.environment, statistics_interval_ms=20) as inside:
            inside.source.on_statistics = fail
            inside.run_until(lambda: place.written() == 300 and len(heard) > 5, "all is written, and the statistics have come")
            assert "consumer rebuilt" not in inside.ear.names
        place.assert_complete(expected)

    def test_fault_01_assign(self, place: Workplace) -> None:
        """At the first assignment."""
        expected = events(300)
        place.publish(encoded(expected))
        with worker_inside(place.environment) as inside:
            inside.ear.raise_at = "partitions assigned"
            inside.run_until(lambda: place.written() == 300, "all is written")
            assert inside.ear.names.count("consumer rebuilt") == 1
        place.assert_complete(expected)

    @pytest.mark.parametrize("where", ["report", "before_revoke"])
    def test_fault_01_revoke(self, place: Workplace, where: str) -> None:
        """When another worker joins, in the middle of the stream."""
        expected = events(2_000)
        place.publish(encoded(expected))
        settings = {**place.environment, **SMALL}
        with worker_inside(settings) as inside:
            inside.run_until(lambda: place.written() > 100, "the first batches")
            if where == "report":
                inside.ear.raise_at = "partitions revoked"
            else:
                inside.source.before_revoke = lambda: 1 / 0  # type: ignore[assignment, return-value]
            with worker_inside(settings) as other:
                inside.run_until(lambda: place.written() == 2_000 and "consumer rebuilt" in inside.ear.names, "all is written", other)
                # A revoke callback of close() must not raise again.
                inside.source.before_revoke = lambda: None
        place.assert_complete(expected)

    def test_fault_01_lost(self, place: Workplace) -> None:
        """After a stall beyond max.poll.interval."""
        expected = events(1_000)
        place.publish(encoded(expected))
        with worker_inside({**place.environment, **SMALL}, **IMPATIENT) as inside:
            inside.run_until(lambda: place.written() > 100, "the first batches")
            inside.ear.raise_at = "partitions lost"
            wait_until(lambda: place.members() == 0, "the client has left the group")
            inside.run_until(lambda: place.written() == 1_000, "all is written")
            assert "consumer rebuilt" in inside.ear.names
        place.assert_complete(expected)

    def test_fault_01_error(self, place: Workplace, kafka_proxy: FaultProxy, kafka_way: dict[str, str]) -> None:
        """When the brokers go away."""
        expected = events(1_000)
        with worker_inside({**place.environment, **SMALL, **kafka_way}) as inside:
            place.publish(encoded(expected[:500]))
            inside.run_until(lambda: place.written() > 100, "the first batches")
            inside.ear.raise_at = "client error"
            kafka_proxy.refuse()
            kafka_proxy.cut()
            inside.run_until(lambda: "client error" in inside.ear.names, "the error")
            kafka_proxy.accept()
            place.publish(encoded(expected[500:]))
            inside.run_until(lambda: place.written() == 1_000, "all is written")
            assert "consumer rebuilt" in inside.ear.names
        place.assert_complete(expected)


class TestFault03FatalError:
    """The process ends, so that its supervisor starts another."""

    def test_fault_03_fatal_client_error(self, place: Workplace) -> None:
        """Within five seconds, with its own exit code; whoever comes next goes on."""
        expected = events(300)
        with place.worker(module="tests.bed.doomed") as process:
            place.publish(encoded(expected[:200]))
            wait_until(lambda: place.written() == 200, "it works")
            process.send_signal(signal.SIGUSR1)
            assert process.wait(timeout=5) == ExitCode.FATAL_CLIENT
        place.publish(encoded(expected[200:]))
        place.drain()
        place.assert_complete(expected)


class TestFault04OffsetCommitFails:
    """It is advisory: no crash, no duplicate rows, and reported. The errors are injected by librdkafka's mock cluster."""

    @pytest.mark.parametrize(
        ("code", "report_raises"),
        [(ILLEGAL_GENERATION, False), (UNKNOWN_MEMBER, False), (REBALANCE_IN_PROGRESS, False), (STALE_EPOCH, False), (STALE_EPOCH, True)],
    )
    def test_fault_04_offset_commit_fails(self, database: str, code: int, *, report_raises: bool) -> None:
        """With each of the errors; also where telling of it raises (fault 1: the commit's callback)."""
        expected = events(1_000)
        with MockKafka() as kafka:
            kafka.create_topic("mock", 2)
            place = Workplace(kafka, database, "mock", **SMALL)  # type: ignore[arg-type]
            place.publish(encoded(expected))
            with worker_inside(place.environment, TopicsWithoutIds, **IMPATIENT) as inside:
                inside.run_until(lambda: place.written() > 100, "the first batches")
                if report_raises:
                    inside.ear.raise_at = "offset commit failed"
                kafka.fail(OFFSET_COMMIT, code, code, code)
                inside.run_until(lambda: place.written() == 1_000, "all is written")
                assert "offset commit failed" in inside.ear.names
                assert ("consumer rebuilt" in inside.ear.names) == report_raises
        assert place.value("SELECT count(DISTINCT event_id) FROM audit.audit_log") == 1_000
        assert place.books() == {**dict.fromkeys(place.books(), 0), "written": 1_000}

    def test_fault_04_on_a_real_broker(self, place: Workplace) -> None:
        """The broker has put the member out, and the worker does not know it yet."""
        expected = events(500)
        with worker_inside(place.environment, **IMPATIENT) as inside:
            place.publish(encoded(expected[:250]))
            inside.run_until(lambda: place.written() == 250, "the first half")
            wait_until(lambda: place.members() == 0, "the client has left the group")
            inside.source.commit(inside.worker.written)
            place.publish(encoded(expected[250:]))
            inside.run_until(lambda: place.written() == 500, "all is written")
            assert "offset commit failed" in inside.ear.names
        place.assert_complete(expected)
