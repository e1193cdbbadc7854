"""Decode, map, render, store and read back is the identity, for any event that the schema allows."""

import json
import uuid
from io import BytesIO
from typing import Any

import fastavro
import psycopg
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from consumer.core.actions import ACTIONS, BY_CHANGE
from consumer.core.canonical import address_text, canonical_json, content_hash
from consumer.core.decoding import SINGLE_OBJECT, schema_fingerprint, strip_logical_types
from consumer.core.events import AuditRecord, Partition, PartitionSlice
from consumer.core.mapping import audit_record, complement_json
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore
from consumer.schemas import event_schema
from tests.bed.events import FakeMessage, decoder
from tests.property.strategies import values

SCHEMA = strip_logical_types(event_schema())
PARSED = fastavro.parse_schema(SCHEMA)
HEADER = SINGLE_OBJECT + schema_fingerprint(event_schema())
NOW = 1_795_478_400_000_000  # 2026-11-24

_TIMES = st.one_of(st.none(), st.integers(-62_135_596_800_000_000, 253_402_300_799_999_999))


def _events() -> st.SearchStrategy[Any]:
    """Events whose fields keep the contract; the change is whatever its schema allows."""

    def fit(event: dict[str, Any], micros: int, address: Any, start: Any, end: Any) -> dict[str, Any]:
        change_type, change = event["change"]
        if "validity" in change:
            change = {**change, "validity": {"start": start, "end": end}}
        return {
            **event,
            "occurred_at": micros,
            "source_ip": None if address is None else str(address),
            "change": (change_type, change),
        }

    return st.builds(
        fit,
        values(SCHEMA),
        st.integers(NOW - 30 * 86_400_000_000, NOW),
        st.one_of(st.none(), st.ip_addresses()),
        _TIMES,
        _TIMES,
    )


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(events=st.lists(_events(), min_size=1, max_size=20))
def test_identity_through_postgres(database: str, events: list[Any]) -> None:
    """Every column says what the event said, and the hash can be computed again from the row alone."""
    records: dict[str, AuditRecord] = {}
    partition, topic_id = Partition(uuid.uuid4().hex, 0), "id"
    part = PartitionSlice(partition, topic_id, 0, len(events))
    for offset, event in enumerate(events):
        event["event_id"] = str(uuid.uuid4())  # Hypothesis repeats its examples, and the ledger would know them
        stream = BytesIO()
        fastavro.schemaless_writer(stream, PARSED, event)
        value = HEADER + stream.getvalue()
        record = audit_record(decoder().decode(value), value)
        records[record.event_id] = record
        part.rows.append((FakeMessage(value, offset), record))
    store = PostgresStore(lambda: connect(database), lambda: NOW)
    store.open_positions({partition: (topic_id, 0)})
    outcome = store.write(store.prepare([part]))
    store.close()
    assert outcome.written == len(events), outcome
    with psycopg.connect(database) as connection:
        rows = connection.execute(
            "SELECT event_id::text, (extract(epoch FROM occurred_at) * 1000000)::bigint, tenant, level, service, login_name, module,"
            " action, result, error_code, complement, subject_type, host(source_ip), content_hash, source_bytes"
            " FROM audit.audit_log WHERE kafka_topic = %s",
            (partition.topic,),
        ).fetchall()
    by_action = {action.name: action for action in ACTIONS}
    for *items, stored_hash, source in rows:
        items[10] = _ordered(by_action[items[7]].items, items[10])
        items[12] = None if items[12] is None else address_text(items[12])
        assert AuditRecord(*items, stored_hash, source) == records[items[0]]
        assert content_hash(canonical_json(items).encode()) == stored_hash


def _ordered(keys: tuple[str, ...], complement: dict[str, Any]) -> str:
    """Jsonb keeps no key order; the canonical form has one."""
    if "validity_period" in complement:
        complement["validity_period"] = {key: complement["validity_period"][key] for key in ("start", "end")}
    return json.dumps({key: complement[key] for key in keys}, ensure_ascii=False, separators=(",", ":"))


def test_the_complement_is_canonical_json() -> None:
    """The renderer and the standard library agree on the bytes."""
    texts = ['a"b\\c', "\t\n\x01", "é漢😀", "</script>"]
    action = BY_CHANGE["IntegrationAuthorized"]
    rendered = complement_json(action, {"name": texts[0], "id": texts[1], "scopes": texts})
    assert rendered == json.dumps({"name": texts[0], "id": texts[1], "scopes": texts}, ensure_ascii=False, separators=(",", ":"))
