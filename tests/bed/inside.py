"""A worker of the real parts inside this process, driven turn by turn: for faults that no signal and no network can inject."""

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from consumer.cli.wiring import Parts, worker_parts
from consumer.kafka.source import KafkaSource, consumer_config
from consumer.kafka.topics import Topics
from consumer.observe.health import Heartbeat
from consumer.observe.metrics import WorkerMetrics
from consumer.observe.observer import WorkerObserver
from consumer.settings import load_settings
from consumer.worker import Worker

IMPATIENT = {"session_timeout_ms": 1500, "max_poll_interval_ms": 2000, "heartbeat_interval_ms": 300}
"""Settings of a client whose group takes its partitions away after two seconds without a poll."""


class Ear(WorkerObserver):
    """The real observer, which also remembers; and raises, once, at an event that a test names."""

    def __init__(self) -> None:
        super().__init__(WorkerMetrics(CollectorRegistry()), Heartbeat(time.monotonic), time.monotonic)
        self.names: list[str] = []
        self.raise_at: str | None = None

    def event(self, name: str, **fields: Any) -> None:
        """As WorkerObserver."""
        self.names.append(name)
        if name == self.raise_at:
            self.raise_at = None
            raise ZeroDivisionError(name)
        super().event(name, **fields)


class Inside:
    """The worker, its parts and its ear."""

    def __init__(self, parts: Parts, ear: Ear) -> None:
        self._parts, self.ear = parts, ear

    @property
    def worker(self) -> Worker:
        """The loop."""
        return self._parts.worker

    @property
    def source(self) -> KafkaSource:
        """Its Kafka."""
        return self._parts.source

    def run_until(self, condition: Callable[[], Any], what: str, *others: "Inside", timeout: float = 60.0) -> None:
        """Drives it, and others with it in turns, until the condition holds."""
        deadline = time.monotonic() + timeout
        while not condition():
            assert time.monotonic() < deadline, f"never came true: {what}; not ready: {self.worker.not_ready()}"
            for each in (self, *others):
                each.worker.run_once()


@contextmanager
def worker_inside(environment: Mapping[str, str], topics: type[Topics] = Topics, **client: Any) -> Iterator[Inside]:
    """A worker for these settings; `client` overrides librdkafka's, such as `max_poll_interval_ms=2000`."""
    overrides = {name.replace("_", "."): value for name, value in client.items()}
    ear = Ear()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("consumer.cli.wiring.consumer_config", lambda *args, **names: {**consumer_config(*args, **names), **overrides})
        parts = worker_parts(load_settings(environment), ear, topics)
        opened = parts.__enter__()
    try:
        yield Inside(opened, ear)
    finally:
        parts.__exit__(None, None, None)
