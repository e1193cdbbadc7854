"""Tables for people, records for machines."""

import sys
from collections.abc import Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

_PAGE = 220
"""Characters of a line where there is no terminal to ask."""


def print_table(columns: Sequence[str], rows: Sequence[Sequence[object]], title: str | None = None, *, for_people: bool = False) -> None:
    """A table on a terminal; into a pipe one record a line, tab separated, never wrapped; or a table anyway, where only people read it."""
    if not sys.stdout.isatty() and not for_people:
        sys.stdout.write("\t".join(columns) + "\n")
        for row in rows:
            sys.stdout.write("\t".join(plain(cell) for cell in row) + "\n")
        return
    table = Table(*columns, title=title, title_justify="left")
    for row in rows:
        table.add_row(*(Text(plain(cell)) for cell in row))
    Console(width=None if sys.stdout.isatty() else _PAGE).print(table)


def plain(cell: object) -> str:
    """One line without control characters: what an event says must not steer a terminal."""
    text = str("" if cell is None else cell)
    return text if text.isprintable() else "".join(each if each.isprintable() else " " for each in text)
