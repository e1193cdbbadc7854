"""A transactional outbox: no change without its event, no event without its change, whatever dies and whenever.

    pip install -r requirements.txt
    psql "$DATABASE_URL" -f outbox.sql
    DATABASE_URL=postgresql://… KAFKA_BOOTSTRAP_SERVERS=localhost:9092 python outbox.py

The application calls `record` in the transaction of the change. The relay, this program, sends what it finds and deletes it once Kafka has
confirmed it. A relay that dies between the two sends the same bytes again, with the same event_id: the audit log counts the second as a
duplicate.
"""

import os
import signal
import sys
import threading

import psycopg
from audit_events import EncodedEvent
from producer import AuditProducer

BATCH = 500
PAUSE = 0.5
"""Seconds between two looks at an empty table."""


def record(connection: psycopg.Connection, event: EncodedEvent) -> None:
    """Puts the event into the outbox, in the transaction that is open: both are committed, or neither."""
    connection.execute("INSERT INTO audit_outbox (event_id, key, value) VALUES (%s, %s, %s)", event)


def relay_once(connection: psycopg.Connection, producer: AuditProducer) -> int:
    """Sends the oldest events of the outbox, and deletes those that Kafka has confirmed; how many these were.

    A second relay passes over the rows that this one holds, so several may run; but then they do not keep the order of a tenant's events.
    """
    with connection.transaction():
        rows = connection.execute(
            "SELECT event_id::text, key, value FROM audit_outbox ORDER BY number LIMIT %s FOR UPDATE SKIP LOCKED", (BATCH,)
        ).fetchall()
        events = [EncodedEvent(*row) for row in rows]
        unconfirmed = {event.event_id for event in producer.send(events)}
        done = [event.event_id for event in events if event.event_id not in unconfirmed]
        connection.execute("DELETE FROM audit_outbox WHERE event_id = ANY(%s::uuid[])", (done,))
    return len(done)


def main() -> int:
    """Relays until told to stop."""
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, lambda *_: stop.set())
    producer = AuditProducer(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
    while not stop.is_set():
        try:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True, connect_timeout=10) as connection:
                while not stop.is_set():
                    if relay_once(connection, producer) == 0:
                        stop.wait(PAUSE)
        except psycopg.OperationalError as error:  # the database is away: what was sent but not deleted is sent again
            print(f"outbox: {type(error).__name__}; trying again", file=sys.stderr)
            stop.wait(PAUSE)
    return 0


if __name__ == "__main__":
    sys.exit(main())
