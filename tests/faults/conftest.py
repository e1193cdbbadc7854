"""What the tests of faults share."""

import pytest

from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str) -> Workplace:
    """A workplace whose group takes the partitions of a silent worker after three seconds."""
    return Workplace(kafka_broker, database, topic, AUDIT_KAFKA_SESSION_TIMEOUT="3s")


@pytest.fixture
def health() -> Health:
    """Where a worker's health is served, if it is started with these settings."""
    return Health()


@pytest.fixture
def database_way(place: Workplace, postgres_proxy: FaultProxy) -> dict[str, str]:
    """Settings that lead a worker to its database through the proxy."""
    server, _, name = place.database.rpartition("/")
    return {"AUDIT_DATABASE_URL": f"{server.rpartition(':')[0]}:{postgres_proxy.port}/{name}"}


@pytest.fixture
def kafka_way(kafka_proxy: FaultProxy) -> dict[str, str]:
    """Settings that lead a worker to Kafka through the proxy."""
    return {"AUDIT_KAFKA_BOOTSTRAP_SERVERS": kafka_proxy.address}
