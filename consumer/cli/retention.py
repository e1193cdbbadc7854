"""`integration-audit retention`: which months stay, go or are held; removing them; legal holds."""

import json
import sys
from datetime import datetime, timedelta, tzinfo
from typing import Any

import click

from consumer.cli.database import open_database
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import plain, print_table
from consumer.cli.parameters import LINE, LOCAL_TIME, ZONE, by, in_zone, options
from consumer.operations.retention import Planned, Removed, ShorterRetentionError, apply, kept_by, last_told, plan
from consumer.postgres import retention as sql
from consumer.setting_values import show_duration

_json = click.option("--json", "as_json", is_flag=True, help="One object a line.")
_reason = click.option("--reason", required=True, type=LINE, help="Why; it stays in the history.")


@click.group()
def command() -> None:
    """Show which months of the log go by AUDIT_RETENTION, remove them, or hold them back.

    `show` and `hold list` need audit_reader, holds audit_retention, `apply --yes` a role that may become audit_owner. All is told in
    audit.operation_history.
    """


@command.command()
@_json
def show(*, as_json: bool) -> None:
    """List the months, oldest first: how big, and whether they stay, go, or are held. Rows are estimates, but for what goes."""
    with open_database() as (settings, connect):
        months, told = plan(connect, settings.retention), last_told(connect)
    _print(months, as_json=as_json)
    going = [each for each in months if each.verdict == "goes"]
    click.echo(f"{_beside(settings.retention, told)}: {len(going)} of {len(months)} months go with `retention apply`", err=True)


@command.command("apply")
@options(
    by,
    click.option("--yes", is_flag=True, help="Do it; without, a dry run says what would be done."),
    click.option("--shorten", is_flag=True, help="Also where AUDIT_RETENTION is shorter here than the log was last told."),
    _json,
)
def apply_(*, by: str, yes: bool, shorten: bool, as_json: bool) -> None:
    """Remove the months that are older than AUDIT_RETENTION, whole; the log's and the ledger's part of each.

    Workers tell the log their AUDIT_RETENTION when they start. Where it is shorter here, nothing is removed unless --shorten says that this
    is meant. No worker is stopped by it. It may be killed at any moment and run again. Without --yes a dry run.
    """
    with open_database() as (settings, connect):
        if not yes:
            months = [each for each in plan(connect, settings.retention) if each.verdict != "stays" or each.state != "attached"]
            _print(months, as_json=as_json)
            going = sum(each.verdict == "goes" for each in months)
            beside = _beside(settings.retention, last_told(connect))
            click.echo(f"dry run, nothing was changed (--yes does it): {going} months would go; {beside}", err=True)
            return
        if not as_json:
            click.echo("\t".join(Removed._fields))
        try:
            for each in apply(connect, settings.retention, by, _progress, shorten=shorten):
                cells = each._asdict() | {"month": f"{each.month:%Y-%m}"}
                click.echo(json.dumps(cells) if as_json else "\t".join(plain(cell) for cell in cells.values()))
                sys.stdout.flush()
        except ShorterRetentionError as error:
            raise CommandError(
                f"nothing was removed: {_beside(settings.retention, error.told)}. Set AUDIT_RETENTION here as the workers have it,"
                " or say --shorten if months are to go that they keep",
                ExitCode.USAGE,
            ) from error


@command.group()
def hold() -> None:
    """Legal holds: a month with a row of theirs is kept whole, until they are released."""


@hold.command()
@options(
    _reason,
    click.option("--tenant", type=LINE, help="Only months with a row of this tenant."),
    click.option("--since", type=LOCAL_TIME, help="Only what was done at this time or later."),
    click.option("--until", type=LOCAL_TIME, help="Only what was done before this time."),
    click.option("--time-zone", type=ZONE, default="UTC", show_default=True, metavar="ZONE", help="Of these times."),
    by,
)
def add(*, reason: str, tenant: str | None, since: datetime | None, until: datetime | None, time_zone: tzinfo, by: str) -> None:
    """Hold back a tenant's rows, a period, or a tenant's rows of a period; prints the hold's number, and on stderr what it keeps now."""
    since, until = in_zone(time_zone, since), in_zone(time_zone, until)
    if tenant is None and since is None and until is None:
        raise click.UsageError("say what is held: --tenant, --since, --until")
    if since is not None and until is not None and since >= until:
        raise click.UsageError("--since must be before --until")
    with open_database() as (_, connect):
        hold = sql.add_hold(connect, by, reason, tenant=tenant, since=since, until=until)
        click.echo(hold)
        months = kept_by(connect, hold)
    if months:
        click.echo(f"hold {hold} keeps {len(months)} {'month' if len(months) == 1 else 'months'} of the log now", err=True)
        return
    remedy = f"`retention hold release {hold}` ends it, if tenant or period are not as they were meant"
    click.echo(f"warning: hold {hold} keeps nothing now, for the log has no row of it: {remedy}", err=True)


@hold.command("list")
@_json
def list_(*, as_json: bool) -> None:
    """List the holds that are not released, with who and why."""
    with open_database() as (_, connect), sql.session(connect) as connection:
        columns, rows = sql.listed_holds(connection)
    cells = [[cell.isoformat() if isinstance(cell, datetime) else cell for cell in row] for row in rows]
    if not as_json:
        print_table(columns, cells)
        return
    for row in cells:
        click.echo(json.dumps(dict(zip(columns, row, strict=True))))


@hold.command()
@click.argument("hold_id", metavar="ID", type=click.IntRange(1, 2**63 - 1))
@options(_reason, by)
def release(*, hold_id: int, reason: str, by: str) -> None:
    """End a hold; its months go with the next `retention apply`."""
    with open_database() as (_, connect):
        with sql.session(connect) as connection:
            if hold_id not in {each.id for each in sql.holds(connection)}:
                raise CommandError(f"there is no hold {hold_id} that is not released", ExitCode.USAGE)
        sql.release_hold(connect, hold_id, by, reason)
        click.echo(f"hold {hold_id} is released", err=True)


def _print(months: list[Planned], *, as_json: bool) -> None:
    cells: list[dict[str, Any]] = [each._asdict() | {"month": f"{each.month:%Y-%m}"} for each in months]
    if as_json:
        for each in cells:
            click.echo(json.dumps(each))
        return
    shown = [each | {"holds": ", ".join(map(str, each["holds"]))} for each in cells]
    print_table(Planned._fields, [list(each.values()) for each in shown])


def _beside(retention: timedelta, told: timedelta | None) -> str:
    """The retention beside what the log was last told."""
    if told is None:
        last = "was told none yet"
    else:
        last = f"was last told {show_duration(told)}" + (", which is longer: --yes needs --shorten" if retention < told else "")
    return f"retention {show_duration(retention)}; the log {last}"


def _progress(text: str) -> None:
    if sys.stderr.isatty():
        click.echo(f"\r{text}", err=True, nl=False)
