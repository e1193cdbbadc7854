"""A real Apache Kafka (KRaft, one node), fetched by Maven into a cache outside the checkout.

The broker has a second listener that advertises the port of a fault proxy (see fault_proxy.py): a client that enters there stays
behind the proxy, while the test itself keeps the straight way.
"""

import atexit
import contextlib
import fcntl
import hashlib
import os
import random
import shutil
import signal
import socket
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest
from confluent_kafka import KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic

from tests.bed.fault_proxy import FaultProxy
from tests.bed.needs import missing

_POM = Path(__file__).with_name("kafka-pom.xml")
_JAVA = ("java", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx512m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn")
_START = 90.0
"""Seconds that a start may take: 3 are usual, 7 on a loaded machine."""

_SETTINGS = {
    "process.roles": "broker,controller",
    "controller.listener.names": "CONTROLLER",
    "inter.broker.listener.name": "STRAIGHT",
    "listener.security.protocol.map": "STRAIGHT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
    "auto.create.topics.enable": "false",
    "offsets.topic.replication.factor": "1",
    "offsets.topic.num.partitions": "4",
    "transaction.state.log.replication.factor": "1",
    "transaction.state.log.min.isr": "1",
    "transaction.state.log.num.partitions": "4",
    "share.coordinator.state.topic.replication.factor": "1",
    "share.coordinator.state.topic.min.isr": "1",
    # Groups form and lose members in test time: the defaults are seconds to minutes.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "group.consumer.min.heartbeat.interval.ms": "200",
    "group.consumer.heartbeat.interval.ms": "200",
    "group.consumer.min.session.timeout.ms": "2000",
    "group.consumer.session.timeout.ms": "6000",
    # A killed broker comes back once the controller has given up on the one before.
    "broker.heartbeat.interval.ms": "500",
    "broker.session.timeout.ms": "4000",
    # Retention is looked at every second, from the first one.
    "log.initial.task.delay.ms": "1000",
    "log.retention.check.interval.ms": "1000",
}


def cache_folder() -> Path:
    """Where the real parts are kept from run to run."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "integration-audit"
    cache.mkdir(parents=True, exist_ok=True)
    return cache


def jars() -> Path:
    """The folder with Kafka's jars; fetched once, by one process, and anew when the pom changes."""
    cache = cache_folder()
    folder = cache / f"kafka-{hashlib.sha256(_POM.read_bytes()).hexdigest()[:12]}"
    if not shutil.which("java") or not (folder.is_dir() or shutil.which("mvn")):
        missing("Java and Maven, for a real Kafka")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            # The rename is what makes it count: a fetch that was cut off leaves no half folder under the name.
            making = cache / f"making-{uuid.uuid4().hex}"
            fetch = ["mvn", "-q", "-B", "-f", str(_POM), "dependency:copy-dependencies", f"-DoutputDirectory={making}"]
            try:
                subprocess.run(fetch, check=True, timeout=900)
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return folder


def free_port() -> int:
    """A port that nobody listens on, and that no outgoing connection takes while its server is down."""
    while True:
        port = random.randrange(20_000, 32_000)  # noqa: S311 - below the range of outgoing connections
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


class Topics:
    """Makes and removes topics."""

    admin: AdminClient
    replicas = 1

    def create_topic(self, name: str, partitions: int = 4, **config: str) -> str:
        """Makes a topic and waits until it is there; `retention_ms="1000"` sets `retention.ms`."""
        settings = {key.replace("_", "."): value for key, value in config.items()}
        self.admin.create_topics([NewTopic(name, partitions, self.replicas, config=settings)])[name].result(30)
        self._wait_for_topic(name, there=True)
        return name

    def delete_topic(self, name: str) -> None:
        """Deletes a topic and waits until it is gone."""
        self.admin.delete_topics([name])[name].result(30)
        self._wait_for_topic(name, there=False)

    def _wait_for_topic(self, name: str, *, there: bool) -> None:
        deadline = time.monotonic() + 30
        while True:
            # Asked for by name an absent topic is listed too, with an error; a partition without a leader can't be written to yet.
            topic = self.admin.list_topics(timeout=10).topics.get(name)
            if there == (topic is not None and all(each.leader >= 0 for each in topic.partitions.values())):
                return
            assert time.monotonic() < deadline, f"{name}: never {'there' if there else 'gone'}"
            time.sleep(0.02)

    def delete_records(self, topic: str, partition: int, before: int) -> None:
        """Removes what is older than an offset, as the retention would."""
        for future in self.admin.delete_records([TopicPartition(topic, partition, before)]).values():
            future.result(30)

    def topic_id(self, topic: str) -> str:
        """The topic's id."""
        return str(self.admin.describe_topics(TopicCollection([topic]))[topic].result(30).topic_id)


class KafkaBroker(Topics):
    """One node; keeps its data and its ports when it is restarted.

    It ends with the tests however they end: at the fixture's end, at the interpreter's exit, and by the kernel if the interpreter is
    killed.

    Args:
        folder: for its data and its log.
        settings: over the usual ones.
        cluster: node → port of its controller, where it is one node of several.
        node: its own number.
        listeners: name → port of further ones.
        java: options of the virtual machine.
    """

    def __init__(
        self,
        folder: Path,
        settings: Mapping[str, str] | None = None,
        *,
        cluster: Mapping[int, int] | None = None,
        node: int = 1,
        listeners: Mapping[str, int] | None = None,
        java: Sequence[str] = (),
    ) -> None:
        self._folder = folder
        self._jars = jars()
        self._process: subprocess.Popen[bytes] | None = None
        self._port, self.proxied_port, self.proxy_port = (free_port() for _ in range(3))
        self._options = java
        controller = cluster[node] if cluster else free_port()
        further = "".join(f",{name}://127.0.0.1:{port}" for name, port in (listeners or {}).items())
        quorum = "voters" if cluster else "bootstrap.servers"
        voters = ",".join(f"{number}@127.0.0.1:{port}" for number, port in (cluster or {}).items())
        self._config = folder / "server.properties"
        merged = {
            **_SETTINGS,
            **(settings or {}),
            "node.id": str(node),
            "listeners": f"STRAIGHT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{self.proxied_port},CONTROLLER://127.0.0.1:{controller}"
            + further,
            "advertised.listeners": f"STRAIGHT://127.0.0.1:{self._port},PROXIED://127.0.0.1:{self.proxy_port}{further}",
            f"controller.quorum.{quorum}": voters or f"127.0.0.1:{controller}",
            "log.dirs": str(folder / "data"),
        }
        self._config.write_text("".join(f"{name}={value}\n" for name, value in merged.items()))
        self._format([] if cluster else ["--standalone"])
        self.admin = AdminClient(self.client)  # kept: a client that is collected fails its futures
        atexit.register(self.stop)

    @property
    def bootstrap_servers(self) -> str:
        """Where it listens."""
        return f"127.0.0.1:{self._port}"

    @property
    def client(self) -> dict[str, str | int | float | bool]:
        """Settings of a client's connection."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 2}

    @property
    def log(self) -> Path:
        """What the broker says."""
        return self._folder / "log"

    def _java(self, main: str, *arguments: str) -> list[str]:
        # The kernel ends the JVM when the thread that started it is gone (a laptop's macOS has no such thing).
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        return [*tied, *_JAVA, *self._options, "-cp", f"{self._jars}/*", main, *arguments]

    def _format(self, options: list[str]) -> None:
        identity = "5L6g3nShT-eMCtK--X86sw"
        tool = self._java("kafka.tools.StorageTool", "format", *options, "-t", identity, "-c", str(self._config))
        done = subprocess.run(tool, check=False, capture_output=True, text=True, timeout=120)
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's data folder could not be made: {done.stdout}{done.stderr}")

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        self.launch()
        self.wait_until_ready()

    def launch(self) -> None:
        """Starts it."""
        with self.log.open("ab") as log:
            # A group of its own: Ctrl-C ends the tests, which end the broker, and not both at once.
            self._process = subprocess.Popen(
                self._java("kafka.Kafka", str(self._config)), stdout=log, stderr=log, cwd=self._folder, start_new_session=True
            )

    def wait_until_ready(self) -> None:
        """Waits until it answers."""
        assert self._process is not None
        deadline = time.monotonic() + _START
        while time.monotonic() < deadline and self._process.poll() is None:
            with contextlib.suppress(KafkaException):
                if self.admin.list_topics(timeout=1).brokers:
                    return
        self.stop()
        raise RuntimeError(f"Kafka did not start: {self.log.read_text()[-2000:]}")

    def send(self, number: int) -> None:
        """Sends it a signal."""
        assert self._process is not None
        self._process.send_signal(number)

    def stop(self, number: int = signal.SIGKILL) -> None:
        """Ends it: at once, or in order with SIGTERM."""
        process, self._process = self._process, None
        if process is None:
            return
        try:
            process.send_signal(number)
            process.wait(timeout=60)
        finally:
            process.kill()
            process.wait()

    def restart(self, number: int = signal.SIGKILL) -> None:
        """Ends it and starts it again, with its data and on its ports."""
        self.stop(number)
        self.start()


@pytest.fixture(scope="session")
def kafka_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaBroker]:
    """A broker for the whole run."""
    broker = KafkaBroker(tmp_path_factory.mktemp("kafka"))
    broker.start()
    yield broker
    broker.stop()


@pytest.fixture
def kafka_proxy(kafka_broker: KafkaBroker) -> Iterator[FaultProxy]:
    """A way to the broker that can be cut: clients bootstrap from its `address`."""
    with FaultProxy("127.0.0.1", kafka_broker.proxied_port, port=kafka_broker.proxy_port) as proxy:
        yield proxy


def unique_topic(broker: KafkaBroker, partitions: int = 4, **config: str) -> str:
    """Makes a topic with a name of its own."""
    return broker.create_topic(f"topic-{uuid.uuid4().hex[:12]}", partitions, **config)


@pytest.fixture
def new_topic(kafka_broker: KafkaBroker) -> Callable[..., str]:
    """Makes topics with names of their own."""

    def make(partitions: int = 4, **config: str) -> str:
        return unique_topic(kafka_broker, partitions, **config)

    return make


@pytest.fixture
def topic(new_topic: Callable[..., str]) -> str:
    """A fresh topic of four partitions."""
    return new_topic()
