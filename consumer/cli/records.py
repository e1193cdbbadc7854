"""Rows of the log on stdout: a table on a terminal, tab separated lines into a pipe, JSON Lines, CSV. In bounded memory."""

import csv
import json
import sys
from collections.abc import Callable, Iterable
from datetime import tzinfo
from itertools import islice

from consumer.cli.output import plain, print_table
from consumer.core.reading_out import HEADINGS, StoredRecord, as_object, cells, harmless

_SCREEN = 200
"""Rows of one table on a terminal; the next ones get a table of their own, since a table knows its widths only at its end."""

_NARROW = tuple(
    HEADINGS.index(name) for name in ("Date and time", "Tenant", "Level", "User", "Action", "Result", "Error code", "Complement")
)
"""What a terminal has room for."""

Print = Callable[[Iterable[StoredRecord]], None]


def printer(style: str | None, zone: tzinfo, *, live: bool) -> Print:
    """Prints rows, as often as it is called; headings stand before the first ones. `style`: json, csv, or None for what fits stdout."""
    if style == "json":  # in ASCII, by which no terminal is steered
        return lambda records: _lines(json.dumps(as_object(record, zone)) for record in records)
    terminal = sys.stdout.isatty()
    if style == "csv":
        table = csv.writer(sys.stdout)
        table.writerow(HEADINGS)
        shown = plain if terminal else str
        return lambda records: table.writerows([harmless(shown(cell)) for cell in cells(record, zone)] for record in records)
    if not terminal:
        _lines(["\t".join(HEADINGS)])
        return lambda records: _lines("\t".join(map(plain, cells(record, zone))) for record in records)
    if live:
        return lambda records: _lines("  ".join(filter(None, _narrow(record, zone))) for record in records)
    return lambda records: _tables(records, zone)


def _lines(lines: Iterable[str]) -> None:
    for line in lines:
        sys.stdout.write(line + "\n")


def _tables(records: Iterable[StoredRecord], zone: tzinfo) -> None:
    rest = iter(records)
    while page := list(islice(rest, _SCREEN)):
        print_table([HEADINGS[place] for place in _NARROW], [_narrow(record, zone) for record in page])


def _narrow(record: StoredRecord, zone: tzinfo) -> list[str]:
    found = cells(record, zone)
    return [plain(found[place]) for place in _NARROW]
