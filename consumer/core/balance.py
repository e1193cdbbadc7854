"""The books of a partition against what was found in it. Pure."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from consumer.core.events import Partition
from consumer.core.findings import Finding, Kind, Table
from consumer.core.moves import Move
from consumer.core.reconciling import Seen


class Position(NamedTuple):
    """A row of audit.consumer_position, and what audit.source_gap and audit.position_move say beside it."""

    partition: Partition
    topic_id: str
    first: int
    next: int
    written: int
    duplicates: int
    quarantined: int
    tombstones: int
    skipped: int
    expired: int
    gaps: int  # offsets of its ranges in source_gap
    reread: int = 0  # offsets that count twice
    moves: tuple[Move, ...] = ()  # oldest first

    @property
    def books(self) -> tuple[int, ...]:
        """The six counts."""
        return self[4:10]

    @property
    def reached(self) -> int:
        """How far it has ever been: beyond `next` while what it was set back over is read again."""
        return max(self.next, *(move.before or 0 for move in self.moves), 0)


def balance(positions: Sequence[Position], current: Position | None, seen: Seen) -> Iterator[Finding]:
    """What is wrong with the books of one partition, all of which was looked at.

    Args:
        positions: one for each topic of the name, now and formerly.
        current: the one of the topic that Kafka has now.
        seen: what was found.
    """
    for each in positions:
        yield from _alone(each, seen.quarantined[each.topic_id])
    written = sum(each.written for each in positions)
    rows = seen.rows - seen.retried + seen.removed
    if written != rows:
        detail = f"the books say {written}, the log has {rows - seen.removed}"
        detail += f", and retention removed {seen.removed}" if seen.removed else ""
        yield _wrong(Table.POSITION, current or positions[-1], ("written",), detail)
    if current is None:
        return
    # A topic made anew under a worker may have events booked as written under its old id and as duplicates under its new one. And of an
    # event whose month is gone nobody can tell any more whether it was the first.
    named = [("tombstones", current.tombstones, seen.tombstones), ("skipped", current.skipped, seen.skipped)]
    if len(positions) == 1 and not seen.retired:
        named.append(("duplicates", current.duplicates, seen.duplicates))
    else:
        delivered = seen.written + seen.duplicates + seen.retired
        named.append(("written and duplicates", current.written + current.duplicates, delivered))
    # What is read again counts again, as a duplicate or as what it is.
    whole = seen.verified + seen.passed_over == current.next - current.first and not current.reread
    for name, booked, counted in named:
        if booked < counted or (whole and booked != counted):
            yield _wrong(Table.POSITION, current, (name,), f"the books say {booked}, Kafka has {'' if whole else 'at least '}{counted}")


def _alone(each: Position, found: int) -> Iterator[Finding]:
    """What one row of the books says against itself, the gaps, the moves, and the messages found in quarantine."""
    moved = each.next - each.first + each.reread
    if moved != sum(each.books):
        yield _wrong(Table.POSITION, each, (), f"the books sum up to {sum(each.books)}, the position moved by {moved}")
    told = sum(move.reread for move in each.moves)
    if told != each.reread:
        yield _wrong(Table.POSITION, each, ("reread",), f"the books say {each.reread}, by position_move it is {told}")
    if each.gaps != each.expired:
        yield _wrong(Table.GAP, each, ("expired",), f"the books say {each.expired}, source_gap has ranges of {each.gaps}")
    if not found <= each.quarantined <= found + each.reread:
        yield _wrong(Table.POSITION, each, ("quarantined",), f"the books say {each.quarantined}, the quarantine has {found}")


def _wrong(table: Table, position: Position, columns: tuple[str, ...], detail: str) -> Finding:
    topic, number = position.partition
    return Finding(Kind.BOOKS, table, topic, number, None, None, columns, f"{detail} (topic id {position.topic_id})")
