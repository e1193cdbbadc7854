"""ChangeEvent → AuditRecord, by the table of the documented actions."""

from collections.abc import Callable, Mapping
from operator import itemgetter
from typing import Any

from consumer.core.actions import BY_CHANGE, NOBODY, RESULTS, SERVICE, TARGETS, Action, Kind
from consumer.core.avro_values import MAX_ALTERED
from consumer.core.canonical import ESCAPED_NUL, address_text, canonical_json, content_hash, is_uuid, quote, storable_text, timestamp_text
from consumer.core.errors import Reason, Rejected
from consumer.core.events import AuditRecord, ChangeEvent

# A named tuple's own constructor binds each field by its name, which takes three times as long.
_record: Callable[[type[AuditRecord], tuple[Any, ...]], AuditRecord] = tuple.__new__


def audit_record(event: ChangeEvent, source: bytes) -> AuditRecord:
    """The record of the documented log for this event; `source` is the raw message it came from.

    NUL and lone surrogates, which PostgreSQL can't store, are written as the six visible characters of their JSON escape, and the record
    then carries the raw message: such an event must not be able to hide from the log. Not in a message of more than MAX_ALTERED bytes.

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
    if len(source) > MAX_ALTERED and _holds_nul(event):  # the reader refuses what is no UTF-8 in such a message
        raise Rejected(Reason.INVALID_EVENT, f"a text holds NUL, in a message of more than {MAX_ALTERED} bytes")
    items = _items(action, event, result)
    canonical = canonical_json(items)
    # One look at the whole text instead of one at every field: NUL always shows as its escape here.
    if ESCAPED_NUL not in canonical:
        try:
            return _record(AuditRecord, (*items, content_hash(canonical.encode()), None))
        except UnicodeEncodeError:  # a lone surrogate
            pass
    altered = _storable(event)
    if altered == event:  # the visible text \u0000 is no NUL
        return _record(AuditRecord, (*items, content_hash(canonical.encode()), None))
    items = _items(action, altered, result)
    return _record(AuditRecord, (*items, content_hash(canonical_json(items).encode()), source))


def _items(action: Action, event: ChangeEvent, result: str) -> tuple[Any, ...]:
    """What is hashed of a record, in the canonical order."""
    event_id, occurred_at, tenant, actor, address, _, error_code, _, change = event
    subject = action.subject_type
    if subject is None:
        variant, target = change["target"]
        subject = TARGETS.get(variant.rpartition(".")[2])
        if subject is None:
            raise Rejected(Reason.UNMAPPED_CHANGE, "this version knows no target of the change's kind")
        # The scopes stand beside the target.
        change = {**change, **target} if len(action.complement) > len(target) else target
    if address is not None:
        try:
            address = address_text(address)
        except ValueError:
            raise Rejected(Reason.INVALID_EVENT, "source_ip is not an IP address") from None
    return (
        event_id.lower(),
        occurred_at,
        tenant,
        action.level,
        SERVICE,
        NOBODY if actor is None else actor,
        action.module,
        action.name,
        result,
        error_code,
        complement_json(action, change),
        subject,
        address,
    )


def complement_json(action: Action, change: Mapping[str, Any]) -> str:
    """The Complement as canonical JSON text, keys in the documented order."""
    write = _COMPLEMENT.get(action.change_type)
    if write is None:
        write = _COMPLEMENT[action.change_type] = _complement(action)
    return write(change)


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


def _complement(action: Action) -> Callable[[Mapping[str, Any]], str]:
    """How the action's Complement is written, worked out once from the table."""
    template = "{" + ",".join(f'"{item.key}":%s' for item in action.complement) + "}"
    if len(action.complement) > 1 and all(item.kind is Kind.TEXT for item in action.complement):  # most are: without a loop of our own
        texts = itemgetter(*(item.field for item in action.complement))
        return lambda change: template % tuple(map(quote, texts(change)))
    writes = [(_WRITE[item.kind], item.field) for item in action.complement]
    return lambda change: template % tuple([write(change[field]) for write, field in writes])


_COMPLEMENT: dict[str, Callable[[Mapping[str, Any]], str]] = {}


def _holds_nul(value: Any) -> bool:
    """Whether a text at any depth does."""
    match value:
        case str():
            return "\x00" in value
        case tuple() | list():
            return any(map(_holds_nul, value))
        case dict():
            return any(map(_holds_nul, value.values()))
        case _:
            return False


def _storable(value: Any) -> Any:
    """The same value with NUL and surrogates made visible, at any depth."""
    match value:
        case str():
            return storable_text(value)
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
