"""The formats of an export: how rows become the bytes of a file."""

import csv
import json
from collections.abc import Callable
from datetime import tzinfo
from pathlib import Path
from typing import Any, Protocol

from consumer.core.reading_out import HEADINGS, StoredRecord, as_object, cells, harmless, ordered

_ROW_GROUP = 10_000
"""Rows that a Parquet file keeps in memory at a time."""


class RowFile(Protocol):
    """A file that takes rows."""

    def write(self, record: StoredRecord) -> None:
        """Takes a row."""

    def close(self) -> None:
        """Everything is in the file."""


class MissingExtraError(Exception):
    """The format needs a package that is not installed."""


class CsvFile:
    """UTF-8, RFC 4180, with headings; no cell is run by a spreadsheet."""

    def __init__(self, path: Path, zone: tzinfo, *, mark: bool = False) -> None:
        self._file = path.open("w", encoding="utf-8-sig" if mark else "utf-8", newline="")
        self._table = csv.writer(self._file)
        self._table.writerow(HEADINGS)
        self._zone = zone

    def write(self, record: StoredRecord) -> None:
        """Takes a row."""
        self._table.writerow([harmless(cell) for cell in cells(record, self._zone)])

    def close(self) -> None:
        """Everything is in the file."""
        self._file.close()


class JsonLinesFile:
    """One object a line, with every column."""

    def __init__(self, path: Path, zone: tzinfo) -> None:
        self._file = path.open("w", encoding="utf-8", newline="\n")
        self._zone = zone

    def write(self, record: StoredRecord) -> None:
        """Takes a row."""
        self._file.write(json.dumps(as_object(record, self._zone), ensure_ascii=False) + "\n")

    def close(self) -> None:
        """Everything is in the file."""
        self._file.close()


class ParquetFile:
    """Columns with types: times in microseconds, the Complement as JSON text."""

    def __init__(self, path: Path, zone: tzinfo) -> None:
        self._arrow, parquet = _pyarrow()
        self._schema = _schema(self._arrow, zone)
        self._writer = parquet.ParquetWriter(path, self._schema, compression="zstd")
        self._rows: list[dict[str, Any]] = []

    def write(self, record: StoredRecord) -> None:
        """Takes a row."""
        complement = json.dumps(ordered(record.action, record.complement), ensure_ascii=False)
        self._rows.append(record._asdict() | {"complement": complement})
        if len(self._rows) == _ROW_GROUP:
            self._flush()

    def close(self) -> None:
        """Everything is in the file."""
        self._flush()
        self._writer.close()

    def _flush(self) -> None:
        if self._rows:
            self._writer.write_table(self._arrow.Table.from_pylist(self._rows, schema=self._schema))
            self._rows = []


def row_files(name: str, zone: tzinfo, *, mark: bool) -> Callable[[Path], RowFile]:
    """What makes files of the format: csv, jsonl or parquet. `mark`: a byte order mark, by which Excel knows a CSV for UTF-8.

    Raises:
        MissingExtraError: the format is an extra that is not installed.
    """
    if name == "csv":
        return lambda path: CsvFile(path, zone, mark=mark)
    if name == "jsonl":
        return lambda path: JsonLinesFile(path, zone)
    _pyarrow()
    return lambda path: ParquetFile(path, zone)


def _pyarrow() -> tuple[Any, Any]:
    try:
        import pyarrow as arrow  # noqa: ICN001, PLC0415 - an extra; a word and no letters
        from pyarrow import parquet  # noqa: PLC0415 - an extra
    except ImportError as error:
        raise MissingExtraError("Parquet needs its extra; from the checkout: pip install '.[parquet]'") from error
    return arrow, parquet


def _schema(arrow: Any, zone: tzinfo) -> Any:
    types = {"kafka_partition": arrow.int32(), "kafka_offset": arrow.int64()}
    types |= dict.fromkeys(("occurred_at", "recorded_at"), arrow.timestamp("us", tz=str(zone)))
    return arrow.schema([arrow.field(name, types.get(name, arrow.string())) for name in StoredRecord._fields])
