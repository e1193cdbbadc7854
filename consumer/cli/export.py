"""`integration-audit export`: the log into files, under an entry of the history."""

import json
import sys
from collections.abc import Iterable, Iterator
from contextlib import closing, suppress
from datetime import datetime, tzinfo
from pathlib import Path
from typing import Any

import click

from consumer import __version__
from consumer.cli.database import open_database
from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.output import print_table
from consumer.cli.parameters import by, filters_of, log_filters, options
from consumer.core.reading_out import StoredRecord
from consumer.operations.export import ROWS_PER_FILE, Files, OverwriteError, Place, Written, export
from consumer.operations.export_formats import MissingExtraError, row_files
from consumer.postgres.log import Filters

_EVERY = 10_000
"""Rows between two signs of life."""


@click.command()
@options(
    log_filters,
    click.option("--output", required=True, type=click.Path(path_type=Path), help="A folder, or a file whose name ends like the format."),
    click.option("--format", "form", type=click.Choice(["csv", "jsonl", "parquet"]), default="csv", show_default=True),
    click.option("--zip", "archive", is_flag=True, help="One zip for each month of the time zone."),
    click.option("--rows-per-file", type=click.IntRange(1, 1_000_000), default=ROWS_PER_FILE, show_default=True),
    click.option("--bom", is_flag=True, help="A byte order mark, by which Excel knows a CSV for UTF-8."),
    click.option("--force", is_flag=True, help="Replace files that are there, the whole export that they are of."),
    by,
    click.option("--json", "as_json", is_flag=True, help="One object a line for each file."),
)
def command(
    *, time_zone: tzinfo, output: Path, form: str, archive: bool, rows_per_file: int, bom: bool, force: bool, by: str, as_json: bool,
    **given: Any,
) -> None:  # fmt: skip
    """Export the audit log, oldest first, as of one moment. Needs only the database, and a role with audit_reader.

    Every export is told in audit.operation_history before the first row is read. A file appears when it is whole, the checksums last.
    """
    filters = filters_of(given, time_zone)
    if bom and form != "csv":
        raise click.UsageError("--bom is for CSV")
    try:
        make = row_files(form, time_zone, mark=bom)
    except MissingExtraError as error:
        raise CommandError(str(error), ExitCode.USAGE) from error
    detail = _told(filters, format=form, time_zone=str(time_zone), zip=archive, output=str(output), version=__version__)
    with open_database() as (_, connect):
        try:
            place = _place(output, f".{form}", archive=archive, force=force)
            files = Files(place, make, rows_per_file=rows_per_file, archive_zone=time_zone if archive else None)
            # Closed here, so that whatever interrupts us is told while there is still a database to tell it to.
            with closing(export(connect, filters, files, place, who=by, detail=detail, count=_counted)) as written:
                _show(written, place, as_json=as_json)
        except OverwriteError as error:
            raise CommandError(str(error), ExitCode.USAGE) from error
        except OSError as error:
            raise CommandError(f"{error.filename or output}: {error.strerror}", ExitCode.USAGE) from error


def _place(output: Path, suffix: str, *, archive: bool, force: bool) -> Place:
    if output.suffix == suffix and not output.is_dir():
        if archive:
            raise click.UsageError("--zip makes several files: name a folder")
        output.parent.mkdir(parents=True, exist_ok=True)
        return Place(output.parent, output.stem, suffix, first_is_bare=True, force=force)
    output.mkdir(parents=True, exist_ok=True)
    return Place(output, "audit-log", suffix, force=force)


def _told(filters: Filters, **more: object) -> dict[str, object]:
    """What the history says of the export: the filters that were given, and how."""
    given = {name: value.isoformat() if isinstance(value, datetime) else value for name, value in filters._asdict().items() if value}
    return {"filters": given, **more}


def _counted(records: Iterable[StoredRecord]) -> Iterator[StoredRecord]:
    """Signs of life on a terminal."""
    live = sys.stderr.isatty()
    for number, record in enumerate(records, start=1):
        if live and number % _EVERY == 0:
            click.echo(f"\r{number} rows …", err=True, nl=False)
        yield record


def _show(written: Iterable[Written], place: Place, *, as_json: bool) -> None:
    files = []
    for each in written:
        files.append(each)
        with suppress(BrokenPipeError):  # a reader that has seen enough of the list does not stop the export
            click.echo(f"{each.path}: {each.rows} rows", err=True)
            if as_json:
                click.echo(json.dumps({"file": str(each.path), "rows": each.rows, "sha256": each.sha256}))
    if not as_json:
        print_table(("File", "Rows", "SHA-256"), [(each.path, each.rows, each.sha256) for each in files])
    click.echo(f"{sum(each.rows for each in files)} rows in {len(files)} files; checksums in {place.manifest}", err=True)
