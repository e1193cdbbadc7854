"""Rows of the log as records again: what is stored, and what its hash should be."""

from collections.abc import Mapping
from functools import lru_cache
from json import JSONEncoder, loads
from typing import Any, NamedTuple

from consumer.core.actions import ACTIONS, Kind
from consumer.core.canonical import address_text, canonical_json, content_hash, quote
from consumer.core.events import AuditRecord

_ITEMS = {action.name: action.complement for action in ACTIONS}
_PERIOD = ("start", "end")
_FULL = {4: "32", 6: "128"}
_dumps = JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


class StoredRow(NamedTuple):
    """A row of the log, and what the ledger says of its event."""

    offset: int
    record: AuditRecord  # as the columns say; the hash is the stored one
    true_hash: bytes  # of the columns
    ledger_hash: bytes | None  # None: the ledger does not know the event
    same_time: bool  # whether the ledger has its time


def stored_row(offset: int, items: tuple[Any, ...], ledger_hash: bytes | None, same_time: bool) -> StoredRow:
    """A row out of its columns.

    Args:
        offset: its place in the partition.
        items: the columns of AuditRecord, in its order: occurred_at in microseconds since 1970, complement as the text of any JSON,
            source_ip with its network's bits (`192.0.2.7/32`).
        ledger_hash: the ledger's content_hash.
        same_time: whether the ledger's occurred_at is the row's.
    """
    record = AuditRecord(*items)
    address = None if record.source_ip is None else _address(record.source_ip)
    record = record._replace(complement=_complement(record.action, record.complement), source_ip=address)
    return StoredRow(offset, record, content_hash(canonical_json(record[:13]).encode()), ledger_hash, same_time)


def differing(row: AuditRecord, record: AuditRecord) -> tuple[str, ...]:
    """The columns in which the row is not the record."""
    names = [name for name, stored, true in zip(AuditRecord._fields, row, record, strict=True) if stored != true]
    if "complement" in names and "action" in names and loads(row.complement) == loads(record.complement):
        names.remove("complement")  # only its order is that of another action
    return tuple(names)


def _complement(action: str, text: str) -> str:
    """The canonical text: jsonb keeps no key order, the canonical form has one. What fits no action stays, and then fits no hash."""
    try:
        value = loads(text)
    except (ValueError, RecursionError):
        return text
    items = _ITEMS.get(action, ())
    if not isinstance(value, dict) or value.keys() != {item.key for item in items}:
        return text
    return "{" + ",".join([f'"{key}":{_json(_period(value[key]) if kind is Kind.PERIOD else value[key])}' for key, _, kind in items]) + "}"


def _json(value: Any) -> str:
    return quote(value) if isinstance(value, str) else _dumps(value)  # the encoder is slow to start


def _period(value: Any) -> Any:
    if isinstance(value, Mapping) and value.keys() == set(_PERIOD):
        return {key: value[key] for key in _PERIOD}
    return value


@lru_cache(maxsize=4096)
def _address(text: str) -> str:
    """The address in the form that is hashed; one with a network, which no event has, stays as it is."""
    address, _, bits = text.partition("/")
    return address_text(address) if bits == _FULL[6 if ":" in address else 4] else text
