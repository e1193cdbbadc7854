"""Schemas from a real registry, through the running worker."""

import pytest

from consumer.schemas import event_schema
from tests.bed.events import encoded, events
from tests.bed.kafka import KafkaBroker
from tests.bed.registry import Apicurio, Gate, confluent
from tests.bed.worker import Workplace


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str, gate: Gate) -> Workplace:
    """A workplace with a registry."""
    return Workplace(kafka_broker, database, topic, AUDIT_SCHEMA_REGISTRY_URL=gate.url)


def test_messages_in_confluent_framing_end_in_the_log(place: Workplace, registry: Apicurio, gate: Gate) -> None:
    """Beside others, and the registry is asked once."""
    number = registry.register(event_schema())
    expected = events(300)
    values = encoded(expected)
    place.publish([*[confluent(number, value) for value in values[:200]], *values[200:]])
    place.drain()
    place.assert_complete(expected)
    assert gate.asked == [f"/schemas/ids/{number}"]
