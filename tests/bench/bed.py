"""Where a benchmark runs: a real Kafka and a real PostgreSQL that commits durably, on this machine."""

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg

from tests.bed.kafka import KafkaBroker, unique_topic
from tests.bed.postgres import PostgresServer, running_postgres

DURABLE = {
    # As a real server has it: what is committed survives a crash of the machine.
    "fsync": "on",
    "synchronous_commit": "on",
    # recorded_at is from before the commit; this is the commit.
    "track_commit_timestamp": "on",
    # PostgreSQL's own defaults are for the smallest machine.
    "shared_buffers": "512MB",
    "max_wal_size": "4GB",
    # A server that has run for a while writes into recycled files; a new one zeroes each 16 MB first, which holds every commit for 100 ms.
    "min_wal_size": "2GB",
}
_RECYCLED = 128
"""Files of WAL that are there before anything is measured: `min_wal_size`."""


class Bed:
    """A broker, a server, and databases and topics on them."""

    def __init__(self, kafka: KafkaBroker, postgres: PostgresServer) -> None:
        self.kafka, self.postgres = kafka, postgres

    def topic(self, partitions: int = 4, **config: str) -> str:
        """A topic of its own."""
        return unique_topic(self.kafka, partitions, **config)

    @contextmanager
    def database(self) -> Iterator[str]:
        """A migrated database of its own, which goes afterwards; its URL."""
        url = self.postgres.new_database()
        try:
            yield url
        finally:
            with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
                connection.execute(f"DROP DATABASE {url.rpartition('/')[2]} WITH (FORCE)")

    def settle(self) -> None:
        """Writes out what is dirty, so that no measurement pays for the one before it."""
        with psycopg.connect(self.postgres.url(), autocommit=True) as connection:
            connection.execute("CHECKPOINT")

    def environment(self, database: str, topic: str, **settings: Any) -> dict[str, str]:
        """The settings of a worker, in a group of its own for each database."""
        return {
            **{name: text for name, text in os.environ.items() if not name.startswith("AUDIT_")},
            "PYTHONUNBUFFERED": "1",
            "AUDIT_KAFKA_BOOTSTRAP_SERVERS": self.kafka.bootstrap_servers,
            "AUDIT_DATABASE_URL": database,
            "AUDIT_KAFKA_TOPIC": topic,
            "AUDIT_KAFKA_GROUP_ID": f"bench-{database.rpartition('/')[2]}-{topic}",
            **{name: str(value) for name, value in settings.items()},
        }


def _age(server: PostgresServer) -> None:
    """Leaves the server as one that has run for a while: with WAL to recycle."""
    with psycopg.connect(server.url(), autocommit=True) as connection:
        for _ in range(_RECYCLED):
            connection.execute("SELECT pg_logical_emit_message(false, 'age', '')")
            connection.execute("SELECT pg_switch_wal()")
        connection.execute("CHECKPOINT")


@contextmanager
def bed(major: int = 18) -> Iterator[Bed]:
    """The parts, started; and gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="audit-bench-"))
    try:
        broker = KafkaBroker(folder)
        broker.start()
        try:
            with running_postgres(major, DURABLE) as server:
                _age(server)
                yield Bed(broker, server)
        finally:
            broker.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
