"""Makes the worker out of its parts: the one place where Kafka, PostgreSQL and the core meet."""

import os
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import structlog
from prometheus_client import CollectorRegistry

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.core.breaker import Breaker
from consumer.core.decoding import Decoder
from consumer.core.errors import ConfigurationError, HostileSchemaError, TransientError
from consumer.core.events import Message, Partition, PartitionPosition
from consumer.core.intake import POLL, Intake
from consumer.core.learning import Learning
from consumer.core.pause import Backoff
from consumer.kafka.credentials import Credentials
from consumer.kafka.source import KafkaSource, consumer_config
from consumer.kafka.topics import Topics
from consumer.observe.health import HealthServer, Heartbeat
from consumer.observe.metrics import WorkerMetrics
from consumer.observe.observer import WorkerObserver
from consumer.observe.service import ServiceManager
from consumer.observe.traces import open_tracing
from consumer.postgres.background import BackgroundStore
from consumer.postgres.connection import Connection, connect
from consumer.postgres.positions import read_positions
from consumer.postgres.store import PostgresStore
from consumer.schemas import event_schema, load_writer_schemas
from consumer.settings import Settings, load_settings
from consumer.worker import Worker

if TYPE_CHECKING:
    from consumer.kafka.registry import SchemaRegistry

STALLED = 30.0
"""Seconds without a turn of the loop after which the worker does not count as alive."""


def now_micros() -> int:
    """Microseconds since 1970."""
    return time.time_ns() // 1000


def make_decoder(settings: Settings) -> Decoder:
    """The decoder with every writer schema of the package and of AUDIT_SCHEMA_DIR."""
    try:
        schemas = load_writer_schemas(settings.schema_dir)
        with_registry = settings.schema_registry_url is not None
        return Decoder(event_schema(), schemas, settings.max_message_bytes, with_registry=with_registry)
    except (HostileSchemaError, ValueError) as error:
        raise CommandError(f"a writer schema is refused: {error}", ExitCode.USAGE) from error


def make_learning(settings: Settings, decoder: Decoder, report: Callable[..., None]) -> Learning | None:
    """Where the decoder's further schemas come from; None without AUDIT_SCHEMA_REGISTRY_URL."""
    if settings.schema_registry_url is None:
        return None
    # Here, and not above: the client's registry part takes its time to import, and most workers have none.
    from consumer.kafka.registry import BackgroundRegistry  # noqa: PLC0415

    registry = BackgroundRegistry(open_registry(settings))
    return Learning(decoder, registry, monotonic=time.monotonic, backoff=Backoff(random.random), report=report)


def learn_all(learning: Learning | None, messages: Sequence[Message]) -> None:
    """Asks for the schemas of all these messages and waits for the answers; afterwards each is learned or refused.

    Raises:
        CommandError: the registry can't be asked.
    """
    rest = list(messages) if learning is not None else []
    while learning is not None:
        _, rest = learning.split(rest)
        if not rest:
            break
        time.sleep(learning.go_on(POLL))
        if learning.failure is not None:
            raise CommandError(str(learning.failure), ExitCode.REGISTRY)


def open_registry(settings: Settings) -> "SchemaRegistry":
    """The registry's client. Its settings are read again when the registry refuses us: tokens and certificates rotate."""
    from consumer.kafka.registry import SchemaRegistry  # noqa: PLC0415 - as above

    known = [settings]

    def config() -> dict[str, str]:
        return (known.pop() if known else load_settings(os.environ)).schema_registry_config()

    try:
        return SchemaRegistry(config)
    except ConfigurationError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error


@dataclass(frozen=True)
class Parts:
    """A worker and what must be closed after it."""

    worker: Worker
    source: KafkaSource
    store: BackgroundStore


@contextmanager
def observation(settings: Settings) -> Iterator[WorkerObserver]:
    """Logs, metrics and health, served where a port is set: from the first moment, so that a wait for the database is seen as one."""
    registry = CollectorRegistry()
    heartbeat = Heartbeat(monotonic=time.monotonic)
    tracing = open_tracing(os.environ)
    service = ServiceManager(os.environ, time.monotonic)
    metrics = WorkerMetrics(registry)
    metrics.retention.set(settings.retention.total_seconds())
    observer = WorkerObserver(metrics, heartbeat, time.monotonic, service, tracing=tracing)
    with ExitStack() as end:
        if tracing is not None:
            end.callback(tracing.close)
        if settings.metrics_port is not None:
            server = _health_server(settings.metrics_port, registry, heartbeat, observer)
            server.start()
            end.callback(server.stop)
        yield observer


def _health_server(port: int, registry: CollectorRegistry, heartbeat: Heartbeat, observer: WorkerObserver) -> HealthServer:
    try:
        return HealthServer(port, registry=registry, live=lambda: heartbeat.age() < STALLED, not_ready=lambda: list(observer.not_ready))
    except OSError as error:
        raise CommandError(f"AUDIT_METRICS_PORT={port}: {error.strerror}; choose a free port", ExitCode.USAGE) from error


@contextmanager
def worker_parts(settings: Settings, observer: WorkerObserver, topics: type[Topics] = Topics) -> Iterator[Parts]:
    """A worker for these settings; everything is closed afterwards, the store first."""
    decoder = make_decoder(settings)
    learning = make_learning(settings, decoder, observer.event)
    client = settings.kafka_client_config()
    config = consumer_config(
        client,
        group_id=settings.kafka_group_id,
        group_protocol=settings.kafka_group_protocol,
        session_timeout=settings.kafka_session_timeout.total_seconds(),
    )
    try:
        credentials = Credentials(client, lambda: settings.again().kafka_client_config(), time.monotonic, observer.event)
        source = KafkaSource(config, topics(client, settings.kafka_topics), observer.event, credentials)
    except ConfigurationError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    source.on_statistics = observer.client_state
    store = BackgroundStore(PostgresStore(database_connector(settings), now_micros), observer.log_state)
    intake = Intake(
        source,
        decoder,
        retention=settings.retention,
        most=settings.batch_max_messages,
        now=now_micros,
        monotonic=time.monotonic,
        learning=learning,
        headed=observer.reads_headers,
    )
    worker = Worker(
        source,
        store,
        intake,
        breaker=Breaker(settings.quarantine_limit, settings.quarantine_limit_share / 100),
        monotonic=time.monotonic,
        backoff=Backoff(random.random),
        observer=observer,
    )
    try:
        yield Parts(worker, source, store)
    finally:
        store.close()
        source.close()


def database_connector(settings: Settings) -> Callable[[], Connection]:
    """Makes connections to the database of the settings; each reads the files of URL and password again, for they rotate."""

    def open_connection() -> Connection:
        now = settings.again()
        assert now.database_url is not None  # noqa: S101 - require_database was called
        password = now.database_password
        return connect(now.database_url.get_secret_value(), password.get_secret_value() if password is not None else None)

    return open_connection


class Drain:
    """Says when everything that was in the topics at the start has been accounted for, by us or by another worker."""

    def __init__(self, parts: Parts, settings: Settings) -> None:
        self._parts = parts
        self._connect = database_connector(settings)
        self._targets: dict[Partition, tuple[str, int]] | None = None
        self._looked = 0.0
        self._held: str | None = None  # why it can't be told yet, as was said

    def done(self) -> bool:
        """Whether every partition stands where it ended when first asked.

        Raises:
            CommandError: all but partitions that are held.
        """
        targets = self._ends()
        if targets is None:
            return False
        worker, source = self._parts.worker, self._parts.source
        open_ = {each: target for each, target in targets.items() if worker.written.get(each, -1) < target[1]}
        held = worker.held_partitions
        if (open_.keys() & source.assigned) - held or not source.assigned <= worker.written.keys() | held:
            return False
        if held:
            raise CommandError("held: " + "; ".join(worker.held()), ExitCode.HELD)
        if open_:  # partitions of other workers: the database knows
            if time.monotonic() - self._looked < 1.0:
                return False
            self._looked = time.monotonic()
            positions = self._positions(open_)
            return all(each in positions and positions[each].next_offset >= target[1] for each, target in open_.items())
        return True

    def _positions(self, wanted: Mapping[Partition, tuple[str, int]]) -> Mapping[Partition, PartitionPosition]:
        try:
            return read_positions(self._connect, {each: topic_id for each, (topic_id, _) in wanted.items()})
        except TransientError:
            return {}

    def _ends(self) -> Mapping[Partition, tuple[str, int]] | None:
        if self._targets is None:
            try:
                topics = self._parts.source.topics
                ranges = topics.ranges(topics.partitions())
            except TransientError as error:
                if str(error) != self._held:
                    self._held = str(error)
                    structlog.get_logger().warning("held", reason=self._held, cause=error.cause.value)
                return None
            self._targets = {each: (at.topic_id, at.high) for each, at in ranges.items() if at.high > at.low}
        return self._targets
