"""Producers with other versions of the schema, through the running worker: by AUDIT_SCHEMA_DIR and by a registry."""

import json

from consumer.core.decoding import schema_fingerprint
from consumer.schemas import event_schema
from tests.bed.evolution import ADAPT, ENABLED, FOLDER, GENERATED, eleventh_change, new_symbol, pair, writer_schema
from tests.bed.kafka import KafkaBroker
from tests.bed.registry import Apicurio, confluent
from tests.bed.worker import Workplace


def test_producers_of_other_versions(kafka_broker: KafkaBroker, database: str, topic: str, registry: Apicurio) -> None:
    """Every allowed difference ends in the log; a new change and a new result wait in quarantine, and cost nobody else a place."""
    place = Workplace(kafka_broker, database, topic, AUDIT_SCHEMA_DIR=str(FOLDER), AUDIT_SCHEMA_REGISTRY_URL=registry.url)
    names = [name for name in ADAPT if name != "renamed"]
    expected, values = [], []
    for name in names:
        number = registry.register(writer_schema(name))
        for change in (ENABLED, GENERATED):
            said, value = pair(name, change)
            other, framed = pair(name, change)
            expected += [said, other]
            values += [value, confluent(number, framed)]
    values += [eleventh_change(), new_symbol()]
    place.publish(values, partition=0)
    place.drain()
    place.assert_complete(expected, quarantined=2)
    assert place.query("SELECT reason FROM audit.quarantine ORDER BY kafka_offset") == [("unmapped change",), ("invalid event",)]
    complements = {json.dumps(row[0], sort_keys=True) for row in place.query("SELECT complement FROM audit.audit_log")}
    assert complements == {
        json.dumps({"id": "c-1", "name": "Reporting"}),
        json.dumps({"id": "t-1", "scope": ["read"], "validity_period": {"end": None, "start": "1970-01-01T00:00:01Z"}}),
    }


def test_unknown_until_the_folder_has_it(kafka_broker: KafkaBroker, database: str, topic: str) -> None:
    """An older producer's schema, given later: its messages come back by a retry."""
    place = Workplace(kafka_broker, database, topic)
    said, value = pair("older-without-optional-fields", ENABLED)
    assert value[2:10] != schema_fingerprint(event_schema())
    place.publish([value], partition=0)
    place.drain()
    assert place.query("SELECT reason FROM audit.quarantine") == [("unknown schema",)]
    retried = place.command("quarantine", "retry", "--all", "--yes", AUDIT_SCHEMA_DIR=str(FOLDER))
    assert retried.returncode == 0, retried.stderr
    assert [str(row[0]) for row in place.query("SELECT event_id FROM audit.audit_log")] == [said["event_id"]]
