"""No version of `schemas/` breaks an earlier one; and the check itself sees what would."""

import hashlib
import json
from collections.abc import Callable, Mapping
from copy import deepcopy
from itertools import combinations
from typing import Any

import pytest

from consumer.core.decoding import EVENT, schema_fingerprint
from consumer.schemas import event_schema, schema_folder
from tests.bed.compatibility import breaks
from tests.bed.evolution import writer_schema

V1 = event_schema()
VERSIONS = sorted(schema_folder().glob("v*/IntegrationChangeEvent.avsc"), key=lambda path: int(path.parent.name[1:]))
SCHEMAS = {path.parent.name: json.loads(path.read_text()) for path in VERSIONS}

PUBLISHED = {"v1": "33173e71d34474b6f3cf186b531b61afed6168a1ee9ad9e561c23b69d62c05b5"}
"""The SHA-256 of every published file. A new version gets a line here; a line never changes."""

NEW_ON_PURPOSE = ("change: no ", "result: no ")
"""What an older reader may fail at: a new change type or result, whose messages wait in quarantine for its upgrade."""


def test_published_files_never_change() -> None:
    """Not even in what the fingerprint leaves out, such as defaults; and none goes."""
    assert {path.parent.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in VERSIONS} == PUBLISHED


def test_the_readme_has_every_fingerprint() -> None:
    """Where producers look."""
    readme = (schema_folder() / "README.md").read_text()
    for name, schema in SCHEMAS.items():
        assert f"| `{name}` | `{schema_fingerprint(schema).hex()}` |" in readme


def incompatible(versions: Mapping[str, dict[str, Any]]) -> list[str]:
    """What breaks between any two versions, the earlier ones first: consumers can go first, and one that goes late loses nothing."""
    found = []
    for older, newer in combinations(versions, 2):
        found += [f"{newer} reads {older}: {each}" for each in breaks(versions[older], versions[newer])]
        late = breaks(versions[newer], versions[older])
        found += [f"{older} reads {newer}: {each}" for each in late if not each.startswith(NEW_ON_PURPOSE)]
    return found


def test_no_version_breaks_an_earlier_one() -> None:
    """Nor a later one."""
    assert incompatible(SCHEMAS) == []


def test_every_pair_of_versions_is_looked_at() -> None:
    """A history that was invented: the third version takes back what the second one brought, and asks for something new."""
    second = writer_schema("newer-with-eleventh-change")
    third = {**V1, "fields": [*V1["fields"], {"name": "new", "type": "string"}]}
    assert incompatible({"v1": V1, "v2": second}) == []
    assert incompatible({"v1": V1, "v2": second, "v3": third}) == [
        "v3 reads v1: new: missing",
        "v3 reads v2: change: no WebhookAdded",
        "v3 reads v2: new: missing",
    ]


def test_every_version_is_the_event_and_reads_itself() -> None:
    """Under its one name."""
    assert SCHEMAS
    for schema in SCHEMAS.values():
        assert f"{schema['namespace']}.{schema['name']}" == EVENT
        assert breaks(schema, schema) == []


def _field(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return next(field for field in schema["fields"] if field["name"] == name)


def _change(schema: dict[str, Any], name: str) -> dict[str, Any]:
    return next(branch for branch in _field(schema, "change")["type"] if branch["name"] == name)


BREAKING: dict[str, tuple[Callable[[dict[str, Any]], Any], str]] = {
    "a required field more": (lambda s: s["fields"].append({"name": "new", "type": "string"}), "new: missing"),
    "a required field more in a change": (
        lambda s: _change(s, "ApiTokenDeleted")["fields"].append({"name": "new", "type": "long"}),
        "change.new: missing",
    ),
    "a field renamed": (lambda s: _field(s, "tenant").update(name="customer"), "customer: missing"),
    "a change renamed": (lambda s: _change(s, "SlackSettingUpdated").update(name="Other"), "change: no SlackSettingUpdated"),
    "a change removed": (lambda s: _field(s, "change")["type"].pop(), "change: no IntegrationAuthorized"),
    "a symbol removed": (lambda s: _field(s, "result")["type"]["symbols"].pop(), "result: no VALIDATION_ERROR"),
    "a type narrowed": (lambda s: _field(s, "occurred_at").update(type="int"), "occurred_at: another type"),
    "another type": (lambda s: _field(s, "tenant").update(type="long"), "tenant: another type"),
    "null taken away": (lambda s: _field(s, "actor").update(type="string"), "actor: another type"),
    "an item's type": (
        lambda s: _change(s, "IntegrationAuthorized")["fields"][1]["type"].update(items="long"),
        "change.scopes: another type",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("edit", "place"), BREAKING.values(), ids=BREAKING.keys())
def test_a_breaking_change_is_found(edit: Callable[[dict[str, Any]], Any], place: str) -> None:
    """By the place where it breaks."""
    newer = deepcopy(V1)
    edit(newer)
    assert place in breaks(V1, newer)


@pytest.mark.parametrize(
    ("writer", "reader", "found"),
    [
        ("older-without-optional-fields", None, []),
        ("newer-with-unknown-fields", None, []),
        ("promoted-types", None, []),
        ("reordered-unions", None, []),
        ("newer-with-eleventh-change", None, ["change: no WebhookAdded"]),
        ("newer-with-symbol", None, ["result: no TIMED_OUT"]),
        ("renamed", None, ["change.token_id: missing", "change: no SlackSettingChanged", "tenant: missing"]),
        ("renamed", "renamed-reader", []),
        (None, "older-without-optional-fields", []),
        (None, "newer-with-unknown-fields", []),
        (None, "newer-with-eleventh-change", []),
        (None, "newer-with-symbol", []),
        (None, "renamed-reader", []),
    ],
)
def test_the_worked_examples(writer: str | None, reader: str | None, found: list[str]) -> None:
    """None stands for v1."""
    assert breaks(writer_schema(writer) if writer else V1, writer_schema(reader) if reader else V1) == found
