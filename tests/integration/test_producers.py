"""The examples of producers on a real broker: what they send is in the log."""

import re
from collections.abc import Callable

import pytest

from tests.bed import producers
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]

SENT = {
    "python": [
        ("sato", "add oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "FAILED", {"status": "Enable"}),
        ("suzuki", "enable integration", "SUCCESS", {"name": "Box", "id": "box"}),
    ],
    "java": [
        ("sato", "update oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "FAILED", {"status": "Enable"}),
        ("suzuki", "disable integration", "SUCCESS", {"name": "Box", "id": "box"}),
    ],
    "node": [
        ("sato", "delete oauth client", "SUCCESS", {"client_name": "Reporting", "client_id": "c-1"}),
        ("sato", "update slack setting", "VALIDATION ERROR", {"status": "Disable"}),
        ("suzuki", "authorize integration", "SUCCESS", {"name": "Reporting", "id": "c-1", "scopes": ["k:app_record:read"]}),
    ],
}


@pytest.fixture
def place(kafka_broker: KafkaBroker, database: str, topic: str) -> Workplace:
    """A topic and a database."""
    return Workplace(kafka_broker, database, topic)


@pytest.mark.parametrize("language", SENT)
def test_what_an_example_sends_is_in_the_log(place: Workplace, language: str) -> None:
    """Each event once, in the order of its changes, in the partition of its tenant, under the id that the example told."""
    done = producers.run(language, place.kafka.bootstrap_servers, place.topic)
    assert done.returncode == 0, done.stderr
    ids = done.stdout.split()
    place.drain()
    place.assert_complete([{"event_id": each} for each in ids])
    rows = place.query(
        "SELECT event_id::text, tenant, kafka_partition, login_name, action, result, complement FROM audit.audit_log ORDER BY kafka_offset"
    )
    assert [row[0] for row in rows] == ids
    assert all(each[14] == "7" for each in ids)
    assert {row[1] for row in rows} == {"acme"}
    assert len({row[2] for row in rows}) == 1
    assert [row[3:] for row in rows] == SENT[language]


@pytest.mark.parametrize("language", SENT)
def test_an_example_says_what_kafka_has_not_confirmed(kafka_broker: KafkaBroker, new_topic: Callable[..., str], language: str) -> None:
    """A topic that takes nothing: not zero, none of the ids among the confirmed, no value of an event in what it says."""
    done = producers.run(language, kafka_broker.bootstrap_servers, new_topic(max_message_bytes="10"))
    assert done.returncode == 1, done.stderr
    assert done.stdout == ""
    assert len(re.findall("[0-9a-f]{8}-[0-9a-f]{4}-7", done.stderr)) == 3, done.stderr
    assert "Reporting" not in done.stderr
