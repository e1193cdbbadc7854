"""ChangeEvent → AuditRecord, by the table of the documented actions."""

import re
from collections.abc import Callable, Mapping
from typing import Any

from consumer.core.actions import BY_CHANGE, NOBODY, RESULTS, SERVICE, TARGETS, Action, Kind
from consumer.core.canonical import address_text, canonical_json, content_hash, is_uuid, quote, timestamp_text
from consumer.core.errors import Reason, Rejected
from consumer.core.events import AuditRecord, ChangeEvent

_SURROGATE = re.compile("[\ud800-\udfff]")
_ESCAPED_NUL = "\\u0000"


def audit_record(event: ChangeEvent, source: bytes) -> AuditRecord:
    """The record of the documented log for this event; `source` is the raw message it came from.

    NUL and lone surrogates, which PostgreSQL can't store, are written as the six visible characters of their JSON escape, and the record
    then carries the raw message: such an event must not be able to hide from the log.

    Raises:
        Rejected: `unmapped change` or `invalid event`; the text names the field, never its value.
    """
    action = BY_CHANGE.get(event.change_type)
    if action is None:
        raise Rejected(Reason.UNMAPPED_CHANGE, "this version knows no action for the change type")
    if not is_uuid(event.event_id):
        raise Rejected(Reason.INVALID_EVENT, "event_id is not a UUID in its 36-character form")
    result = RESULTS.get(event.result)
    if result is None:
        raise Rejected(Reason.INVALID_EVENT, "result is none of the known symbols")
    record, canonical = _render(action, event, result, None)
    # One look at the whole text instead of one at every field: NUL always shows as its escape here.
    if _ESCAPED_NUL not in canonical:
        try:
            return record._replace(content_hash=content_hash(canonical.encode()))
        except UnicodeEncodeError:
            pass
    altered = _storable(event)
    if altered == event:  # the visible text \u0000 is no NUL
        return record._replace(content_hash=content_hash(canonical.encode()))
    record, canonical = _render(action, altered, result, source)
    return record._replace(content_hash=content_hash(canonical.encode()))


def _render(action: Action, event: ChangeEvent, result: str, source: bytes | None) -> tuple[AuditRecord, str]:
    subject = action.subject_type
    change = event.change
    if subject is None:
        variant, change = change["target"]
        subject = TARGETS.get(variant.rpartition(".")[2])
        if subject is None:
            raise Rejected(Reason.UNMAPPED_CHANGE, "this version knows no target of the change's kind")
        if len(action.complement) > len(change):  # the scopes stand beside the target
            change = {**event.change, **change}
    complement = complement_json(action, change)
    address = event.source_ip
    if address is not None:
        try:
            address = address_text(address)
        except ValueError:
            raise Rejected(Reason.INVALID_EVENT, "source_ip is not an IP address") from None
    items = (
        event.event_id.lower(),
        event.occurred_at,
        event.tenant,
        action.level,
        SERVICE,
        NOBODY if event.actor is None else event.actor,
        action.module,
        action.name,
        result,
        event.error_code,
        complement,
        subject,
        address,
    )
    return AuditRecord(*items, b"", source), canonical_json(*items)


def complement_json(action: Action, change: Mapping[str, Any]) -> str:
    """The Complement as canonical JSON text, keys in the documented order."""
    return "{" + ",".join([f'"{key}":{_WRITE[kind](change[field])}' for key, field, kind in action.complement]) + "}"


def _texts(values: list[str]) -> str:
    return "[" + ",".join(map(quote, values)) + "]"


def _moment(micros: int | None) -> str:
    if micros is None:
        return "null"
    try:
        return f'"{timestamp_text(micros)}"'
    except OverflowError:
        raise Rejected(Reason.INVALID_EVENT, "validity holds a time outside the years 1 to 9999") from None


def _period(period: Mapping[str, int | None]) -> str:
    return f'{{"start":{_moment(period["start"])},"end":{_moment(period["end"])}}}'


def _switch(enabled: bool) -> str:
    return '"Enable"' if enabled else '"Disable"'


_WRITE: dict[Kind, Callable[[Any], str]] = {
    Kind.TEXT: quote,
    Kind.TEXTS: _texts,
    Kind.PERIOD: _period,
    Kind.SWITCH: _switch,
}


def _storable(value: Any) -> Any:
    """The same value with NUL and surrogates made visible, at any depth."""
    match value:
        case str():
            return _SURROGATE.sub(lambda found: f"\\u{ord(found[0]):04x}", value.replace("\x00", _ESCAPED_NUL))
        case ChangeEvent():
            return ChangeEvent(*map(_storable, value))
        case tuple():
            return tuple(map(_storable, value))
        case list():
            return [_storable(item) for item in value]
        case dict():
            return {key: _storable(item) for key, item in value.items()}
        case _:
            return value
