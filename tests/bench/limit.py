"""The limit: binary COPY of rows that exist already, into the same tables, in transactions of the same size, with the same durability.

The rows are those that the worker wrote, read back by PostgreSQL itself in the form in which COPY takes them.
"""

import itertools
import time
from collections.abc import Iterator, Sequence
from random import Random
from typing import NamedTuple

import psycopg

from tests.bench.load import id_bytes

BATCH = 2_000
"""Rows a transaction: the worker's default."""

_HEADER = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_TRAILER = b"\xff\xff"
_ID = slice(6, 22)  # event_id is the first column of both tables: after the number of columns and the length
_TIME = slice(26, 34)  # occurred_at is the second
_EPOCH = 946_684_800_000_000  # 2000-01-01
_LEDGER, _LOG = "event", "audit_log"


class Rows(NamedTuple):
    """Rows of both tables in the form of binary COPY, in the order of their ids."""

    ledger: list[bytes]
    log: list[bytes]

    def renewed(self, seed: int) -> "Rows":
        """The same rows with other ids, in the same order."""
        random = Random(seed)
        ids = sorted(_id(random, row) for row in self.ledger)
        return Rows(*([row[: _ID.start] + new + row[_ID.stop :] for new, row in zip(ids, rows, strict=True)] for rows in self))

    def share(self, percent: int) -> "Rows":
        """So many percent of them, evenly spread."""
        chosen = [number * percent // 100 != (number + 1) * percent // 100 for number in range(len(self.log))]
        return Rows(*(list(itertools.compress(rows, chosen)) for rows in self))


def _id(random: Random, row: bytes) -> bytes:
    micros = int.from_bytes(row[_TIME], "big", signed=True) + _EPOCH
    return bytes.fromhex(id_bytes(random, micros).decode().replace("-", ""))


def stored_rows(database: str) -> Rows:
    """Every row of a database."""
    with psycopg.connect(database) as connection:
        return Rows(*(list(_read(connection, table)) for table in (_LEDGER, _LOG)))


def _columns(connection: psycopg.Connection, table: str) -> str:
    # recorded_at is filled in by the server, for the worker as for the limit.
    found = connection.execute(
        "SELECT string_agg(quote_ident(attname), ', ' ORDER BY attnum) FROM pg_attribute"
        " WHERE attrelid = %s::regclass AND attnum > 0 AND NOT attisdropped AND attname <> 'recorded_at'",
        (f"audit.{table}",),
    ).fetchone()
    assert found is not None
    return str(found[0])


def _read(connection: psycopg.Connection, table: str) -> Iterator[bytes]:
    query = f"COPY (SELECT {_columns(connection, table)} FROM audit.{table} ORDER BY event_id) TO STDOUT (FORMAT BINARY)"
    with connection.cursor() as cursor, cursor.copy(query) as copy:
        for number, block in enumerate(copy):  # the server sends row by row, the header with the first one
            row = bytes(block)
            if number == 0:
                row = row.removeprefix(_HEADER)
            if row not in (b"", _TRAILER):
                yield row


def copy_rows(database: str, rows: Rows, batch: int = BATCH) -> float:
    """Copies the rows into the tables; rows a second, from the start to the last commit."""
    with psycopg.connect(database, autocommit=True, prepare_threshold=None) as connection, connection.cursor() as cursor:
        statements = [f"COPY audit.{table} ({_columns(connection, table)}) FROM STDIN (FORMAT BINARY)" for table in (_LEDGER, _LOG)]
        blocks = [_blocks(each, batch) for each in rows]
        cursor.execute("SELECT 1")
        began = time.perf_counter()
        for pair in zip(*blocks, strict=True):
            cursor.execute("BEGIN")
            for statement, block in zip(statements, pair, strict=True):
                with cursor.copy(statement) as copy:
                    copy.write(block)
            cursor.execute("COMMIT")
        return len(rows.log) / (time.perf_counter() - began)


def _blocks(rows: Sequence[bytes], batch: int) -> list[bytes]:
    return [b"".join((_HEADER, *rows[at : at + batch], _TRAILER)) for at in range(0, len(rows), batch)]
