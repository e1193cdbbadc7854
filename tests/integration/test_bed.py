"""The bed itself: a fault that is not injected, or a broker that forgets, would let every other test pass for nothing."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from confluent_kafka import Consumer, KafkaError, Producer, TopicPartition

from tests.bed.fault_proxy import FaultProxy
from tests.bed.kafka import KafkaBroker, free_port
from tests.bed.worker import wait_until

pytestmark = pytest.mark.kafka

Client = dict[str, str | int | float | bool]


def _produce(client: Client, topic: str, *values: bytes) -> None:
    producer = Producer(client)
    for value in values:
        producer.produce(topic, value, partition=0)
    assert producer.flush(30) == 0


def _values(client: Client, topic: str, count: int) -> list[bytes | None]:
    consumer = Consumer({**client, "group.id": f"reader-{topic}", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        return [message.value() for message in consumer.consume(count, timeout=30) if message.error() is None]
    finally:
        consumer.close()


class TestBroker:
    """Kafka keeps what it was given, and shows what a test changed."""

    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
    def test_a_restart_keeps_the_data_and_the_port(self, tmp_path: Path, number: signal.Signals) -> None:
        """Killed or stopped in order, the same broker comes back."""
        broker = KafkaBroker(tmp_path)
        broker.start()
        try:
            broker.create_topic("kept", 1)
            before = broker.bootstrap_servers, broker.topic_id("kept")
            _produce(broker.client, "kept", b"a", b"b")
            broker.restart(number)
            assert (broker.bootstrap_servers, broker.topic_id("kept")) == before
            assert _values(broker.client, "kept", 2) == [b"a", b"b"]
        finally:
            broker.stop()

    def test_a_topic_made_anew_has_another_id(self, kafka_broker: KafkaBroker, topic: str) -> None:
        """That is how a worker tells the two."""
        first = kafka_broker.topic_id(topic)
        kafka_broker.delete_topic(topic)
        kafka_broker.create_topic(topic)
        assert kafka_broker.topic_id(topic) != first

    def test_deleted_records_are_gone(self, kafka_broker: KafkaBroker, topic: str) -> None:
        """The partition begins at the offset named."""
        _produce(kafka_broker.client, topic, b"0", b"1", b"2")
        kafka_broker.delete_records(topic, 0, 2)
        consumer = Consumer({**kafka_broker.client, "group.id": "any"})
        assert consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10) == (2, 3)
        consumer.close()

    def test_retention_is_fast(self, kafka_broker: KafkaBroker, new_topic: Callable[..., str]) -> None:
        """A topic may lose what is a second old, without anybody deleting it."""
        topic = new_topic(1, retention_ms="500", segment_ms="500")
        consumer = Consumer({**kafka_broker.client, "group.id": "any"})

        def first() -> int:
            _produce(kafka_broker.client, topic, b"rolls the segment")
            low, _ = consumer.get_watermark_offsets(TopicPartition(topic, 0), timeout=10)
            return int(low)

        wait_until(lambda: first() > 0, "retention removed a segment")
        consumer.close()

    def test_no_topic_makes_itself(self, kafka_broker: KafkaBroker) -> None:
        """A name written wrongly must fail, not become a topic."""
        producer = Producer({**kafka_broker.client, "message.timeout.ms": 3000})
        errors: list[KafkaError | None] = []
        producer.produce("never-made", b"x", on_delivery=lambda error, _: errors.append(error))
        producer.flush(30)
        assert [error.name() for error in errors if error] in (["_UNKNOWN_TOPIC"], ["UNKNOWN_TOPIC_OR_PART"], ["_MSG_TIMED_OUT"])
        assert "never-made" not in kafka_broker.admin.list_topics(timeout=10).topics

    def test_it_ends_with_a_killed_test_run(self, tmp_path: Path) -> None:
        """A run that is killed leaves no broker behind; needs the kernel's help, so Linux only."""
        code = (
            "import sys, time, pathlib; from tests.bed.kafka import KafkaBroker\n"
            "broker = KafkaBroker(pathlib.Path(sys.argv[1])); broker.start()\n"
            "print(broker._process.pid, flush=True); time.sleep(600)"
        )
        run = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, cwd=Path(__file__).parents[2])
        try:
            assert run.stdout is not None
            with run.stdout:
                broker = int(run.stdout.readline())
        finally:
            run.kill()
            run.wait()
        wait_until(lambda: not psutil.pid_exists(broker) or psutil.Process(broker).status() == psutil.STATUS_ZOMBIE, "the JVM ended")


class TestKafkaBehindTheProxy:
    """A client that bootstraps through the proxy stays behind it."""

    @pytest.fixture
    def client(self, kafka_proxy: FaultProxy) -> Client:
        """Settings that lead through the proxy."""
        return {"bootstrap.servers": kafka_proxy.address, "log_level": 2, "reconnect.backoff.max.ms": 500}

    def test_it_leads_to_the_broker(self, client: Client, topic: str) -> None:
        """Produced and consumed through it."""
        _produce(client, topic, b"x")
        assert _values(client, topic, 1) == [b"x"]

    def test_a_refused_client_comes_back(self, client: Client, kafka_proxy: FaultProxy, topic: str) -> None:
        """Cut and refused, nothing passes; taken again, everything does."""
        producer = Producer(client)
        producer.produce(topic, b"before", partition=0)
        assert producer.flush(30) == 0
        kafka_proxy.refuse()
        kafka_proxy.cut()
        producer.produce(topic, b"meanwhile", partition=0)
        assert producer.flush(1) == 1
        kafka_proxy.accept()
        assert producer.flush(30) == 0
        assert _values(client, topic, 2) == [b"before", b"meanwhile"]

    def test_a_frozen_client_goes_on_where_it_was(self, client: Client, kafka_proxy: FaultProxy, topic: str) -> None:
        """The connection stays open all the while."""
        producer = Producer(client)
        producer.produce(topic, b"before", partition=0)
        assert producer.flush(30) == 0
        kafka_proxy.freeze()
        producer.produce(topic, b"meanwhile", partition=0)
        assert producer.flush(1) == 1
        kafka_proxy.thaw()
        assert producer.flush(30) == 0


class TestProxy:
    """The faults, seen from a plain socket."""

    @pytest.fixture
    def server(self) -> Iterator[socket.socket]:
        """A server that a test answers for."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            listener.settimeout(10)
            yield listener

    @pytest.fixture
    def proxy(self, server: socket.socket) -> Iterator[FaultProxy]:
        """A proxy before it."""
        with FaultProxy(*server.getsockname()) as proxy:
            yield proxy

    @pytest.fixture
    def ends(self, server: socket.socket, proxy: FaultProxy) -> Iterator[tuple[socket.socket, socket.socket]]:
        """The two ends of one connection through the proxy."""
        with socket.create_connection(("127.0.0.1", proxy.port), timeout=10) as client:
            served, _ = server.accept()
            with served:
                served.settimeout(10)
                yield client, served

    def test_a_delay_holds_up_both_ways(self, proxy: FaultProxy, ends: tuple[socket.socket, socket.socket]) -> None:
        """A round trip takes the delay twice."""
        client, served = ends
        proxy.delay(0.1)
        begun = time.monotonic()
        client.sendall(b"ping")
        served.sendall(served.recv(10))
        assert client.recv(10) == b"ping"
        assert time.monotonic() - begun >= 0.2

    def test_frozen_bytes_pass_after_the_thaw(self, proxy: FaultProxy, ends: tuple[socket.socket, socket.socket]) -> None:
        """None is lost."""
        client, served = ends
        proxy.freeze()
        client.sendall(b"held")
        served.settimeout(0.3)
        with pytest.raises(TimeoutError):
            served.recv(10)
        proxy.thaw()
        served.settimeout(10)
        assert served.recv(10) == b"held"

    def test_the_request_arrives_and_its_answer_does_not(self, proxy: FaultProxy, ends: tuple[socket.socket, socket.socket]) -> None:
        """What makes the outcome of a transaction's commit unknown."""
        client, served = ends
        proxy.cut_after_request(b"COMMIT")
        client.sendall(b"INSERT")
        served.sendall(served.recv(10))
        assert client.recv(10) == b"INSERT"
        client.sendall(b"COMMIT")
        assert served.recv(10) == b"COMMIT"
        served.sendall(b"done")
        proxy.wait_for_cut(10)
        assert _ended(client)

    def test_the_request_does_not_even_arrive(self, proxy: FaultProxy, ends: tuple[socket.socket, socket.socket]) -> None:
        """The other half: nothing was committed."""
        client, served = ends
        proxy.cut_before_request(b"COMMIT")
        client.sendall(b"COMMIT")
        proxy.wait_for_cut(10)
        assert _ended(client)
        assert _ended(served)

    def test_refused_means_refused(self, proxy: FaultProxy) -> None:
        """As a server that is down, and on the same port afterwards."""
        proxy.refuse()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", proxy.port), timeout=10)
        proxy.accept()
        socket.create_connection(("127.0.0.1", proxy.port), timeout=10).close()


def _ended(side: socket.socket) -> bool:
    try:
        return side.recv(10) == b""
    except ConnectionResetError:
        return True


def test_a_free_port_is_no_port_of_outgoing_connections() -> None:
    """Else another program's connection could take the port of a broker that is down for a moment."""
    limits = Path("/proc/sys/net/ipv4/ip_local_port_range")
    if limits.exists() and os.access(limits, os.R_OK):
        assert free_port() < int(limits.read_text().split()[0])
