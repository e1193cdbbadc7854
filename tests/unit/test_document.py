"""The document's facts, held a second time and independently of the code."""

from typing import Any

import pytest

from consumer.core.actions import ACTIONS
from consumer.core.mapping import audit_record
from tests.bed.events import decoder, message_value

CLIENT = {"client_name": "Reporting", "client_id": "c-1"}
SERVICE = {"type": "ExternalService", "name": "Box", "id": "s-1"}
TARGET = {"type": "OAuthClient", "name": "Reporting", "id": "c-1"}
TOKEN = {"token_id": "7", "scope": ["Read"], "validity": {"start": "2026-11-20T09:00:00Z", "end": None}}
ADMIN = ("Notice", "System administration")
NAMED = '{"name":"Reporting","id":"c-1"}'
NAMED_SERVICE = '{"name":"Box","id":"s-1"}'
NAMED_CLIENT = '{"client_name":"Reporting","client_id":"c-1"}'

# change, its fields, (level, module), action, Complement, subject
FACTS: list[tuple[str, dict[str, Any], tuple[str, str], str, str, str]] = [
    ("OAuthClientAdded", CLIENT, ADMIN, "add oauth client", NAMED_CLIENT, "OAuth client"),
    ("OAuthClientDeleted", CLIENT, ADMIN, "delete oauth client", NAMED_CLIENT, "OAuth client"),
    ("OAuthClientUpdated", CLIENT, ADMIN, "update oauth client", NAMED_CLIENT, "OAuth client"),
    ("IntegrationDisabled", {"target": SERVICE}, ADMIN, "disable integration", NAMED_SERVICE, "external service"),
    ("IntegrationDisabled", {"target": TARGET}, ADMIN, "disable integration", NAMED, "OAuth client"),
    ("IntegrationEnabled", {"target": SERVICE}, ADMIN, "enable integration", NAMED_SERVICE, "external service"),
    ("IntegrationEnabled", {"target": TARGET}, ADMIN, "enable integration", NAMED, "OAuth client"),
    ("PermittedUsersUpdated", {"target": SERVICE}, ADMIN, "update permitted users", NAMED_SERVICE, "external service"),
    ("PermittedUsersUpdated", {"target": TARGET}, ADMIN, "update permitted users", NAMED, "OAuth client"),
    ("SlackSettingUpdated", {"enabled": True}, ADMIN, "update slack setting", '{"status":"Enable"}', "Slack"),
    ("SlackSettingUpdated", {"enabled": False}, ADMIN, "update slack setting", '{"status":"Disable"}', "Slack"),
    (
        "ApiTokenGenerated",
        TOKEN,
        ADMIN,
        "generate API token",
        '{"id":"7","scope":["Read"],"validity_period":{"start":"2026-11-20T09:00:00Z","end":null}}',
        "API token",
    ),
    ("ApiTokenDeleted", {"token_id": "7"}, ADMIN, "delete API token", '{"id":"7"}', "API token"),
    (
        "IntegrationAuthorized",
        {"target": SERVICE, "scopes": ["k:file:write", "k:app_record:read"]},
        ("Information", "Integrations"),
        "authorize integration",
        '{"name":"Box","id":"s-1","scopes":["k:file:write","k:app_record:read"]}',
        "external service",
    ),
    (
        "IntegrationAuthorized",
        {"target": TARGET, "scopes": []},
        ("Information", "Integrations"),
        "authorize integration",
        '{"name":"Reporting","id":"c-1","scopes":[]}',
        "OAuth client",
    ),
]


@pytest.mark.parametrize(("change", "fields", "place", "action", "complement", "subject"), FACTS)
def test_action(change: str, fields: dict[str, Any], place: tuple[str, str], action: str, complement: str, subject: str) -> None:
    """Each change becomes the documented action, with exactly the documented Complement."""
    value = message_value({"type": change, **fields})
    record = audit_record(decoder().decode(value), value)
    assert (record.level, record.module) == place
    assert record.service == "Common"
    assert record.action == action
    assert record.complement == complement
    assert record.subject_type == subject


def test_the_table_holds_ten_actions_and_no_other() -> None:
    """The document lists ten."""
    assert {action.name for action in ACTIONS} == {action for _, _, _, action, _, _ in FACTS}
    assert len(ACTIONS) == 10


def test_nobody_and_results() -> None:
    """An absent actor is nobody; VALIDATION ERROR has a space."""
    value = message_value(actor=None, result="VALIDATION_ERROR", error_code="CB_NO02")
    record = audit_record(decoder().decode(value), value)
    assert (record.login_name, record.result, record.error_code) == ("nobody", "VALIDATION ERROR", "CB_NO02")
