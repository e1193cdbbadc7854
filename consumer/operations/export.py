"""Exporting the log: files of bounded size, each whole or not there, under one entry of the history."""

import hashlib
import os
import re
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import tzinfo
from pathlib import Path
from typing import NamedTuple
from zipfile import ZIP_DEFLATED, ZipFile

from consumer.core.errors import TransientError
from consumer.core.reading_out import StoredRecord
from consumer.operations.export_formats import RowFile
from consumer.postgres import exporting
from consumer.postgres.log import Filters
from consumer.postgres.quarantine import Connect

ROWS_PER_FILE = 100_000

_SUM = re.compile(r"[0-9a-f]{64}  (.+)")
"""A line of the checksums, with the file's name."""


class OverwriteError(Exception):
    """A file of that name is there already."""


class Written(NamedTuple):
    """A file that is in its place."""

    path: Path
    rows: int
    sha256: str


class Place(NamedTuple):
    """Where files go, and how they are called."""

    folder: Path
    stem: str
    suffix: str  # with its dot
    first_is_bare: bool = False  # the first file is the stem alone, as the user named it
    force: bool = False  # replace what is there

    def numbered(self, number: int, period: str | None = None) -> str:
        """The name of a file of rows."""
        if self.first_is_bare and number == 1 and period is None:
            return f"{self.stem}{self.suffix}"
        return "-".join([self.stem, *([period] if period else []), f"{number:03}"]) + self.suffix

    def may_have_made(self, name: str) -> bool:
        """Whether an export to this place, of whatever format, gives a file such a name."""
        return re.fullmatch(rf"{re.escape(self.stem)}(-[0-9]{{4}}-[0-9]{{2}})?(-[0-9]{{3,}})?\.(csv|jsonl|parquet|zip)", name) is not None

    @property
    def manifest(self) -> Path:
        """The file of the checksums, which is written last."""
        return self.folder / f"{self.stem}{self.suffix if self.first_is_bare else ''}.sha256"


class Files:
    """Rows into files of at most so many, or into one archive of such files for each month of the time zone."""

    def __init__(self, place: Place, make: Callable[[Path], RowFile], *, rows_per_file: int, archive_zone: tzinfo | None) -> None:
        self._place = place
        self._make = make
        self._rows_per_file = rows_per_file
        self._archive_zone = archive_zone

    def write(self, records: Iterator[StoredRecord]) -> Iterator[Written]:
        """Writes everything; tells each file once it is in its place. Rows come by time.

        Raises:
            OverwriteError: a file is there already.
            OSError: a file can't be written.
        """
        rest = _Ahead(records)
        if self._archive_zone is not None:
            while rest.next is not None:
                yield self._archive(rest, _month(rest.next, self._archive_zone))
            return
        number = 1
        while rest.next is not None or number == 1:  # a file with its headings, where there is no row
            path = self._place.folder / self._place.numbered(number)
            with atomic(path, force=self._place.force) as partial:
                rows = self._rows(partial, rest, lambda _: True)
            yield Written(path, rows, digest(path))
            number += 1

    def _archive(self, rest: "_Ahead", month: str) -> Written:
        path = self._place.folder / f"{self._place.stem}-{month}.zip"
        zone = self._archive_zone
        assert zone is not None  # noqa: S101 - asked only then
        rows = number = 0
        with atomic(path, force=self._place.force) as partial, ZipFile(partial, "w", ZIP_DEFLATED) as archive:
            # Not "equal": where a clock goes back at a month's end, the archive stays the later one.
            while rest.next is not None and _month(rest.next, zone) <= month:
                number += 1
                with temporary(path) as part:
                    rows += self._rows(part, rest, lambda record: _month(record, zone) <= month)
                    archive.write(part, self._place.numbered(number, month))
        return Written(path, rows, digest(path))

    def _rows(self, path: Path, rest: "_Ahead", fits: Callable[[StoredRecord], bool]) -> int:
        rows = 0
        target = self._make(path)
        try:
            while rest.next is not None and rows < self._rows_per_file and fits(rest.next):
                target.write(rest.take())
                rows += 1
        finally:
            target.close()
        return rows


class _Ahead:
    """Rows, of which the next one can be looked at before it is taken."""

    def __init__(self, records: Iterator[StoredRecord]) -> None:
        self._records = records
        self.next = next(records, None)

    def take(self) -> StoredRecord:
        """The next one."""
        taken = self.next
        assert taken is not None  # noqa: S101 - looked at before
        self.next = next(self._records, None)
        return taken


def export(
    connect: Connect, filters: Filters, files: Files, place: Place, *, who: str, detail: dict[str, object],
    count: Callable[[Iterable[StoredRecord]], Iterator[StoredRecord]] = iter,
) -> Generator[Written, None, None]:  # fmt: skip
    """Exports what fits, and tells each file. The guarantee is kept here: no row is read before the history has the export's entry.

    The manifest is the last file: an export without it is not whole. Only then does the history say that the export is completed.
    To close the generator is to interrupt the export.

    Args:
        connect: makes connections, as a role that may read the log and tell of exports.
        filters: which rows.
        files: how they become files.
        place: where the manifest goes.
        who: the person.
        detail: what the history says of it.
        count: sees every row pass by.

    Raises:
        TransientError: the database fails, or refuses an entry.
        OverwriteError, OSError: a file can't be written.
    """
    entry = exporting.began(connect, who, detail)
    written: list[Written] = []
    try:
        _refuse_existing(place.manifest, force=place.force)
        with exporting.snapshot(connect, filters) as records:
            _remove_former(place)
            for each in files.write(count(records)):
                written.append(each)
                yield each
        sums = "".join(f"{each.sha256}  {each.path.name}\n" for each in written)
        with atomic(place.manifest, force=place.force) as partial:
            partial.write_text(sums, encoding="utf-8")
            manifest = digest(partial)
    except BaseException as error:
        # What failed first is what matters; without this entry the export stands as begun and not ended, which says as much.
        with suppress(Exception):
            why = type(error).__name__ if isinstance(error, Exception) else "interrupted"
            exporting.ended(connect, entry, _summary(written) | {"error": why}, completed=False)
        raise
    try:
        exporting.ended(connect, entry, _summary(written) | {"manifest": manifest}, completed=True)
    except TransientError as error:
        raise TransientError(f"the files are whole, but the history could not be told so: {error}", error.cause) from error


def _remove_former(place: Place) -> None:
    """With `force`, takes away the export that is there: the files that its checksums name; then these, so that a stop leaves the list.

    Whoever may write into the folder may write the list: only names that an export makes are taken from it.
    """
    if not (place.force and place.manifest.exists()):
        return
    for line in place.manifest.read_text(encoding="utf-8", errors="surrogateescape").split("\n"):
        found = _SUM.fullmatch(line)
        if found is not None and place.may_have_made(found[1]):
            (place.folder / found[1]).unlink(missing_ok=True)
    place.manifest.unlink()


@contextmanager
def atomic(path: Path, *, force: bool) -> Iterator[Path]:
    """A temporary file beside the path, which takes its place when all went well, durably."""
    _refuse_existing(path, force=force)
    with temporary(path) as partial:
        yield partial
        with partial.open("rb") as written:
            os.fsync(written.fileno())
        if force:
            partial.replace(path)
        else:
            _refuse_existing(path, force=False)
            partial.rename(path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


@contextmanager
def temporary(path: Path) -> Iterator[Path]:
    """A file beside the path that is gone afterwards, unless it was renamed; only its owner may read it, as the export then."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}.partial")
    try:  # around its making too: an interruption may come before anybody was told of it, which is why mkstemp does not do
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        yield partial
    finally:
        partial.unlink(missing_ok=True)


def digest(path: Path) -> str:
    """SHA-256 of the file, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _refuse_existing(path: Path, *, force: bool) -> None:
    if not force and path.exists():
        raise OverwriteError(f"{path} is there already: name another place, or say --force")


def _month(record: StoredRecord, zone: tzinfo) -> str:
    return f"{record.occurred_at.astimezone(zone):%Y-%m}"


def _summary(written: list[Written]) -> dict[str, object]:
    return {"rows": sum(each.rows for each in written), "files": len(written)}
