"""`integration-audit publish`: events from JSON Lines into the topic."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any, NamedTuple

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.core.event_json import EventEncoder, EventJsonError, parse_line
from consumer.core.samples import sample_events
from consumer.kafka.publisher import Publisher, PublishError
from consumer.schemas import event_schema
from consumer.settings import load_settings


class _Line(NamedTuple):
    """An event, not yet looked at, and where it stood (None: a sample)."""

    number: int | None
    event: Any


class _Encoded(NamedTuple):
    """A valid event and the message's value."""

    event: dict[str, Any]
    value: bytes


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Make N realistic events of all types instead of reading FILE.")
@click.option("--seed", type=int, help="The same samples every time, but for their times and ids, which follow the clock.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="R", help="At most R events a second.")
@click.option("--topic", help="Where to; without it the first topic of AUDIT_KAFKA_TOPIC.")
@click.option(
    "--output",
    type=click.File("w", encoding="utf-8"),
    help="Write JSON Lines to this file (- for stdout) instead; the outcome is on stderr.",
)
@click.option("--json", "as_json", is_flag=True, help="The outcome as a JSON object.")
def command(
    *,
    file: IO[bytes] | None,
    sample: int | None,
    seed: int | None,
    rate: float | None,
    topic: str | None,
    output: IO[str] | None,
    as_json: bool,
) -> None:
    """Publish events from FILE (- for stdin), one JSON object a line, with the tenant as key.

    A line that is no event stops with its number; the events before it are published.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("name either FILE or --sample N")
    if seed is not None and sample is None:
        raise click.UsageError("--seed goes with --sample")
    lines = _samples(sample, seed) if sample is not None else _read(file or ())
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        tracked = progress.track(lines, total=sample, description="events")
        events = _encoded(_paced(tracked, rate))
        outcome = _write(events, output) if output is not None else _publish(events, topic)
    click.echo(json.dumps(outcome) if as_json else _sentence(**outcome), err=output is not None)


def _publish(events: Iterable[_Encoded], topic: str | None) -> dict[str, Any]:
    settings = load_settings(os.environ)
    settings.require_kafka()
    topic = topic or settings.kafka_topics[0]
    delivered = 0
    try:
        publisher = Publisher(settings.kafka_client_config(), topic)
        try:
            for event, value in events:
                publisher.publish(event["tenant"].encode(), value)
        finally:
            try:
                publisher.flush()
            finally:
                delivered = publisher.delivered
    except PublishError as error:
        raise CommandError(f"{error}; {delivered} events were published", ExitCode.KAFKA) from error
    except CommandError as error:
        raise CommandError(f"{error}; {delivered} events before it were published", error.exit_code) from error
    return {"published": delivered, "topic": topic}


def _write(events: Iterable[_Encoded], output: IO[str]) -> dict[str, Any]:
    written = 0
    try:
        for event, _ in events:
            output.write(json.dumps(event, ensure_ascii=False) + "\n")
            written += 1
    except CommandError as error:
        raise CommandError(f"{error}; {written} events before it were written", error.exit_code) from error
    return {"written": written}


def _sentence(*, published: int | None = None, written: int | None = None, topic: str | None = None) -> str:
    return f"wrote {written} events" if published is None else f"published {published} events to {topic}"


def _samples(count: int, seed: int | None) -> Iterator[_Line]:
    now = time.time_ns() // 1000
    for event in sample_events(count, seed=now if seed is None else seed, now=now):
        yield _Line(None, event)


def _read(file: Iterable[bytes]) -> Iterator[_Line]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield _Line(number, parse_line(line))
            except EventJsonError as error:
                raise CommandError(f"line {number}: {error}", ExitCode.INPUT) from None


def _encoded(lines: Iterable[_Line]) -> Iterator[_Encoded]:
    encoder = EventEncoder(event_schema())
    for number, event in lines:
        try:
            yield _Encoded(event, encoder.encode(event))
        except EventJsonError as error:
            raise CommandError(f"line {number}: {error}" if number is not None else str(error), ExitCode.INPUT) from None


def _paced(lines: Iterable[_Line], rate: float | None) -> Iterator[_Line]:
    begin = time.monotonic()
    for number, line in enumerate(lines):
        if rate is not None:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        yield line
