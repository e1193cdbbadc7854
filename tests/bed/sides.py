"""Sources and stores with what can happen to them, in memory and for real, behind the same names: for the conformance tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import Producer

from consumer.core.events import Partition
from consumer.kafka.source import KafkaSource, consumer_config
from consumer.kafka.topics import Topics
from consumer.postgres.background import BackgroundStore
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore
from tests.bed.events import FakeMessage
from tests.bed.fakes import Batch, MemorySource
from tests.bed.fault_proxy import FaultProxy
from tests.bed.kafka import KafkaBroker
from tests.simulation.faults import Plan
from tests.simulation.messages import NOW, Content
from tests.simulation.postgres import Transaction
from tests.simulation.world import World


def _values(begin: int, end: int) -> list[bytes]:
    return [str(number).encode() for number in range(begin, end)]


def calm_world(partitions: int = 1, workers: int = 1) -> World:
    """A simulation without any fault, and without a schedule."""
    world = World(0, plan=Plan({"topic": partitions}, workers, 10, 0, 0, [], [], {}))
    world.healthy = True
    return world


class FakeSide:
    """The fake source, with ten messages."""

    def __init__(self) -> None:
        self.partition = Partition("topic", 0)
        self.source: Any = MemorySource({self.partition: [FakeMessage(value, at) for at, value in enumerate(_values(0, 10))]})

    def close(self) -> None:
        """Nothing to close."""


class ModelSide:
    """A member of the simulator's group, and its cluster."""

    def __init__(self) -> None:
        self.world = calm_world()
        self._cluster = self.world.cluster
        (self.partition,) = self._cluster.partitions
        self.source: Any = self.world.actors[0].member
        self.publish(10)

    def publish(self, count: int) -> None:
        """More messages."""
        end = len(self._cluster.logs[self.partition].entries)
        for value in _values(end, end + count):
            self._cluster.publish(self.partition, Content(value))

    def transaction(self, count: int, *, commit: bool | None) -> None:
        """Messages of one transaction; None leaves it open."""
        for value in _values(0, count):
            self._cluster.publish(self.partition, Content(value), transaction=True)
        if commit is not None:
            self._cluster.logs[self.partition].end_transaction(commit=commit)

    def retain(self, low: int) -> None:
        """Retention."""
        self._cluster.logs[self.partition].retain(low)

    def remake(self, count: int) -> None:
        """The topic is deleted, and made again with so many messages."""
        self._cluster.delete(self.partition.topic)
        self._cluster.make(self.partition.topic)
        self.publish(count)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """No broker answers."""
        self._cluster.down_until = float("inf")
        yield
        self._cluster.down_until = 0.0

    def close(self) -> None:
        """Nothing to close."""


class KafkaSide:
    """A real source behind a proxy, and its topic."""

    def __init__(self, broker: KafkaBroker, proxy: FaultProxy, topic: str, protocol: str) -> None:
        self._broker, self._proxy = broker, proxy
        self.partition = Partition(topic, 0)
        client = {**broker.client, "bootstrap.servers": proxy.address}
        config = consumer_config(client, group_id=topic, group_protocol=protocol, session_timeout=6)
        self.source: Any = KafkaSource(config, Topics(client, [topic]), lambda *_args, **_fields: None)
        self._written = 0
        self.publish(10)

    def publish(self, count: int) -> None:
        """More messages."""
        producer = Producer(self._broker.client)
        for value in _values(self._written, self._written + count):
            producer.produce(self.partition.topic, value, partition=0)
        assert producer.flush(30) == 0
        self._written += count

    def transaction(self, count: int, *, commit: bool | None) -> None:
        """Messages of one transaction; None leaves it open."""
        self._open = producer = Producer({**self._broker.client, "transactional.id": self.partition.topic})
        producer.init_transactions()
        producer.begin_transaction()
        for value in _values(0, count):
            producer.produce(self.partition.topic, value, partition=0)
        assert producer.flush(30) == 0
        if commit is not None:
            (producer.commit_transaction if commit else producer.abort_transaction)()

    def retain(self, low: int) -> None:
        """Retention."""
        self._broker.delete_records(self.partition.topic, 0, low)

    def remake(self, count: int) -> None:
        """The topic is deleted, and made again with so many messages."""
        self._broker.delete_topic(self.partition.topic)
        self._broker.create_topic(self.partition.topic, 1)
        self._written = 0
        self.publish(count)

    @contextmanager
    def outage(self) -> Iterator[None]:
        """No broker answers."""
        self._proxy.refuse()
        self._proxy.cut()
        yield
        self._proxy.accept()

    def close(self) -> None:
        """Leaves the group."""
        self.source.close()


class ModelStoreSide:
    """A session of the simulator's database."""

    def __init__(self) -> None:
        self.world = calm_world()
        self.world.auditor.transaction = lambda *_: None  # type: ignore[method-assign] # these events come from no topic of its cluster
        self.store: Any = self.world.actors[0].session

    def lose_answer(self, batch: Batch) -> None:
        """Begins a write whose COMMIT is done and not answered."""
        self.store.start_write(batch)
        transaction = self._go_on_until("sent")
        self.world.server.end(transaction, commit=True)
        self.store.cut()

    def lose_commit(self, batch: Batch) -> None:
        """Begins a write whose COMMIT does not reach the server."""
        self.store.start_write(batch)
        transaction = self._go_on_until("sent")
        self.world.server.end(transaction, commit=False)
        self.store.cut()

    def _go_on_until(self, state: str) -> Transaction:
        transaction: Transaction = self.store._flight.transaction
        while transaction.state != state:
            self.store.go_on()
        return transaction

    @contextmanager
    def locked(self, partition: Partition, topic_id: str) -> Iterator[None]:
        """Somebody holds the lock of a position, and never lets go."""
        frozen = Transaction(Batch(()))
        frozen.positions = {(partition, topic_id)}
        self.world.server.transactions.append(frozen)
        yield
        assert frozen.state == "gone"

    def close(self) -> None:
        """Nothing to close."""


class PostgresSide:
    """A real store behind a proxy."""

    def __init__(self, url: str, server_port: int) -> None:
        self._url = url
        self._proxy = FaultProxy("127.0.0.1", server_port)
        through = url.replace(f":{server_port}/", f":{self._proxy.port}/")
        self.store: Any = BackgroundStore(PostgresStore(lambda: connect(through), lambda: NOW))

    def lose_answer(self, batch: Any) -> None:
        """Begins a write whose COMMIT is done and not answered."""
        self._proxy.cut_after_request(b"COMMIT")
        self.store.start_write(batch)

    def lose_commit(self, batch: Any) -> None:
        """Begins a write whose COMMIT does not reach the server."""
        self._proxy.cut_before_request(b"COMMIT")
        self.store.start_write(batch)

    @contextmanager
    def locked(self, partition: Partition, topic_id: str) -> Iterator[None]:
        """Somebody holds the lock of a position, and never lets go."""
        frozen = psycopg.connect(self._url)
        frozen.execute(
            "SELECT * FROM audit.consumer_position WHERE kafka_topic = %s AND kafka_topic_id = %s AND kafka_partition = %s FOR UPDATE",
            (partition.topic, topic_id, partition.number),
        )
        yield
        assert frozen.closed or _is_gone(frozen)

    def close(self) -> None:
        """Closes the connection."""
        self.store.close()
        with self._proxy:
            pass


def _is_gone(connection: "psycopg.Connection[Any]") -> bool:
    try:
        connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return True
    return False
