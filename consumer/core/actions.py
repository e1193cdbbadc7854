"""The documented actions as one table: the only place that knows them (document "Settings for integrations")."""

from enum import Enum
from typing import NamedTuple

SERVICE = "Common"
NOBODY = "nobody"
NOTICE = "Notice"
INFORMATION = "Information"
SYSTEM_ADMINISTRATION = "System administration"
INTEGRATIONS = "Integrations"

OAUTH_CLIENT = "OAuth client"
EXTERNAL_SERVICE = "external service"
API_TOKEN = "API token"  # noqa: S105 - a word of the document
SLACK = "Slack"

RESULTS = {"SUCCESS": "SUCCESS", "FAILED": "FAILED", "VALIDATION_ERROR": "VALIDATION ERROR"}
"""Symbol of the schema's `Result` → text of the record."""

TARGETS = {"ExternalService": EXTERNAL_SERVICE, "OAuthClient": OAUTH_CLIENT}
"""Record in the union `target` → the record's `subject_type`."""


class Kind(Enum):
    """How a field of the change is written in the Complement."""

    TEXT = "text"
    TEXTS = "list of texts"
    PERIOD = "period"  # start and end, null is unlimited
    SWITCH = "Enable or Disable"


class Item(NamedTuple):
    """One item of a Complement: its key, the change's field it is taken from, and how it is written."""

    key: str
    field: str
    kind: Kind = Kind.TEXT


class Action(NamedTuple):
    """A documented action."""

    change_type: str  # the schema's record
    name: str  # the action, to the letter
    done: str  # what was done, in our words
    complement: tuple[Item, ...]  # in the canonical order
    subject_type: str | None  # None: the record in the field `target` says it
    text: str  # how the Complement is read out: keys in braces, lists as [a, b]
    level: str = NOTICE
    module: str = SYSTEM_ADMINISTRATION

    @property
    def items(self) -> tuple[str, ...]:
        """The Complement's keys, in their order."""
        return tuple(item.key for item in self.complement)


_CLIENT = (Item("client_name", "client_name"), Item("client_id", "client_id"))
_TARGET = (Item("name", "name"), Item("id", "id"))
_CLIENT_TEXT = "{client_name} (id: {client_id})"
_TARGET_TEXT = "{name} (id: {id})"
_TOKEN = (
    Item("id", "token_id"),
    Item("scope", "scope", Kind.TEXTS),
    Item("validity_period", "validity", Kind.PERIOD),
)

ACTIONS: tuple[Action, ...] = (
    Action("OAuthClientAdded", "add oauth client", "An OAuth client was added", _CLIENT, OAUTH_CLIENT, _CLIENT_TEXT),
    Action("OAuthClientDeleted", "delete oauth client", "An OAuth client was deleted", _CLIENT, OAUTH_CLIENT, _CLIENT_TEXT),
    Action(
        "IntegrationDisabled",
        "disable integration",
        "An integration with an external service, or an OAuth client, was disabled",
        _TARGET,
        None,
        _TARGET_TEXT,
    ),
    Action(
        "IntegrationEnabled",
        "enable integration",
        "An integration with an external service, or an OAuth client, was enabled",
        _TARGET,
        None,
        _TARGET_TEXT,
    ),
    Action(
        "OAuthClientUpdated",
        "update oauth client",
        "A setting of an OAuth client was changed, such as its name or redirect endpoint",
        _CLIENT,
        OAUTH_CLIENT,
        _CLIENT_TEXT,
    ),
    Action(
        "PermittedUsersUpdated",
        "update permitted users",
        "The users who may use an integration, or an OAuth client, were changed",
        _TARGET,
        None,
        _TARGET_TEXT,
    ),
    Action(
        "SlackSettingUpdated",
        "update slack setting",
        "The Slack integration was switched on or off",
        (Item("status", "enabled", Kind.SWITCH),),
        SLACK,
        "{status}",
    ),
    Action(
        "ApiTokenGenerated",
        "generate API token",
        "An API token was generated",
        _TOKEN,
        API_TOKEN,
        "id: {id}, scope: {scope}, validity period: {validity_period}",
    ),
    Action("ApiTokenDeleted", "delete API token", "An API token was deleted", (Item("id", "token_id"),), API_TOKEN, "id: {id}"),
    Action(
        "IntegrationAuthorized",
        "authorize integration",
        "A user authorised an external service, or an OAuth client",
        (*_TARGET, Item("scopes", "scopes", Kind.TEXTS)),
        None,
        f"{_TARGET_TEXT}, scopes: {{scopes}}",
        INFORMATION,
        INTEGRATIONS,
    ),
)

BY_CHANGE: dict[str, Action] = {action.change_type: action for action in ACTIONS}
"""The action of each change record."""

BY_NAME: dict[str, Action] = {action.name: action for action in ACTIONS}
"""The same by the action's name, as a row of the log has it."""
