"""The worker as its users run it: a process of its own, told by its environment."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import psycopg
from confluent_kafka import Producer

from tests.bed.kafka import KafkaBroker


class Workplace:
    """A topic, a database, and workers between them."""

    def __init__(self, kafka: KafkaBroker, database: str, topic: str, **settings: str) -> None:
        self.kafka, self.database, self.topic = kafka, database, topic
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")},
            "PYTHONUNBUFFERED": "1",
            "AUDIT_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "AUDIT_DATABASE_URL": database,
            "AUDIT_KAFKA_TOPIC": topic,
            "AUDIT_KAFKA_GROUP_ID": f"group-{topic}",
            "AUDIT_KAFKA_SESSION_TIMEOUT": "6s",
            **settings,
        }

    def command(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        return subprocess.run(
            [sys.executable, "-m", "consumer", *arguments],
            env={**self.environment, **settings}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip

    def drain(self, **settings: str) -> str:
        """Runs a worker until everything is accounted for; its log."""
        done = self.command("run", "--drain", **settings)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    @contextmanager
    def worker(self, **settings: str) -> Iterator["subprocess.Popen[bytes]"]:
        """A worker in the background."""
        process = subprocess.Popen(
            [sys.executable, "-m", "consumer", "run"],
            env={**self.environment, **settings}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            yield process
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGCONT)
                process.kill()
                process.wait()

    def publish(self, values: Sequence[bytes | None], *, partition: int | None = None, topic: str | None = None) -> None:
        """Sends messages and waits until Kafka has them."""
        producer = Producer({**self.kafka.client, "linger.ms": 5})
        place = {} if partition is None else {"partition": partition}
        for number, value in enumerate(values):
            producer.produce(topic or self.topic, value, key=str(number).encode(), **place)  # type: ignore[arg-type]
            producer.poll(0)
        assert producer.flush(30) == 0

    def query(self, question: str, *parameters: Any) -> list[tuple[Any, ...]]:
        """Asks the database."""
        with psycopg.connect(self.database) as connection:
            return connection.execute(question, parameters or None).fetchall()

    def value(self, question: str, *parameters: Any) -> Any:
        """Asks the database for one value."""
        return self.query(question, *parameters)[0][0]

    def books(self) -> dict[str, int]:
        """The sums over all positions."""
        names = ("written", "duplicates", "quarantined", "tombstones", "skipped", "expired")
        (row,) = self.query(f"SELECT {', '.join(f'coalesce(sum({name}), 0)::int' for name in names)} FROM audit.consumer_position")
        return dict(zip(names, row, strict=True))


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> None:
    """Waits for a condition, not for time to pass."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)
