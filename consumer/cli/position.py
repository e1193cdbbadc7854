"""`integration-audit position`: where the partitions stand, and setting them elsewhere."""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import click

from consumer.cli.database import open_database
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import print_table
from consumer.cli.parameters import LINE, by, options
from consumer.core.errors import FencedError, TransientError
from consumer.core.events import Partition
from consumer.core.moves import Change
from consumer.kafka.offsets import committed_offsets
from consumer.kafka.topics import PartitionRange, Topics
from consumer.operations.position import Shown, apply, plan, positions_with
from consumer.settings import Settings

_json = click.option("--json", "as_json", is_flag=True, help="One object a line.")
_OFFSET = click.IntRange(0, 2**63 - 1)


@click.group()
def command() -> None:
    """Show where the partitions stand in PostgreSQL, or set them elsewhere: what moving from another group or tool needs.

    `show` needs audit_reader, `set` audit_operator and a Kafka that answers. What is set is told in audit.operation_history.
    """


@command.command()
@options(click.option("--topic", type=LINE, help="Only this topic."), _json)
def show(*, topic: str | None, as_json: bool) -> None:
    """List positions with their books; where Kafka answers, also where each partition begins and ends, and the position's lag."""
    with open_database() as (settings, connect):
        found = positions_with(connect, _ranges(settings, topic), topic)
    rows = [each._asdict() | {"updated_at": each.updated_at.isoformat() if each.updated_at else None} for each in found]
    _print(Shown._fields, rows, as_json=as_json)


@command.command("set")
@options(
    click.argument("topic", required=False),
    click.argument("partition", required=False, type=click.IntRange(0, 2**31 - 1)),
    click.argument("offset", required=False, type=_OFFSET),
    click.option("--from-group", metavar="GROUP", type=LINE, help="To the offsets that this consumer group has committed; stop it first."),
    click.option("--topic", "topics", multiple=True, type=LINE, help="With --from-group: only this topic; may be repeated."),
    click.option("--note", required=True, type=LINE, help="Why; it stays in the history."),
    by,
    click.option("--yes", is_flag=True, help="Do it; without, a dry run says what would be done."),
    _json,
)
def set_(*, note: str, by: str, yes: bool, as_json: bool, **which: Any) -> None:
    """Have a partition read on from OFFSET, or all partitions from where another group stands.

    What is passed over is never read, and counts as expired; what is read again counts as duplicates. Workers may run: a position
    that moves meanwhile is not set. All that was asked for is done, or nothing. Without --yes a dry run.
    """
    if (which["from_group"] is None) == (which["offset"] is None) or (which["topic"] is None) == (which["from_group"] is None):
        raise click.UsageError("say TOPIC PARTITION OFFSET, or --from-group GROUP with or without --topic")
    with open_database() as (settings, connect):
        settings.require_kafka()
        with _kafka():
            source, targets, ranges = _targets(settings, **which)
        planned = plan(connect, targets, ranges)
        entries: Mapping[Change, int] = {}
        refused = sum(not each.allowed for each in planned)
        if yes and not refused:
            try:
                entries = apply(connect, planned, by, note, source)
            except FencedError as error:
                text = "nothing was changed: a worker has moved a position meanwhile; run this again, or stop the workers first"
                raise CommandError(text, ExitCode.DIFFERENCES) from error
    _print([*Change._fields, "operation"], [each._asdict() | {"operation": entries.get(each)} for each in planned], as_json=as_json)
    if refused:
        raise CommandError(f"nothing was changed: {refused} of {len(planned)} can't be set there", ExitCode.USAGE)
    moving = sum(each.after != each.before for each in planned)
    click.echo(f"done: {moving} positions set" if yes else f"dry run, nothing was changed (--yes does it): {moving} would be set", err=True)


def _targets(
    settings: Settings, *, topic: str | None, partition: int, offset: int, from_group: str | None, topics: Sequence[str]
) -> tuple[str, Mapping[Partition, int], Mapping[Partition, PartitionRange]]:
    """Where the offsets are from, the offsets, and where the partitions begin and end."""
    wanted = [topic] if topic is not None else list(dict.fromkeys(topics or settings.kafka_topics))
    if strangers := [each for each in wanted if each not in settings.kafka_topics]:
        raise click.UsageError(f"{', '.join(strangers)}: none of AUDIT_KAFKA_TOPIC ({', '.join(settings.kafka_topics)})")
    known = Topics(settings.kafka_client_config(), wanted)
    if from_group is None:
        targets = {Partition(wanted[0], partition): offset}
        return "by hand", targets, known.ranges(targets)
    partitions = known.partitions()
    targets = committed_offsets(settings.kafka_client_config(), from_group, partitions)
    if not targets:
        raise CommandError(f"the group {from_group} has committed no offset of {', '.join(wanted)}", ExitCode.USAGE)
    if rest := len(partitions) - len(targets):
        click.echo(f"{rest} of {len(partitions)} partitions have no offset of the group, and are left as they are", err=True)
    return f"group {from_group}", targets, known.ranges(targets)


@contextmanager
def _kafka() -> Iterator[None]:
    try:
        yield
    except TransientError as error:
        raise CommandError(str(error), ExitCode.KAFKA) from error


def _ranges(settings: Settings, topic: str | None) -> Mapping[Partition, PartitionRange]:
    """Empty, with a word about it, where Kafka can't be asked: the database's part is of use all the same."""
    names = [each for each in settings.kafka_topics if topic in (None, each)]
    if not settings.kafka_bootstrap_servers or not names:
        return {}
    try:
        known = Topics(settings.kafka_client_config(), names)
        return known.ranges(known.partitions())
    except TransientError as error:
        click.echo(f"low, high and lag are not known: {error}", err=True)
        return {}


def _print(columns: Sequence[str], rows: Sequence[Mapping[str, Any]], *, as_json: bool) -> None:
    if not as_json:
        print_table(columns, [list(row.values()) for row in rows])
        return
    for row in rows:
        click.echo(json.dumps(row))
