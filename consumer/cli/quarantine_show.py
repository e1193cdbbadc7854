"""Everything about one quarantined message, for people and for machines."""

import json
from base64 import b64decode, b64encode
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import click

from consumer.cli.exit_codes import CommandError
from consumer.cli.hexdump import hexdump
from consumer.cli.output import plain
from consumer.cli.wiring import learn_all, make_decoder, make_learning, now_micros
from consumer.core.clock import kept_range
from consumer.core.decoding import Decoder, schema_fingerprint
from consumer.core.errors import Rejected
from consumer.core.events import AuditRecord
from consumer.core.explaining import Explanation, explain, with_verdict
from consumer.core.framing import Headers
from consumer.operations.quarantine import judge
from consumer.postgres.settlement import StoredMessage
from consumer.schemas import event_schema, load_writer_schemas
from consumer.settings import Settings

_SHOWN = 200
"""Characters of a field's value that people see; --json has it whole."""


class Shown(NamedTuple):
    """One message, and what is known of it."""

    row: Mapping[str, Any]
    explanation: Explanation
    verdict: AuditRecord | Rejected  # of decoding and mapping, today
    history: Sequence[Mapping[str, Any]]
    registry: str | None  # why it could not be asked


def print_shown(settings: Settings, row: Mapping[str, Any], history: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    """Prints the row, what can be read of it with the schemas of these settings, and its history."""
    decoder = make_decoder(settings)
    known: list[Mapping[str, Any]] = [event_schema(), *load_writer_schemas(settings.schema_dir)]
    schemas = {schema_fingerprint(schema): schema for schema in known}
    headers = [(name, None if content is None else b64decode(content)) for name, content in row["headers"] or ()]
    registry = None
    if settings.schema_registry_url is not None:
        registry = _learn(settings, decoder, row, headers)
        schemas.update(decoder.named_schemas())
    verdict = judge(decoder, row["value"], kept_range(now_micros(), settings.retention), headers)
    explanation = explain(row["value"] or b"", schemas, headers if settings.schema_registry_url is not None else None)
    if isinstance(verdict, Rejected):
        explanation = with_verdict(explanation, verdict)
    shown = Shown(row, explanation, verdict, history, registry)
    if as_json:
        click.echo(_json(shown))
        return
    for line in _text(shown):
        click.echo(plain(line))


def _learn(settings: Settings, decoder: Decoder, row: Mapping[str, Any], headers: Headers) -> str | None:
    """Asks the registry for the message's schema. Without its answer there is still much to show, so a failure is but told."""
    place = (row["kafka_topic"], row["kafka_topic_id"], row["kafka_partition"], row["kafka_offset"])
    message = StoredMessage(row["id"], place, (row["key"], row["value"], list(headers)))
    try:
        learn_all(make_learning(settings, decoder, lambda *_, **__: None), [message])
    except CommandError as error:
        return str(error)
    return None


def machine(value: Any) -> Any:
    """A value as JSON takes it: bytes in base64, times in UTC."""
    if isinstance(value, bytes):
        return b64encode(value).decode()
    return _moment(value) if isinstance(value, datetime) else value


def _moment(value: datetime) -> str:
    return value.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _json(shown: Shown) -> str:
    row, explanation = shown.row, shown.explanation
    place = None
    if explanation.error is not None:
        first, end = explanation.mark or (None, None)
        place = {"first_byte": first, "end_byte": end, "field": explanation.path, "error": explanation.error}
    decoding = {
        "framing": explanation.framing,
        "schema": explanation.schema,
        "schema_known": explanation.known,
        "fields": [
            {"path": field.path, "first_byte": field.span[0], "end_byte": field.span[1], "value": machine(field.value)}
            for field in explanation.fields
        ],
        "stops": place,
        "registry_failure": shown.registry,
    }
    if isinstance(shown.verdict, Rejected):
        verdict = {"reason": shown.verdict.reason.value, "error": shown.verdict.error}
    else:
        verdict = {"action": shown.verdict.action}
    return json.dumps(
        {**{name: machine(value) for name, value in row.items()}, "decoding": decoding, "today": verdict}
        | {"history": [{name: machine(value) for name, value in entry.items()} for entry in shown.history]}
    )


def _text(shown: Shown) -> Iterator[str]:
    row, value = shown.row, shown.row["value"] or b""
    place = f"{row['kafka_topic']}, partition {row['kafka_partition']}, offset {row['kafka_offset']}"
    yield f"message      {row['id']}"
    yield f"place        {place} (topic id {row['kafka_topic_id']})"
    yield f"quarantined  {_moment(row['quarantined_at'])}"
    yield f"reason       {row['reason']}: {row['error']}"
    yield f"status       {row['status']}" + (f", {_moment(row['resolved_at'])} by {row['resolved_by']}" if row["resolved_at"] else "")
    yield f"key          {_person(row['key'])}"
    for name, content in row["headers"] or ():
        yield f"header       {name}: {_person(None if content is None else b64decode(content))}"
    yield from _decoded(shown)
    yield f"value        {len(value)} bytes" + (", > marks the place" if shown.explanation.mark else "")
    for line in hexdump(value, shown.explanation.mark):
        yield f"  {line}"
    for entry in shown.history:
        said = ", ".join(entry[name] for name in ("outcome", "note") if entry[name])
        yield f"history      {_moment(entry['at'])} {entry['action']} by {entry['who']} (database role {entry['database_role']}): {said}"


def _decoded(shown: Shown) -> Iterator[str]:
    explanation, verdict = shown.explanation, shown.verdict
    schema = "" if explanation.schema is None else f", schema {explanation.schema} ({'known' if explanation.known else 'not known'})"
    if shown.registry is not None:
        yield f"registry     could not be asked: {shown.registry}"
    yield f"framing      {explanation.framing}{schema}"
    width = max((len(field.path) for field in explanation.fields), default=0)
    for field in explanation.fields:
        yield f"  {field.span[0]:>6}  {field.path:<{width}}  {_person(field.value)}"
    if explanation.error is not None:
        yield f"stops        {explanation.error}" + (f" (in {explanation.path})" if explanation.path else "")
    if isinstance(verdict, Rejected):
        yield f"today        still {verdict.reason.value}: {verdict.error}"
    else:
        yield f"today        can be read: {verdict.action}"


def _person(value: Any) -> str:
    if isinstance(value, bytes):
        value = value.decode("ascii") if value.isascii() and value.decode("ascii").isprintable() else f"0x{value.hex()}"
    text = "null" if value is None else str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}… ({len(text)} characters)"
