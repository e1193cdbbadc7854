"""Sends change events to the audit log's topic.

pip install -r requirements.txt
KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python producer.py
"""

import os
import sys
from collections.abc import Callable, Iterable

from audit_events import EncodedEvent, change_event
from confluent_kafka import KafkaError, KafkaException, Message, Producer

TOPIC = os.environ.get("KAFKA_TOPIC", "integration-changes")


class AuditProducer:
    """Sends events, and knows which of them Kafka has confirmed."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._producer = Producer(
            {
                "bootstrap.servers": bootstrap_servers,
                "enable.idempotence": True,  # the client's own retries neither double nor reorder
                "acks": "all",
                "partitioner": "murmur2_random",  # a tenant's partition is then the same as from Java and Node
                "compression.type": "zstd",
                "linger.ms": 5,
                "delivery.timeout.ms": 60_000,
            }
        )

    def send(self, events: Iterable[EncodedEvent]) -> list[EncodedEvent]:
        """Sends them, and returns those that Kafka has not confirmed: keep them, and send the same bytes later."""
        missing = {event.event_id: event for event in events}
        for event in list(missing.values()):

            def confirmed(error: KafkaError | None, _: Message, event_id: str = event.event_id) -> None:
                if error is None:
                    del missing[event_id]
                else:
                    print(f"event {event_id}: {error.name()}", file=sys.stderr)

            try:
                self._produce(event, confirmed)
            except KafkaException as error:  # refused before it was sent
                if error.args[0].fatal():  # this producer is dead: another one may send the same bytes
                    raise
                print(f"event {event.event_id}: {error.args[0].name()}", file=sys.stderr)
        self._producer.flush()  # delivery.timeout.ms bounds it
        return list(missing.values())

    def _produce(self, event: EncodedEvent, confirmed: Callable[[KafkaError | None, Message], None]) -> None:
        while True:
            try:
                self._producer.produce(TOPIC, event.value, event.key, on_delivery=confirmed)
            except BufferError:  # the queue is full: wait until something has been sent
                self._producer.poll(1)
            else:
                self._producer.poll(0)  # runs the callbacks of what was confirmed meanwhile
                return


def main() -> int:
    """Three changes of a tenant."""
    events = [
        change_event("acme", "OAuthClientAdded", {"client_name": "Reporting", "client_id": "c-1"}, actor="sato", source_ip="192.0.2.7"),
        change_event("acme", "SlackSettingUpdated", {"enabled": True}, actor="sato", result="FAILED", error_code="CB_NO02"),
        change_event(
            "acme",
            "IntegrationEnabled",
            {"target": ("integration.audit.v1.ExternalService", {"name": "Box", "id": "box"})},
            actor="suzuki",
        ),
    ]
    unconfirmed = AuditProducer(os.environ["KAFKA_BOOTSTRAP_SERVERS"]).send(events)
    for event in events:
        if event not in unconfirmed:
            print(event.event_id)
    return 1 if unconfirmed else 0


if __name__ == "__main__":
    sys.exit(main())
