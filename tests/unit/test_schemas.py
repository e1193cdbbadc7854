"""What producers rely on in `schemas/`, and what the README says."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.core.actions import ACTIONS
from consumer.core.event_json import EventJsonError
from consumer.core.mapping import audit_record
from consumer.core.samples import sample_events
from consumer.schemas import event_schema, load_writer_schemas, schema_folder
from consumer.settings import settings_table
from tests.bed.events import ENCODER, decoder, event

ROOT = Path(__file__).parents[2]
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
