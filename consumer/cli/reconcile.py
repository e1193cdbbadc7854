"""`integration-audit reconcile`: does the log hold what Kafka has delivered?"""

import json
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

from consumer.cli.database import open_database
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import plain
from consumer.cli.pipes import forget_stdout
from consumer.cli.wiring import learn_all, make_decoder, make_learning
from consumer.core.errors import ConfigurationError, TopicUnreadableError
from consumer.core.findings import Finding
from consumer.kafka.reader import PartitionReader
from consumer.kafka.topics import Topics
from consumer.operations.reconcile import NothingThereError, Progress, Reconciliation, Scope, Summary
from consumer.postgres.evidence import Evidence
from consumer.settings import Settings

_OFFSET = click.IntRange(0, 2**63 - 1)
_EVERY = 10.0
"""Seconds between two lines of progress where stderr is no terminal."""


@click.command()
@click.option("--topic", help="Only this topic of AUDIT_KAFKA_TOPIC.")
@click.option("--partition", type=click.IntRange(0, 2**31 - 1), help="Only this partition.")
@click.option("--from-offset", type=_OFFSET, help="Of the partition, only from this offset on.")
@click.option("--to-offset", type=_OFFSET, help="Of the partition, only to before this offset.")
@click.option("--json", "as_json", is_flag=True, help="One object a finding and line, the last line is one with the summary.")
def command(*, topic: str | None, partition: int | None, from_offset: int | None, to_offset: int | None, as_json: bool) -> None:
    """Read the topics again and say whether log, quarantine, ledger and books hold what Kafka delivered.

    Every offset below the workers' positions is looked at. What is missing, different, doubled or extra is told with its topic, partition,
    offset and event id, and the columns that differ, but without values of events. Exit code 0: all is accounted for; 9 (DIFFERENCES):
    something is wrong; 4 or 5: the database or Kafka can't be used, and the comparison is not complete.

    Workers may run meanwhile. Takes no part in the consumer group, commits and changes nothing: a database role with audit_reader, and
    READ and DESCRIBE on the topic, are enough. Set AUDIT_SCHEMA_DIR, AUDIT_SCHEMA_REGISTRY_… and
    AUDIT_MAX_MESSAGE_BYTES as the workers have them.

    Offsets that Kafka's retention has removed can't be compared; their rows are checked against their own hashes and the ledger, and
    counted against the books. With --topic, --partition or a range, rows that belong to no place at all are not looked for, and with a
    range the books are not checked. What each finding means: docs/reconcile.md.
    """
    if (from_offset is not None or to_offset is not None) and partition is None:
        raise click.UsageError("--from-offset and --to-offset go with --partition")
    if to_offset is not None and (from_offset or 0) >= to_offset:
        raise click.UsageError("--to-offset must be beyond --from-offset")
    with open_database() as (settings, connect):
        settings.require_kafka()
        scope = Scope(_topic(settings, topic, partition), partition, from_offset, to_offset)
        decoder = make_decoder(settings)
        began = time.monotonic()
        with closing(Evidence(connect)) as evidence, _kafka(settings, scope) as (topics, reader), _progress() as tell:
            learning = make_learning(settings, decoder, lambda *_, **__: None)
            learn = None if learning is None else partial(learn_all, learning)
            run = Reconciliation(evidence, topics, reader, decoder, tell=tell, learn=learn)
            try:
                _print(run.run(scope), as_json=as_json)
            except TopicUnreadableError as error:
                raise CommandError(f"{error}; the comparison is not complete", ExitCode.KAFKA) from error
            except NothingThereError as error:
                raise click.UsageError(str(error)) from error
            except BrokenPipeError as error:  # whoever reads has seen enough, and it was a finding
                forget_stdout()
                raise click.exceptions.Exit(ExitCode.DIFFERENCES) from error
        _print_summary(run.summary, time.monotonic() - began, as_json=as_json)
    if run.summary.findings:
        raise click.exceptions.Exit(ExitCode.DIFFERENCES)


def _topic(settings: Settings, topic: str | None, partition: int | None) -> str | None:
    names = settings.kafka_topics
    if topic is not None and topic not in names:
        raise click.UsageError(f"--topic {topic!r} is none of AUDIT_KAFKA_TOPIC: {', '.join(names)}")
    if topic is None and partition is not None:
        if len(names) > 1:
            raise click.UsageError(f"--partition of which topic? Name one of {', '.join(names)} by --topic")
        return names[0]
    return topic


@contextmanager
def _kafka(settings: Settings, scope: Scope) -> Iterator[tuple[Topics, PartitionReader]]:
    client = settings.kafka_client_config()
    try:
        topics = Topics(client, settings.kafka_topics if scope.topic is None else [scope.topic])
        reader = PartitionReader(client)
    except ConfigurationError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    try:
        yield topics, reader
    finally:
        reader.close()


@contextmanager
def _progress() -> Iterator[Callable[[Progress], None]]:
    """A bar on a terminal; else a line now and then."""
    if not sys.stderr.isatty():
        yield _lines()
        return
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Bar(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("offsets", total=None)
        yield lambda at: bar.update(task, description=f"{at.partition.topic}/{at.partition.number}", completed=at.done, total=at.total)


def _lines() -> Callable[[Progress], None]:
    said = time.monotonic()

    def tell(at: Progress) -> None:
        nonlocal said
        if time.monotonic() - said >= _EVERY:
            said = time.monotonic()
            click.echo(f"{at.done} of {at.total} offsets, now at {at.partition.topic}/{at.partition.number}", err=True)

    return tell


def _print(findings: Iterator[Finding], *, as_json: bool) -> None:
    first = True
    for finding in findings:
        if as_json:
            click.echo(json.dumps(finding._asdict()))
            continue
        if first:
            click.echo("\t".join(Finding._fields))
            first = False
        click.echo("\t".join(plain(each) for each in finding._replace(columns=", ".join(finding.columns))))  # type: ignore[arg-type]


def _print_summary(summary: Summary, seconds: float, *, as_json: bool) -> None:
    found = summary.findings.total()
    if as_json:
        outcome = "differences" if found else "accounted for"
        decisions = [each._asdict() for each in summary.decisions]
        cells = asdict(summary) | {
            "decisions": decisions,
            "expired": [each._asdict() for each in summary.expired],
            "findings": found,
            "by_finding": dict(summary.findings),
            "seconds": round(seconds, 1),
        }
        click.echo(json.dumps({"summary": {"outcome": outcome, **cells}}))
        return
    counts = ", ".join(f"{name} {getattr(summary, name)}" for name in ("written", "duplicates", "quarantined", "tombstones", "skipped"))
    click.echo(f"{summary.offsets} offsets of {summary.partitions} partitions in {seconds:.1f} s: {counts}", err=True)
    if summary.not_in_kafka:
        text = "offsets are not in Kafka any more: their rows were checked for themselves and counted, not compared"
        click.echo(f"{summary.not_in_kafka} {text}", err=True)
    for each in summary.decisions:
        place = f"{each.topic}/{each.partition}: offsets {each.first_offset} to {each.next_offset - 1}"
        click.echo(f"{place} were passed over by decision {each.operation} (audit.operation_history), and not read", err=True)
    for lost in summary.expired:
        place = f"{lost.topic}/{lost.partition}: offsets {lost.first_offset} to {lost.next_offset - 1}"
        click.echo(f"{place} were removed from Kafka before they were read (audit.source_gap): what they told is not in the log", err=True)
    kinds = ", ".join(f"{kind} {number}" for kind, number in summary.findings.most_common())
    click.echo(f"{found} findings: {kinds}" if found else "all is accounted for", err=True)
