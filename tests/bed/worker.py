"""The worker as its users run it: a process of its own, told by its environment."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, Producer, TopicPartition
from confluent_kafka.admin import OffsetSpec

from tests.bed.kafka import KafkaBroker

PLANTED = "planted-password-7f3a"
"""Every worker of the suite has it; the servers of the bed trust everybody, so that it does no harm."""
_NOBODY_SAYS = (PLANTED, "sato", "192.0.2.7")
"""The password, and what the events of `tests.bed.events` hold."""

BOOKS = ("written", "duplicates", "quarantined", "tombstones", "skipped", "expired")


class Workplace:
    """A topic, a database, and workers between them."""

    def __init__(self, kafka: KafkaBroker, database: str, topic: str, **settings: str) -> None:
        self.kafka, self.database, self.topic = kafka, database, topic
        self.environment = {
            **{name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")},
            "PYTHONUNBUFFERED": "1",
            "AUDIT_KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "AUDIT_DATABASE_URL": database,
            "AUDIT_DATABASE_PASSWORD": PLANTED,
            "AUDIT_KAFKA_TOPIC": topic,
            "AUDIT_KAFKA_GROUP_ID": f"group-{topic}",
            "AUDIT_KAFKA_SESSION_TIMEOUT": "6s",
            **settings,
        }

    def command(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """Runs a command to its end."""
        done = subprocess.run(
            [sys.executable, "-m", "consumer", *arguments],
            env={**self.environment, **settings}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert_discreet(done.stderr)
        return done

    def drain(self, **settings: str) -> str:
        """Runs a worker until everything is accounted for; its log."""
        done = self.command("run", "--drain", **settings)
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stderr

    @contextmanager
    def worker(
        self, *, log: Path | None = None, module: str = "consumer", **settings: str
    ) -> Iterator["subprocess.Popen[bytes]"]:  # fmt: skip
        """A worker in the background; what it says goes to `log`, where given."""
        with log.open("a+b") if log else tempfile.TemporaryFile() as ear:
            process = subprocess.Popen(
                [sys.executable, "-m", module, "run"], env={**self.environment, **settings}, stdout=subprocess.DEVNULL, stderr=ear
            )
            try:
                yield process
            finally:
                if process.poll() is None:
                    process.send_signal(signal.SIGCONT)
                    process.kill()
                    process.wait()
            ear.seek(0)
            assert_discreet(ear.read().decode(errors="replace"))

    def publish(
        self,
        values: Sequence[bytes | None],
        *,
        partition: int | None = None,
        topic: str | None = None,
        headers: Sequence[tuple[str, bytes]] = (),
        sent: int = 0,
    ) -> None:
        """Sends messages and waits until Kafka has them. `sent`: when, in milliseconds since 1970, to be told; 0: now."""
        producer = Producer({**self.kafka.client, "linger.ms": 5})
        place = {} if partition is None else {"partition": partition}
        for number, value in enumerate(values):
            key = str(number).encode()
            producer.produce(topic or self.topic, value, key=key, headers=list(headers), timestamp=sent, **place)  # type: ignore[arg-type]
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
        (row,) = self.query(f"SELECT {', '.join(f'coalesce(sum({name}), 0)::int' for name in BOOKS)} FROM audit.consumer_position")
        return dict(zip(BOOKS, row, strict=True))

    def written(self) -> int:
        """How many events are in the log, by the books."""
        return self.books()["written"]

    def committed(self) -> dict[int, int]:
        """Kafka's committed offset of each partition that has one."""
        asked = ConsumerGroupTopicPartitions(self.environment["AUDIT_KAFKA_GROUP_ID"])
        (future,) = self.kafka.admin.list_consumer_group_offsets([asked]).values()
        return {place.partition: place.offset for place in future.result(30).topic_partitions if place.offset >= 0}

    def positions(self) -> dict[int, int]:
        """PostgreSQL's position of each partition of the topic as it is now."""
        question = "SELECT kafka_partition, next_offset FROM audit.consumer_position WHERE kafka_topic_id = %s"
        return dict(self.query(question, self.kafka.topic_id(self.topic)))

    def assert_committed_after_written(self) -> None:
        """Kafka is never told of more than PostgreSQL holds."""
        committed = self.committed()  # first, so that what is written meanwhile can't excuse it
        positions = self.positions()
        assert all(offset <= positions[number] for number, offset in committed.items()), (committed, positions)

    def members(self) -> int:
        """How many members the group has; -1 while no broker coordinates it."""
        group = self.environment["AUDIT_KAFKA_GROUP_ID"]
        try:
            return len(self.kafka.admin.describe_consumer_groups([group])[group].result(30).members)
        except KafkaException:
            return -1

    def assert_complete(self, events: Sequence[Mapping[str, Any]], **others: int) -> None:
        """Each event is in log and ledger once, the books say so, and no offset up to the topic's end is unaccounted."""
        expected = sorted(uuid.UUID(event["event_id"]) for event in events)
        assert [found for (found,) in self.query("SELECT event_id FROM audit.audit_log ORDER BY 1")] == expected
        assert [found for (found,) in self.query("SELECT event_id FROM audit.event ORDER BY 1")] == expected
        assert self.books() == {**dict.fromkeys(BOOKS, 0), "written": len(expected), **others}
        assert self.positions() == self.ends()

    def ends(self) -> dict[int, int]:
        """Where each partition of the topic ends."""
        numbers = self.kafka.admin.list_topics(self.topic, timeout=10).topics[self.topic].partitions
        latest = OffsetSpec.latest()  # type: ignore[no-untyped-call]
        asked = self.kafka.admin.list_offsets({TopicPartition(self.topic, number): latest for number in numbers})
        return {place.partition: future.result(30).offset for place, future in asked.items()}


def assert_discreet(text: str) -> None:
    """Nothing that a worker, or a command on stderr, says holds a password or a value of an event: asked of every one in the suite."""
    for marker in _NOBODY_SAYS:
        at = text.find(marker)
        assert at < 0, f"{marker!r} is in the output: …{text[max(0, at - 300) : at + 50]}…"


def wait_until(condition: Callable[[], Any], what: str, timeout: float = 60.0) -> None:
    """Waits for a condition, not for time to pass."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"never came true: {what}"
        time.sleep(0.05)
