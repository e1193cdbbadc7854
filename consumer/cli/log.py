"""`integration-audit log`: the audit log, filtered, newest first, or live."""

import random
import sys
import time
from contextlib import closing
from datetime import tzinfo
from itertools import islice
from typing import Any

import click

from consumer.cli.database import open_database
from consumer.cli.parameters import filters_of, log_filters, options
from consumer.cli.records import Print, printer
from consumer.core.pause import Backoff
from consumer.operations.log import Follower, newest
from consumer.postgres.log import Filters, LogReader

_LIMIT = 100
_LIMIT_LIVE = 10
_POLL = 0.5
"""Seconds between polls."""


@click.command()
@options(
    log_filters,
    click.option("--limit", type=click.IntRange(0, 1_000_000_000), help=f"Most rows; {_LIMIT}, or {_LIMIT_LIVE} before following."),
    click.option("--all", "everything", is_flag=True, help="Every row that fits, however many."),
    click.option("--follow", is_flag=True, help="Then print each new row as it appears, until interrupted."),
    click.option("--json", "as_json", is_flag=True, help="One object a line, with every column."),
    click.option("--csv", "as_csv", is_flag=True, help="CSV, safe for spreadsheets."),
)
def command(*, time_zone: tzinfo, limit: int | None, everything: bool, follow: bool, as_json: bool, as_csv: bool, **given: Any) -> None:
    """Show the audit log, newest first. Needs only the database, and a role with audit_reader.

    All filters must fit; of one filter given several times, any value. Into a pipe one record a line, tab separated.
    """
    if as_json and as_csv:
        raise click.UsageError("give --json or --csv, not both")
    if everything and (follow or limit is not None):
        raise click.UsageError("--all goes with neither --limit nor --follow")
    filters = filters_of(given, time_zone)
    if follow and filters.until is not None:
        raise click.UsageError("--until and --follow contradict each other")
    style = "json" if as_json else "csv" if as_csv else None
    with open_database() as (_, connect), closing(LogReader(connect)) as reader:
        show = printer(style, time_zone, live=follow)
        if follow:
            _follow(reader, filters, _LIMIT_LIVE if limit is None else limit, show)
            return
        most = None if everything else _LIMIT if limit is None else limit
        rows = newest(reader, filters, None if most is None else most + 1)  # one more, to know whether there is more
        show(rows if most is None else islice(rows, most))
        if most is not None and next(rows, None) is not None:
            click.echo(f"the newest {most}, there are more: --limit, or --all", err=True)


def _follow(reader: LogReader, filters: Filters, limit: int, show: Print) -> None:
    follower = Follower(reader, filters, wait=time.sleep, say=_say, backoff=Backoff(random.random))
    show(follower.begin(limit))
    while True:
        sys.stdout.flush()
        time.sleep(_POLL)
        show(follower.poll())


def _say(text: str) -> None:
    click.echo(text, err=True)
