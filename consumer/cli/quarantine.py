"""`integration-audit quarantine`: what could not be in the log, and what to do with it."""

import json
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from datetime import UTC, datetime
from functools import partial
from typing import Any

import click

from consumer.cli.database import open_database
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import plain, print_table
from consumer.cli.parameters import LINE, options, user_name
from consumer.cli.quarantine_show import machine, print_shown
from consumer.cli.wiring import learn_all, make_decoder, make_learning, now_micros
from consumer.core.clock import kept_range
from consumer.core.errors import Reason
from consumer.core.events import Message
from consumer.core.pause import Backoff
from consumer.operations.quarantine import Quarantine, Tally
from consumer.postgres import quarantine as reading
from consumer.postgres.quarantine import Selection
from consumer.postgres.settlement import PAGE, Settlement


class _Moment(click.ParamType):  # type: ignore[type-arg] # generic only in newer versions of click
    """A time; UTC where no offset is given."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        if isinstance(value, datetime):
            return value
        try:
            moment = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is no time such as 2026-11-23 or 2026-11-23T09:00:00Z", param, ctx)
        return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


_REASONS = click.Choice([each.value for each in Reason])
_FILTERS = (
    click.option("--reason", "reasons", multiple=True, type=_REASONS, help="Of this reason; may be repeated."),
    click.option("--topic", type=LINE, help="From this topic."),
    click.option("--partition", type=click.IntRange(0, 2**31 - 1), help="From this partition."),
    click.option("--since", type=_Moment(), help="Quarantined at this time or later (UTC unless it says otherwise)."),
    click.option("--until", type=_Moment(), help="Quarantined before this time."),
    click.option("--json", "as_json", is_flag=True, help="One object a line."),
)
_ACTING = (
    click.option("--id", "ids", multiple=True, type=click.IntRange(1, 2**63 - 1), help="This message; may be repeated."),
    click.option("--all", "everything", is_flag=True, help="Every open message."),
    click.option("--by", type=LINE, default=user_name, show_default="the user of the operating system", help="Who decides it."),
    click.option("--yes", is_flag=True, help="Do it; without, a dry run says what would be done."),
)
_LISTING = (
    click.option("--status", type=click.Choice(["open", "retried", "discarded", "any"]), default="open", show_default=True),
    click.option("--limit", type=click.IntRange(1, 1_000_000), default=100, show_default=True, help="Most messages."),
    click.option("--counts", is_flag=True, help="How many by reason and status, instead of the messages."),
)


@click.group()
def command() -> None:
    """See, retry or discard the messages that could not be in the log. Needs only the database, and a role with audit_operator.

    `list` and `show` are content with audit_reader. What is done is told in the history of each message (`show`).
    """


@command.command("list")
@options(*_FILTERS, *_LISTING)
def list_(*, status: str, limit: int, counts: bool, as_json: bool, **filters: Any) -> None:
    """List messages, newest first, without their bytes; and how many there are by reason."""
    selection = _selection(filters, status=None if status == "any" else status)
    with open_database() as (_, connect):
        by_reason = reading.counts(connect, selection)
        columns, rows = by_reason if counts else reading.listed(connect, selection, limit)
    if as_json:
        for row in rows:
            click.echo(json.dumps({name: machine(value) for name, value in zip(columns, row, strict=True)}))
        return
    print_table(columns, [[machine(value) for value in row] for row in rows])
    if not counts:
        total = sum(row[2] for row in by_reason[1])
        summary = ", ".join(f"{reason} ({state}) {number}" for reason, state, number, *_ in by_reason[1])
        click.echo(f"{len(rows)} of {total} shown" + (f": {summary}" if summary else ""), err=True)


@command.command()
@click.argument("quarantine_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@click.option("--json", "as_json", is_flag=True, help="One object; bytes are base64.")
@click.option("--raw", is_flag=True, help="The value's bytes and nothing else.")
def show(*, quarantine_id: int, as_json: bool, raw: bool) -> None:
    """Show everything about one message: decoded as far as it goes, the place where it stops, headers, history.

    Prints what the event says, values and all.
    """
    with open_database() as (settings, connect):
        row = reading.one(connect, quarantine_id)
        if row is None:
            raise CommandError(f"there is no message {quarantine_id} in the quarantine", ExitCode.USAGE)
        history = reading.history(connect, quarantine_id)
    if raw:
        sys.stdout.buffer.write(row["value"] or b"")
        return
    print_shown(settings, row, history, as_json=as_json)


@command.command()
@options(*_ACTING, *_FILTERS)
def retry(*, everything: bool, by: str, yes: bool, as_json: bool, **filters: Any) -> None:
    """Try messages again: decode, map and write them as the worker does, with the schemas and settings of now.

    Without --yes a dry run: the same, rolled back. The messages that still fail stay open; the exit code is then 9 (DIFFERENCES).
    """
    selection = _chosen(filters, everything=everything)
    with open_database() as (settings, connect), closing(Settlement(connect)) as settlement:
        decoder = make_decoder(settings)
        kept = kept_range(now_micros(), settings.retention)
        learning = make_learning(settings, decoder, lambda *_, **__: None)
        run = _quarantine(settlement, partial(learn_all, learning)).retry(selection, decoder, kept, by, dry_run=not yes)
        _tell(run, as_json=as_json, dry_run=not yes)


@command.command()
@options(click.option("--note", required=True, type=LINE, help="Why; it stays in the history."), *_ACTING, *_FILTERS)
def discard(*, everything: bool, by: str, note: str, yes: bool, as_json: bool, **filters: Any) -> None:
    """Set messages aside for good: they can't be retried any more, and their bytes stay.

    Without --yes a dry run.
    """
    selection = _chosen(filters, everything=everything)
    with open_database() as (_, connect), closing(Settlement(connect)) as settlement:
        run = _quarantine(settlement).discard(selection, by, note, dry_run=not yes)
        _tell(run, as_json=as_json, dry_run=not yes)


def _quarantine(settlement: Settlement, learn: Callable[[Sequence[Message]], None] = lambda _: None) -> Quarantine:
    return Quarantine(settlement, Backoff(random.random), time.sleep, learn)


def _selection(filters: dict[str, Any], **more: Any) -> Selection:
    return Selection(**filters, **more)


def _chosen(filters: dict[str, Any], *, everything: bool) -> Selection:
    """Says no to a command that names nothing: by mistake it would be everything."""
    named = any(value not in (None, ()) for value in filters.values())
    if named == everything:
        raise click.UsageError("say which: by --id, --reason, --topic, --partition, --since, --until; or --all, and nothing else")
    return _selection(filters)


def _tell(tallies: Iterator[Tally], *, as_json: bool, dry_run: bool) -> None:
    """One line a message while it goes, counts at the end; the exit code says whether something remains."""
    outcomes: Counter[str] = Counter()
    remains = 0
    if not as_json:
        click.echo("\t".join(Tally._fields))
    try:
        for tally in tallies:
            outcomes[tally.outcome] += 1
            remains += not tally.settled
            cells = tally._asdict() | {"dry_run": dry_run}
            click.echo(json.dumps(cells) if as_json else "\t".join(plain(each) for each in tally))
            if sum(outcomes.values()) % PAGE == 0 and sys.stderr.isatty() and not sys.stdout.isatty():
                click.echo(f"\r{sum(outcomes.values())} …", err=True, nl=False)
    finally:
        summary = ", ".join(f"{outcome} {number}" for outcome, number in outcomes.most_common()) or "no message"
        click.echo(f"dry run, nothing was changed (--yes does it): {summary}" if dry_run else f"done: {summary}", err=True)
    if remains:
        raise click.exceptions.Exit(ExitCode.DIFFERENCES)
