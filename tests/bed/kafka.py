"""A real Apache Kafka (KRaft, one node), fetched by Maven into a cache outside the checkout."""

import fcntl
import os
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from confluent_kafka import TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.bed.needs import missing

VERSION = "4.3.1"
_JAVA = ["java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m"]


def jars() -> Path:
    """The folder with Kafka's jars; fetched once, by one process."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "integration-audit"
    folder = cache / f"kafka-{VERSION}"
    if folder.is_dir():
        return folder
    if not shutil.which("mvn") or not shutil.which("java"):
        missing("Java and Maven, for a real Kafka")
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            making = cache / f"making-{uuid.uuid4().hex}"
            subprocess.run(
                ["mvn", "-q", "-B", "-f", str(Path(__file__).with_name("kafka-pom.xml")), "dependency:copy-dependencies",
                 f"-DoutputDirectory={making}"],
                check=True,
                timeout=600,
            )
            making.rename(folder)
    return folder


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class KafkaBroker:
    """One node; keeps its data and its ports when it is restarted."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._port, self._controller = free_port(), free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._jars = jars()
        self._config = folder / "server.properties"
        self._config.write_text(
            "\n".join(
                (
                    "process.roles=broker,controller",
                    "node.id=1",
                    f"listeners=PLAINTEXT://127.0.0.1:{self._port},CONTROLLER://127.0.0.1:{self._controller}",
                    f"advertised.listeners=PLAINTEXT://127.0.0.1:{self._port}",
                    "controller.listener.names=CONTROLLER",
                    f"controller.quorum.bootstrap.servers=127.0.0.1:{self._controller}",
                    f"log.dirs={folder}/data",
                    "auto.create.topics.enable=false",
                    "offsets.topic.replication.factor=1",
                    "offsets.topic.num.partitions=4",
                    "transaction.state.log.replication.factor=1",
                    "transaction.state.log.min.isr=1",
                    "transaction.state.log.num.partitions=4",
                    "share.coordinator.state.topic.replication.factor=1",
                    "share.coordinator.state.topic.min.isr=1",
                    "group.initial.rebalance.delay.ms=0",
                    "group.min.session.timeout.ms=1000",
                    "log.retention.check.interval.ms=1000",
                    "group.consumer.min.heartbeat.interval.ms=200",
                    "group.consumer.heartbeat.interval.ms=200",
                    "group.consumer.min.session.timeout.ms=2000",
                    "group.consumer.session.timeout.ms=6000",
                )
            )
        )
        self._java("kafka.tools.StorageTool", "format", "--standalone", "-t", "5L6g3nShT-eMCtK--X86sw", "-c", str(self._config))

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    @property
    def client(self) -> dict[str, str | int]:
        """Settings of a client's connection."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 2}

    def _java(self, *arguments: str) -> None:
        subprocess.run([*_JAVA, "-cp", f"{self._jars}/*", *arguments], check=True, capture_output=True, timeout=120)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(
                [*_JAVA, "-cp", f"{self._jars}/*", "kafka.Kafka", str(self._config)], stdout=log, stderr=log, cwd=self._folder
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self._process.poll() is not None:
                break
            try:
                if AdminClient(self.client).list_topics(timeout=2).brokers:
                    return
            except Exception:  # noqa: BLE001, S112 - it is not up yet
                continue
        raise RuntimeError(f"Kafka did not start: {(self._folder / 'log').read_text()[-2000:]}")

    def send(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Ends it."""
        if self._process is not None:
            self._process.send_signal(number)
            self._process.wait(timeout=60)
            self._process = None

    def create_topic(self, name: str, partitions: int = 4, **config: str) -> str:
        """Makes a topic and waits until it is there."""
        admin = AdminClient(self.client)
        settings = {key.replace("_", "."): value for key, value in config.items()}
        admin.create_topics([NewTopic(name, partitions, 1, config=settings)])[name].result(30)
        while len(admin.list_topics(timeout=10).topics.get(name, _NONE).partitions) < partitions:
            pass
        return name

    def delete_topic(self, name: str) -> None:
        """Deletes a topic and waits until it is gone."""
        admin = AdminClient(self.client)
        admin.delete_topics([name])[name].result(30)
        while name in admin.list_topics(timeout=10).topics:
            pass

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Removes what is older than an offset, as the retention would."""
        admin = AdminClient(self.client)
        for future in admin.delete_records([TopicPartition(topic, partition, before)]).values():
            future.result(30)

    def topic_id(self, topic: str) -> str:
        """The topic's id."""
        admin = AdminClient(self.client)
        return str(admin.describe_topics(TopicCollection([topic]))[topic].result(30).topic_id)


class _NONE:
    partitions: tuple[int, ...] = ()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the whole run."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def new_topic(kafka_broker: KafkaBroker) -> Callable[..., str]:
    """Makes topics with names of their own."""

    def make(partitions: int = 4, **config: str) -> str:
        return kafka_broker.create_topic(f"topic-{uuid.uuid4().hex[:12]}", partitions, **config)

    return make


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """A fresh topic of four partitions."""
    return new_topic()
