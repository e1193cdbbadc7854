"""A row of the log as people and machines read it: the Complement's text, times in a zone, cells that no spreadsheet runs."""

import json
import re
from collections.abc import Callable, Mapping
from datetime import datetime, tzinfo
from typing import Any, NamedTuple

from consumer.core.actions import BY_NAME, Kind

HEADINGS = (
    "Date and time", "Tenant", "Level", "Service", "User", "Module", "Action", "Result", "Error code", "Complement", "Source IP",
    "Event ID",
)  # fmt: skip
"""Of `cells`: the documented items in the document's order, and whose log it is, and which event."""

# The wide forms too, which some spreadsheets take for the narrow, and blanks before, which some take away. The apostrophes in front make it
# reversible: whatever fits has one more than it had.
_RUNS = re.compile(r"'*([\t\r\n]|\s*[-=+@＝＋－＠])")  # noqa: RUF001
_UNLIMITED = "unlimited"


class StoredRecord(NamedTuple):
    """A row of `audit.audit_log`, in the order of `consumer.postgres.log.COLUMNS`."""

    event_id: str
    occurred_at: datetime
    tenant: str
    level: str
    service: str
    login_name: str
    module: str
    action: str
    result: str
    error_code: str | None
    complement: Mapping[str, Any]
    subject_type: str
    source_ip: str | None
    kafka_topic: str
    kafka_partition: int
    kafka_offset: int
    content_hash: str  # hexadecimal
    recorded_at: datetime


def cells(record: StoredRecord, zone: tzinfo) -> tuple[str, ...]:
    """The documented items as texts, under HEADINGS."""
    return (
        time_text(record.occurred_at, zone),
        record.tenant,
        record.level,
        record.service,
        record.login_name,
        record.module,
        record.action,
        record.result,
        record.error_code or "",
        complement_text(record.action, record.complement),
        record.source_ip or "",
        record.event_id,
    )


def as_object(record: StoredRecord, zone: tzinfo) -> dict[str, Any]:
    """Every column by its name, for JSON; the Complement in the documented order, which jsonb does not keep."""
    found = record._asdict()
    found["complement"] = ordered(record.action, record.complement)
    for name in ("occurred_at", "recorded_at"):
        found[name] = time_text(found[name], zone)
    return found


def ordered(action: str, complement: Mapping[str, Any]) -> dict[str, Any]:
    """The Complement in the documented order; what the document does not know comes last."""
    known = BY_NAME[action].items if action in BY_NAME else ()
    keys = [key for key in known if key in complement] + sorted(complement.keys() - set(known))
    found = {key: complement[key] for key in keys}
    period = found.get("validity_period")
    if isinstance(period, dict) and period.keys() == {"start", "end"}:
        found["validity_period"] = {"start": period["start"], "end": period["end"]}
    return found


def complement_text(action: str, complement: Mapping[str, Any]) -> str:
    """The Complement as one text, by the table of the actions; as JSON where it is not as that table says."""
    known = BY_NAME.get(action)
    if known is None or complement.keys() != set(known.items):
        return json.dumps(ordered(action, complement), ensure_ascii=False)
    try:
        # What an event says comes in as an argument only, never as the template.
        return known.text.format_map({item.key: _SAY[item.kind](complement[item.key]) for item in known.complement})
    except (TypeError, KeyError):
        return json.dumps(ordered(action, complement), ensure_ascii=False)


def time_text(moment: datetime, zone: tzinfo) -> str:
    """ISO 8601 with microseconds and the zone's offset; `Z` in UTC."""
    return moment.astimezone(zone).isoformat(timespec="microseconds").replace("+00:00", "Z")


def harmless(cell: str) -> str:
    """The cell for a CSV: an apostrophe before what a spreadsheet would run as a formula."""
    return f"'{cell}" if _RUNS.match(cell) else cell


def _texts(values: list[str]) -> str:
    return f"[{', '.join(values)}]"


def _period(period: Mapping[str, str | None]) -> str:
    return f"{period['start'] or _UNLIMITED} to {period['end'] or _UNLIMITED}"


_SAY: dict[Kind, Callable[[Any], str]] = {Kind.TEXT: str, Kind.TEXTS: _texts, Kind.PERIOD: _period, Kind.SWITCH: str}
