"""`integration-audit validate`: what the worker would do with each message, told to those who make them."""

import json
import os
from base64 import b64decode
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import click

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import plain
from consumer.cli.wiring import learn_all, make_decoder, make_learning, now_micros
from consumer.core.clock import kept_range
from consumer.core.conformance import Conformance, Outcome, Place, Verdict, no_event
from consumer.core.decoding import schema_fingerprint
from consumer.core.errors import ConfigurationError, TopicUnreadableError, TransientError
from consumer.core.event_json import EventEncoder, EventJsonError, parse_line
from consumer.core.events import Message, Partition
from consumer.core.framing import HeadedMessage
from consumer.kafka.reader import OffsetsGoneError, PartitionReader
from consumer.kafka.topics import PartitionRange, Topics
from consumer.schemas import event_schema, load_writer_schemas
from consumer.settings import Settings, load_settings

_COLUMNS = ("place", "outcome", "detail", "field", "byte", "warnings")
_AT_ONCE = 500
"""Messages that are judged together: a registry is asked once for all of them."""
_CHUNK = 4_194_304
"""Bytes of messages that are read from Kafka at once."""
_ENDINGS = (".jsonl", ".json", ".ndjson", ".b64", ".bin", ".avro")
"""Names that can only mean a file, so that a misspelt one is not looked for in Kafka."""

Item = Message | Verdict
"""A message to be judged, or the verdict on a line that is none."""


class _Given:
    """A message out of a file; a `consumer.core.events.Message` without key and headers, its offset the line."""

    def __init__(self, line: int, value: bytes) -> None:
        self._line, self._value = line, value

    def topic(self) -> None:
        """None."""

    def partition(self) -> None:
        """None."""

    def offset(self) -> int:
        """The line."""
        return self._line

    def key(self) -> None:
        """Not told."""

    def value(self) -> bytes:
        """The value's bytes."""
        return self._value

    def headers(self) -> None:
        """None."""

    def timestamp(self) -> tuple[int, int]:
        """None."""
        return 0, 0


@click.command()
@click.argument("source", metavar="FILE|TOPIC")
@click.option(
    "--format",
    "form",
    type=click.Choice(["jsonl", "base64", "binary"]),
    help="FILE holds: events as `publish` reads them (jsonl, the default), messages' values, one in base64 a line, or one as it is.",
)
@click.option("--from-beginning", is_flag=True, help="The oldest messages of TOPIC instead of the newest.")
@click.option("--limit", type=click.IntRange(min=1), metavar="N", help="At most N messages; of TOPIC 1000, if not told otherwise.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object a message, then one with the summary.")
def command(*, source: str, form: str | None, from_beginning: bool, limit: int | None, as_json: bool) -> None:
    """Say of each message of FILE (- for stdin) or TOPIC what the worker would do with it.

    Written as which action, a duplicate of an earlier one of this input, quarantined for which reason and because of which field, a
    tombstone; and what is legal but unwise. What other input has brought before, nobody knows here: no database is asked. What is told
    names fields and places, and never a value of an event.

    What is no file, and is not named like one, is a topic. It is read without a group: nothing is joined or committed; READ and DESCRIBE
    on it are enough. Set AUDIT_SCHEMA_DIR, AUDIT_SCHEMA_REGISTRY_URL, AUDIT_MAX_MESSAGE_BYTES and AUDIT_RETENTION as the workers have
    them. Exit code 0: the worker would take all; 9 (DIFFERENCES): not all.
    """
    settings = load_settings(os.environ)
    if form is not None or source == "-" or Path(source).is_file() or source.endswith(_ENDINGS) or os.sep in source:
        if from_beginning:
            raise click.UsageError("--from-beginning goes with a topic")
        items: Iterable[Item] = islice(_file(source, form or "jsonl"), limit)
    else:
        items = _topic(settings, source, limit or 1_000, from_beginning=from_beginning)
    outcomes: Counter[Outcome] = Counter()
    warnings = refused = 0
    if not as_json:
        click.echo("\t".join(_COLUMNS))
    for verdict in _judged(settings, items):
        outcomes[verdict.outcome] += 1
        warnings += len(verdict.advice)
        refused += not verdict.accepted
        click.echo(json.dumps(_machine(verdict)) if as_json else "\t".join(map(plain, _cells(verdict))))
    _print_summary(outcomes, warnings, as_json=as_json)
    if refused:
        raise click.exceptions.Exit(ExitCode.DIFFERENCES)


def _judged(settings: Settings, items: Iterable[Item]) -> Iterator[Verdict]:
    """The verdicts, in the order of the input."""
    decoder = make_decoder(settings)
    learning = make_learning(settings, decoder, lambda *_, **__: None)
    known: list[dict[str, Any]] = [event_schema(), *load_writer_schemas(settings.schema_dir)]
    files = {schema_fingerprint(schema): schema for schema in known}
    now = now_micros()
    conformance = Conformance(
        decoder,
        lambda: {**files, **decoder.named_schemas()},
        now=now,
        kept=kept_range(now, settings.retention),
        with_registry=learning is not None,
    )
    rest = iter(items)
    while batch := list(islice(rest, _AT_ONCE)):
        headed = [item if isinstance(item, Verdict) else HeadedMessage(item) for item in batch]
        learn_all(learning, [item for item in headed if isinstance(item, HeadedMessage)])
        for item in headed:
            yield item if isinstance(item, Verdict) else _judge(conformance, item)


def _judge(conformance: Conformance, message: HeadedMessage) -> Verdict:
    partition, offset = message.partition(), message.offset()
    place = Place(line=offset) if partition is None else Place(partition=partition, offset=offset)
    return conformance.judge(place, message.value(), message.schema_headers, message.key(), keyed=partition is not None)


def _file(source: str, form: str) -> Iterator[Item]:
    """The messages of a file."""
    try:
        with click.open_file(source, "rb") as file:
            if form == "binary":
                yield _Given(1, file.read())
            else:
                yield from _events(file) if form == "jsonl" else _values(file)
    except OSError as error:
        raise CommandError(f"{source}: can't be read: {error.strerror}", ExitCode.USAGE) from error


def _events(file: Iterable[bytes]) -> Iterator[Item]:
    """Events as JSON, encoded as `publish` does; on a line that it refuses the verdict is clear."""
    encoder = EventEncoder(event_schema())
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield _Given(number, encoder.encode(parse_line(line)))
            except EventJsonError as error:
                yield no_event(number, str(error))


def _values(file: Iterable[bytes]) -> Iterator[Item]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield _Given(number, b64decode(line.strip(), validate=True))
            except ValueError:
                yield no_event(number, "not base64")


def _topic(settings: Settings, topic: str, limit: int, *, from_beginning: bool) -> Iterator[Item]:
    """The oldest or newest messages of a topic: as many of each partition, and what one has less another may have more."""
    settings.require_kafka()
    try:
        topics, reader = Topics(settings.kafka_client_config(), [topic]), PartitionReader(settings.kafka_client_config())
        with closing(reader):
            ranges = topics.ranges(topics.partitions())
            for partition, share in _shares(ranges, limit).items():
                low, high = ranges[partition].low, ranges[partition].high
                first, until = (low, low + share) if from_beginning else (high - share, high)
                yield from _read(reader, partition, first, until)
    except ConfigurationError as error:
        raise CommandError(f"{error}; is {topic!r} meant to be a file?", ExitCode.KAFKA) from error
    except OffsetsGoneError as error:
        raise CommandError(f"{error}: removed by the retention while it was read; try again", ExitCode.KAFKA) from error
    except (TransientError, TopicUnreadableError) as error:
        raise CommandError(str(error), ExitCode.KAFKA) from error


def _shares(ranges: dict[Partition, PartitionRange], limit: int) -> dict[Partition, int]:
    """How many offsets of each partition."""
    shares = {}
    by_size = sorted(ranges, key=lambda each: ranges[each].high - ranges[each].low)
    for number, partition in enumerate(by_size):
        share = -(-limit // (len(by_size) - number))  # the smaller ones first, so that the rest can have more
        shares[partition] = min(share, limit, ranges[partition].high - ranges[partition].low)
        limit -= shares[partition]
    return dict(sorted(shares.items()))


def _read(reader: PartitionReader, partition: Partition, first: int, until: int) -> Iterator[Message]:
    while first < until:
        messages, first = reader.read(partition, first, until, _CHUNK)
        yield from messages


def _cells(verdict: Verdict) -> tuple[object, ...]:
    detail = verdict.action
    if verdict.error is not None:
        detail = verdict.error if verdict.reason is None else f"{verdict.reason}: {verdict.error}"
    if verdict.earlier is not None:
        detail = f"{detail} (as {verdict.earlier})"
    warnings = "; ".join(f"{field} {warning}".strip() for field, warning in verdict.advice)
    return str(verdict.place), verdict.outcome, detail, verdict.field, verdict.byte, warnings


def _machine(verdict: Verdict) -> dict[str, Any]:
    cells = verdict._asdict()
    cells["place"] = _place(verdict.place)
    cells["earlier"] = None if verdict.earlier is None else _place(verdict.earlier)
    cells["warnings"] = [each._asdict() for each in cells.pop("advice")]
    return cells


def _place(place: Place) -> dict[str, int]:
    return {name: number for name, number in place._asdict().items() if number is not None}


def _print_summary(outcomes: Counter[Outcome], warnings: int, *, as_json: bool) -> None:
    counts = {outcome.value: outcomes[outcome] for outcome in Outcome}
    if as_json:
        click.echo(json.dumps({"summary": {"messages": outcomes.total(), **counts, "warnings": warnings}}))
        return
    told = ", ".join(f"{outcome} {count}" for outcome, count in counts.items() if count)
    click.echo(f"{outcomes.total()} messages" + (f": {told}" if told else "") + f"; {warnings} warnings", err=True)
