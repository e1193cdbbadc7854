"""Three nodes of Apache Kafka, so that a leader can be lost."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from confluent_kafka.admin import AdminClient

from tests.bed.kafka import KafkaBroker, Topics, free_port

_SETTINGS = {
    "offsets.topic.replication.factor": "3",
    "min.insync.replicas": "1",
    # The controllers elect each other in test time too.
    "controller.quorum.election.timeout.ms": "500",
    "controller.quorum.fetch.timeout.ms": "1000",
}


class KafkaCluster(Topics):
    """Every node is broker and controller; looks like a KafkaBroker to a Workplace."""

    replicas = 3

    def __init__(self, folder: Path) -> None:
        ports = {node: free_port() for node in (1, 2, 3)}
        self.nodes: dict[int, KafkaBroker] = {}
        for node in ports:
            (folder / str(node)).mkdir()
            self.nodes[node] = KafkaBroker(folder / str(node), _SETTINGS, cluster=ports, node=node)
        self.admin = AdminClient(self.client)

    @property
    def bootstrap_servers(self) -> str:
        """All nodes."""
        return ",".join(node.bootstrap_servers for node in self.nodes.values())

    @property
    def client(self) -> dict[str, str | int | float | bool]:
        """Settings of a client's connection."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 2}

    def start(self) -> None:
        """Starts all and waits for all: none is ready without another."""
        for node in self.nodes.values():
            node.launch()
        for node in self.nodes.values():
            node.wait_until_ready()

    def stop(self) -> None:
        """Ends all."""
        for node in self.nodes.values():
            node.stop()

    def kill(self, node: int) -> None:
        """Ends a node for good."""
        self.nodes[node].stop()
        self.admin = AdminClient(self.client)  # the old one would go on waiting for the lost node

    def leader(self, topic: str, partition: int) -> int:
        """The node that leads the partition; -1 while none does."""
        return int(self.admin.list_topics(topic, timeout=10).topics[topic].partitions[partition].leader)

    def coordinator(self, group: str) -> int:
        """The node that leads the group."""
        return int(self.admin.describe_consumer_groups([group])[group].result(30).coordinator.id)


@pytest.fixture
def kafka_cluster(tmp_path: Path) -> Iterator[KafkaCluster]:
    """Three nodes for one test."""
    cluster = KafkaCluster(tmp_path)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.stop()
