"""What producers rely on in `schemas/`, and what the README says."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import fastavro
import pytest
from fastavro.schema import to_parsing_canonical_form

import consumer.schemas
from consumer.cli.exit_codes import ExitCode
from consumer.core.actions import ACTIONS, RESULTS, TARGETS
from consumer.core.decoding import schema_fingerprint
from consumer.core.event_json import EventJsonError
from consumer.core.mapping import audit_record
from consumer.core.samples import sample_events
from consumer.schemas import event_schema, load_writer_schemas, schema_folder
from consumer.settings import settings_table
from tests.bed.events import ENCODER, decoder, event

ROOT = Path(__file__).parents[2]
SCHEMA = event_schema()
V1_FINGERPRINT = "25180180a6bea738"
EXAMPLES = [json.loads(line) for line in (schema_folder() / "v1/examples.jsonl").read_text().splitlines()]


def _documented(schema: Any) -> Iterator[dict[str, Any]]:
    match schema:
        case list():
            for each in schema:
                yield from _documented(each)
        case {"type": "record" | "enum"}:
            yield schema
            for field in schema.get("fields", []):
                yield field
                yield from _documented(field["type"])


def test_every_record_and_field_has_a_doc() -> None:
    """Producers read the schema, not our code."""
    found = list(_documented(event_schema()))
    assert len(found) > 40
    assert [each["name"] for each in found if not each.get("doc")] == []


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["change"]["type"])
def test_examples_become_records(example: dict[str, Any]) -> None:
    """Each example can be published and written."""
    value = ENCODER.encode(example)
    assert audit_record(decoder().decode(value), value).event_id == example["event_id"]


def test_examples_and_samples_cover_every_change() -> None:
    """All ten."""
    changes = {action.change_type for action in ACTIONS}
    assert {example["change"]["type"] for example in EXAMPLES} == changes
    samples = list(sample_events(100, seed=1, now=1_795_478_400_000_000))
    assert {sample["change"]["type"] for sample in samples} == changes
    assert samples == list(sample_events(100, seed=1, now=1_795_478_400_000_000))
    for sample in samples:
        value = ENCODER.encode(sample)
        audit_record(decoder().decode(value), value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"event_id": "secret"}, "event_id: expected a UUID"),
        ({"occurred_at": "2026-11-20T09:00:00"}, "occurred_at: expected a time with Z"),
        ({"occurred_at": 7}, "occurred_at: expected a time"),
        ({"tenant": None}, "tenant: expected a string"),
        ({"result": "secret"}, "result: expected one of SUCCESS"),
        ({"secret": "x"}, "unknown field 'secret'"),
        ({"change": {"type": "Nope"}}, "change.type: expected one of"),
        (
            {"change": {"type": "IntegrationEnabled", "target": {"type": "OAuthClient", "name": 7, "id": "c"}}},
            "change.target.name: expected",
        ),
        ({"change": {"type": "SlackSettingUpdated"}}, "change.enabled: is missing"),
        ({"change": {"type": "SlackSettingUpdated", "enabled": 1}}, "change.enabled: expected true or false"),
    ],
)
def test_a_wrong_event_is_named_by_its_place(fields: dict[str, Any], message: str) -> None:
    """And never by its value."""
    with pytest.raises(EventJsonError, match=message):
        ENCODER.encode({**event(), **fields})


def test_a_broken_schema_file_is_named(tmp_path: Path) -> None:
    """So that an operator finds it."""
    (tmp_path / "broken.avsc").write_text("{")
    with pytest.raises(ValueError, match=r"broken\.avsc"):
        load_writer_schemas(tmp_path)


def test_the_readme_lists_settings_and_exit_codes() -> None:
    """Every one, with its default and meaning."""
    readme = (ROOT / "README.md").read_text()
    for variable, default, meaning in settings_table():
        assert f"| `{variable}` | {default} | {meaning} |" in readme
    for code in ExitCode:
        assert f"| {int(code)} | {code.name} |" in readme


def _field(name: str) -> dict[str, Any]:
    (field,) = (field for field in SCHEMA["fields"] if field["name"] == name)
    return dict(field)


def _crc_64_avro(data: bytes) -> bytes:
    """The fingerprint as the Avro specification computes it, bit by bit; written out here, independently of the library."""
    empty = 0xC15D213AA4D7A795
    mark = empty
    for byte in data:
        mark ^= byte
        for _ in range(8):
            mark = mark >> 1 ^ (empty if mark & 1 else 0)
    return mark.to_bytes(8, "little")


def test_fields_are_those_of_the_contract() -> None:
    """Names, order, types and defaults of the event's own fields."""
    optional = ["null", "string"]
    assert [(field["name"], field["type"], field.get("default", "none")) for field in SCHEMA["fields"][:5]] == [
        ("event_id", {"type": "string", "logicalType": "uuid"}, "none"),
        ("occurred_at", {"type": "long", "logicalType": "timestamp-micros"}, "none"),
        ("tenant", "string", "none"),
        ("actor", optional, None),
        ("source_ip", optional, None),
    ]
    assert [field["name"] for field in SCHEMA["fields"][5:]] == ["result", "error_code", "change"]
    assert _field("result")["type"]["symbols"] == ["SUCCESS", "FAILED", "VALIDATION_ERROR"]
    assert (_field("error_code")["type"], _field("error_code")["default"]) == (optional, None)
    assert f"{SCHEMA['namespace']}.{SCHEMA['name']}" == "integration.audit.v1.IntegrationChangeEvent"


def test_schema_and_table_of_actions_name_the_same() -> None:
    """No change without an action, no action without a change; the same for results and targets."""
    assert {branch["name"] for branch in _field("change")["type"]} == {action.change_type for action in ACTIONS}
    assert set(_field("result")["type"]["symbols"]) == set(RESULTS)
    (enabled,) = (branch for branch in _field("change")["type"] if branch["name"] == "IntegrationEnabled")
    assert {branch["name"] for branch in enabled["fields"][0]["type"]} == set(TARGETS)


def test_fingerprint_is_the_specification_s_and_never_changes() -> None:
    """Producers have it in their messages: another fingerprint is another version, in another folder."""
    assert schema_fingerprint(SCHEMA).hex() == V1_FINGERPRINT
    assert _crc_64_avro(to_parsing_canonical_form(SCHEMA).encode()).hex() == V1_FINGERPRINT


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: example["change"]["type"])
def test_examples_are_read_by_another_library_with_the_file_as_it_is(example: dict[str, Any]) -> None:
    """Fastavro with the published schema, logical types and all, reads back what the example says."""
    value = ENCODER.encode(example)
    stream = BytesIO(value[10:])
    found: Any = fastavro.schemaless_reader(stream, fastavro.parse_schema(SCHEMA), None, return_record_name=True)
    assert stream.read() == b""
    assert str(found["event_id"]) == example["event_id"]
    assert (found["tenant"], found["actor"], found["source_ip"]) == (example["tenant"], example["actor"], example["source_ip"])
    assert (found["result"], found["error_code"]) == (example["result"], example.get("error_code"))
    name, change = found["change"]
    assert name == f"integration.audit.v1.{example['change']['type']}"
    assert change.keys() == example["change"].keys() - {"type"}
    if "target" in change:
        variant, target = change["target"]
        assert {"type": variant.rpartition(".")[2], **target} == example["change"]["target"]


def test_folder_inside_an_installed_package_comes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a wheel the files are beside the modules; in a checkout at the top level."""
    assert schema_folder().name in ("_schemas", "schemas")
    (tmp_path / "consumer").mkdir()
    monkeypatch.setattr(consumer.schemas, "__file__", str(tmp_path / "consumer/schemas.py"))
    assert schema_folder() == tmp_path / "schemas"
    (tmp_path / "consumer/_schemas").mkdir()
    assert schema_folder() == tmp_path / "consumer/_schemas"


def test_writer_schemas_are_ours_and_those_below_a_further_folder(tmp_path: Path) -> None:
    """At any depth, and other files are left alone."""
    assert load_writer_schemas() == [SCHEMA]
    later = {**SCHEMA, "fields": [*SCHEMA["fields"], {"name": "note", "type": ["null", "string"], "default": None}]}
    (tmp_path / "deep/er").mkdir(parents=True)
    (tmp_path / "deep/er/later.avsc").write_text(json.dumps(later))
    (tmp_path / "deep/notes.txt").write_text("no schema")
    assert load_writer_schemas(tmp_path) == [SCHEMA, later]


def test_examples_show_both_targets() -> None:
    """The document's "external service name or client name"."""
    assert {example["change"]["target"]["type"] for example in EXAMPLES if "target" in example["change"]} == set(TARGETS)


BAD = {
    "not JSON": "{",
    "not UTF-8": b"\xff\xfe\x00",
    "not an object": "[]",
    "not a schema": "{}",
    "unknown type": '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "strng"}]}',
    "contains itself": '{"type": "record", "name": "R", "fields": [{"name": "a", "type": ["null", "R"]}]}',
    "another record": '{"type": "record", "name": "R", "fields": [{"name": "a", "type": "string"}]}',
    "bad name": '{"type": "record", "name": "0 bad", "fields": [{"name": "a", "type": "string"}]}',
}


@pytest.mark.parametrize("content", BAD.values(), ids=BAD.keys())
def test_a_bad_file_is_named(tmp_path: Path, content: str | bytes) -> None:
    """Whoever put it there must find it."""
    path = tmp_path / "bad.avsc"
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ValueError, match=r"bad\.avsc: "):
        load_writer_schemas(tmp_path)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    """A mistyped AUDIT_SCHEMA_DIR must not pass for an empty one."""
    with pytest.raises(ValueError, match="nowhere is not a folder"):
        load_writer_schemas(tmp_path / "nowhere")
