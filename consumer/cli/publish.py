"""`integration-audit publish`: events from JSON Lines into the topic."""

import json
import os
import sys
import time
from collections.abc import Iterable, Iterator
from typing import IO, Any

import click
from rich.console import Console
from rich.progress import Progress

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.core.event_json import EventEncoder, EventJsonError
from consumer.core.samples import sample_events
from consumer.kafka.publisher import Publisher, PublishError
from consumer.schemas import event_schema
from consumer.settings import load_settings


@click.command()
@click.argument("file", type=click.File("rb"), required=False)
@click.option("--sample", type=click.IntRange(min=1), metavar="N", help="Make N realistic events of all types instead of reading FILE.")
@click.option("--seed", type=int, help="Samples that are the same every time.")
@click.option("--rate", type=click.FloatRange(min=0, min_open=True), metavar="R", help="At most R events a second.")
@click.option("--output", type=click.File("w"), help="Write JSON Lines to this file (- for stdout) instead of publishing.")
@click.option("--json", "as_json", is_flag=True, help="The outcome as a JSON object.")
def command(
    *, file: IO[bytes] | None, sample: int | None, seed: int | None, rate: float | None, output: IO[str] | None, as_json: bool
) -> None:
    """Publish events from FILE (- for stdin), one JSON object a line, with the tenant as key.

    A line that is no event stops with its number; the events before it are published.
    """
    if (file is None) == (sample is None):
        raise click.UsageError("name either FILE or --sample N")
    settings = load_settings(os.environ)
    encoder = EventEncoder(event_schema())
    if sample is not None:
        now = time.time_ns() // 1000
        events: Iterable[Any] = sample_events(sample, seed=now if seed is None else seed, now=now)
    else:
        assert file is not None  # noqa: S101 - one of the two
        events = _lines(file)
    events = _paced(_progress(events, sample), rate)
    if output is not None:
        for event in events:
            _encode(encoder, event)
            output.write(json.dumps(event[1] if file else event, ensure_ascii=False) + "\n")
        return
    settings.require_kafka()
    publisher = Publisher(settings.kafka_client_config(), settings.kafka_topics[0])
    try:
        try:
            for event in events:
                tenant, value = _encode(encoder, event)
                publisher.publish(tenant.encode(), value)
        finally:
            publisher.flush()
    except PublishError as error:
        raise CommandError(f"{error}; {publisher.delivered} were published", ExitCode.KAFKA) from error
    except CommandError as error:
        raise CommandError(f"{error}; {publisher.delivered} events before it were published", error.exit_code) from error
    outcome = {"published": publisher.delivered, "topic": settings.kafka_topics[0]}
    click.echo(json.dumps(outcome) if as_json else f"published {publisher.delivered} events to {settings.kafka_topics[0]}")


def _lines(file: IO[bytes]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):
                raise CommandError(f"line {number}: not JSON", ExitCode.INPUT) from None


def _encode(encoder: EventEncoder, event: Any) -> tuple[str, bytes]:
    number, content = event if isinstance(event, tuple) else (None, event)
    try:
        return content["tenant"] if isinstance(content, dict) and "tenant" in content else "", encoder.encode(content)
    except EventJsonError as error:
        raise CommandError(f"line {number}: {error}" if number else str(error), ExitCode.INPUT) from None


def _paced(events: Iterable[Any], rate: float | None) -> Iterator[Any]:
    begin = time.monotonic()
    for number, event in enumerate(events):
        if rate is not None:
            time.sleep(max(0.0, begin + number / rate - time.monotonic()))
        yield event


def _progress(events: Iterable[Any], total: int | None) -> Iterator[Any]:
    with Progress(console=Console(stderr=True), disable=not sys.stderr.isatty(), transient=True) as progress:
        yield from progress.track(events, total=total, description="publishing")
