"""Faults of the brokers and their topics: down (5), retention (10), topics made anew (11), transactions (19)."""

import signal

import pytest
from confluent_kafka import Producer

from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.inside import worker_inside
from tests.bed.kafka import KafkaBroker
from tests.bed.kafka_cluster import KafkaCluster
from tests.bed.worker import Workplace, wait_until


class TestFault05BrokersDown:
    """Alive, not ready, and it resumes by itself."""

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_fault_05_brokers_down(self, place: Workplace, health: Health, number: signal.Signals) -> None:
        """Killed or stopped in order; ready again before anything is published."""
        expected = events(200)
        with place.worker(**health.settings) as process:
            place.publish(encoded(expected[:100]))
            wait_until(lambda: place.written() == 100 and health.ready, "it works")
            place.kafka.stop(number)
            try:
                wait_until(lambda: "Kafka: no broker answers" in health.reasons, "not ready, with the reason")
                assert health.live == 200
            finally:
                place.kafka.start()
            wait_until(lambda: health.ready, "ready again")
            place.publish(encoded(expected[100:]))
            wait_until(lambda: place.written() == 200, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_fault_05_a_frozen_broker(self, place: Workplace, kafka_proxy: FaultProxy, kafka_way: dict[str, str]) -> None:
        """Connections stay open and nothing comes; then the broker has put the member out."""
        expected = events(400)
        with place.worker(**kafka_way) as process:
            place.publish(encoded(expected[:200]))
            wait_until(lambda: place.written() > 0, "it works")
            kafka_proxy.freeze()
            place.publish(encoded(expected[200:]))
            wait_until(lambda: place.members() == 0, "the group has lost it")
            kafka_proxy.thaw()
            wait_until(lambda: place.written() == 400, "it works again")
            assert process.poll() is None
        place.assert_complete(expected)

    def test_fault_05_a_lost_leader(self, kafka_cluster: KafkaCluster, database: str, health: Health) -> None:
        """Three nodes, one killed that leads a partition and the group: others lead, and nothing is lost."""
        topic = kafka_cluster.create_topic("replicated", 3)
        place = Workplace(kafka_cluster, database, topic, AUDIT_BATCH_MAX_MESSAGES="100")
        expected = events(3_000)
        with place.worker() as process:
            place.publish(encoded(expected[:2_000]))
            wait_until(lambda: place.written() > 100, "it works")
            lost = kafka_cluster.coordinator(place.environment["AUDIT_KAFKA_GROUP_ID"])
            led = next(number for number in range(3) if kafka_cluster.leader(topic, number) == lost)
            kafka_cluster.kill(lost)
            wait_until(lambda: kafka_cluster.leader(topic, led) not in (-1, lost), "another leads")
            with place.worker(
                **health.settings
            ) as other:  # takes partitions over and gives them back: the first one asks for their offsets again
                wait_until(lambda: health.ready, "another worker has partitions")
                other.send_signal(signal.SIGTERM)
                assert other.wait(40) == 0
            place.publish(encoded(expected[2_000:]))
            wait_until(lambda: place.written() == 3_000, "all is written")
            assert process.poll() is None
        place.assert_complete(expected)


class TestFault10Retention:
    """What Kafka removed before it was read is a recorded gap; what is left is read."""

    def test_fault_10_while_nobody_was_there(self, place: Workplace) -> None:
        """Found at the start."""
        expected = events(30)
        place.publish(encoded(expected[:10]), partition=0)
        place.drain()
        place.publish(encoded(expected[10:]), partition=0)
        place.kafka.delete_records(place.topic, 0, 25)
        place.drain()
        place.assert_complete(expected[:10] + expected[25:], expired=15)
        assert place.query("SELECT kafka_partition, first_offset, next_offset FROM audit.source_gap") == [(0, 10, 25)]

    def test_fault_10_under_a_worker(self, place: Workplace, kafka_proxy: FaultProxy, kafka_way: dict[str, str], health: Health) -> None:
        """Found when the client asks for an offset that is gone: the client jumps nowhere by itself."""
        expected = events(30)
        with place.worker(**kafka_way, **health.settings) as process:
            place.publish(encoded(expected[:10]), partition=0)
            wait_until(lambda: place.written() == 10, "it works")
            kafka_proxy.refuse()
            kafka_proxy.cut()
            place.publish(encoded(expected[10:]), partition=0)
            place.kafka.delete_records(place.topic, 0, 25)
            kafka_proxy.accept()
            wait_until(lambda: place.written() == 15, "what is left is written")
            assert health.metric("expired_offsets_total") == 15
            assert process.poll() is None
        place.assert_complete(expected[:10] + expected[25:], expired=15)
        assert place.query("SELECT kafka_partition, first_offset, next_offset FROM audit.source_gap") == [(0, 10, 25)]


class TestFault11TopicMadeAnew:
    """All of the new topic is read, under a position of its own; each event is in the log once."""

    @pytest.mark.parametrize("protocol", ["classic", "consumer"])
    @pytest.mark.parametrize("longer", [True, False])
    def test_fault_11_topic_made_anew(self, place: Workplace, protocol: str, *, longer: bool) -> None:
        """While a worker runs; shorter or longer than the old offset, where the client would go on in the middle."""
        old, new = events(10), events(25 if longer else 4)
        with place.worker(AUDIT_KAFKA_GROUP_PROTOCOL=protocol) as process:
            place.publish(encoded(old), partition=0)
            wait_until(lambda: place.written() == len(old), "the old topic is read")
            before = place.kafka.topic_id(place.topic)
            place.kafka.delete_topic(place.topic)
            place.kafka.create_topic(place.topic)
            place.publish(encoded(new), partition=0)
            wait_until(lambda: place.written() == len(old + new) and place.positions() == place.ends(), "the new topic is read")
            assert process.poll() is None
        # Until the worker hears of the other id (a second), the client may deliver the new topic from the old offset on: those messages
        # are written under the old topic's position, and come again as duplicates under the new one's.
        early = place.books()["duplicates"]
        assert early in {0, max(0, len(new) - len(old))}
        place.assert_complete(old + new, duplicates=early)
        rows = place.query("SELECT kafka_topic_id = %s, next_offset FROM audit.consumer_position WHERE kafka_partition = 0", before)
        assert sorted(rows) == [(False, len(new)), (True, len(old) + early)]


class TestFault19Transactions:
    """Aborted events are absent; markers and aborted messages are counted."""

    def test_fault_19_transactions(self, place: Workplace) -> None:
        """At the end of the partition too; and an open transaction holds nothing up for good."""
        written = [*self._transaction(place, commit=True), *self._transaction(place, commit=True)]
        self._transaction(place, commit=False)
        place.drain()
        place.assert_complete(written, skipped=13)

    def test_fault_19_under_a_worker(self, place: Workplace, kafka_broker: KafkaBroker) -> None:
        """Its position passes the marker behind the last message, and Kafka is told so: no lag of one for ever."""
        with worker_inside(place.environment) as inside:
            written = self._transaction(place, commit=True)
            self._transaction(place, commit=False)
            inside.run_until(lambda: place.positions() == place.ends(), "every offset is accounted for")
            inside.run_until(lambda: place.committed() == place.ends(), "Kafka knows it")
        place.assert_complete(written, skipped=12)

    @staticmethod
    def _transaction(place: Workplace, *, commit: bool) -> list[dict[str, object]]:
        producer = Producer({**place.kafka.client, "transactional.id": place.topic})
        producer.init_transactions()
        producer.begin_transaction()
        sent = events(10)
        for value in encoded(sent):
            producer.produce(place.topic, value, partition=0)
        producer.flush()  # what is only queued would not reach the log of an aborted transaction
        (producer.commit_transaction if commit else producer.abort_transaction)()
        return sent
