"""Where the partitions stand beside what Kafka has, and setting a position: from another group's offsets, or by hand."""

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from consumer.core.events import Partition
from consumer.core.moves import Change, Stands, changes
from consumer.kafka.topics import PartitionRange
from consumer.postgres.connection import Row
from consumer.postgres.positions import set_positions
from consumer.postgres.quarantine import Connect
from consumer.postgres.reading import POSITIONS, rows_of


class Shown(NamedTuple):
    """A position and its books, and where its partition begins and ends in Kafka; None: there is no such thing, or Kafka was not asked."""

    topic: str
    topic_id: str
    partition: int
    next_offset: int | None = None
    first_offset: int | None = None
    written: int | None = None
    duplicates: int | None = None
    quarantined: int | None = None
    tombstones: int | None = None
    skipped: int | None = None
    expired: int | None = None
    reread: int | None = None
    balanced: bool | None = None
    updated_at: datetime | None = None
    low: int | None = None
    high: int | None = None
    lag: int | None = None


def positions_with(connect: Connect, ranges: Mapping[Partition, PartitionRange], topic: str | None) -> list[Shown]:
    """Every position that there is (of a topic made anew there are several), then the partitions that have none.

    Raises:
        TransientError: the database could not be asked.
    """
    rows = _rows(connect, topic)
    found = [_shown(row, ranges.get(Partition(row[0], row[2]))) for row in rows]
    known = {(each.topic, each.topic_id, each.partition) for each in found}
    for (name, number), at in sorted(ranges.items()):
        if (name, at.topic_id, number) not in known:
            found.append(Shown(name, at.topic_id, number, low=at.low, high=at.high, lag=at.high - at.low))
    return found


def _rows(connect: Connect, topic: str | None) -> list[Row]:
    return rows_of(connect, POSITIONS, {"topic": topic})[1]


def _shown(row: Sequence[Any], at: PartitionRange | None) -> Shown:
    """With the range, unless that is of the topic that has the name now, and the position of another."""
    if at is None or at.topic_id != row[1]:
        return Shown(*row)
    return Shown(*row)._replace(low=at.low, high=at.high, lag=max(0, at.high - max(row[3], at.low)))


def plan(connect: Connect, targets: Mapping[Partition, int], ranges: Mapping[Partition, PartitionRange]) -> list[Change]:
    """What it means to set the partitions to these next offsets, where they begin and end so in Kafka; changes nothing.

    Raises:
        TransientError: the database could not be asked.
    """
    stands = {
        Partition(row[0], row[2]): Stands(row[4], row[3])
        for row in _rows(connect, None)
        if (at := ranges.get(Partition(row[0], row[2]))) is not None and at.topic_id == row[1]
    }
    return changes(targets, stands, ranges)


def apply(connect: Connect, planned: Sequence[Change], who: str, note: str, source: str) -> dict[Change, int]:
    """Does what was planned, all of it or nothing; by change the entry of audit.operation_history that tells it.

    Workers may run: one that holds a partition finds its next write fenced, drops what it has read, and goes on from the new position.

    Raises:
        FencedError: a position is not where the plan saw it; nothing was changed.
        TransientError: nothing is known of the outcome.
    """
    moving = [each for each in planned if each.after != each.before]
    return dict(zip(moving, set_positions(connect, moving, who, note, source), strict=True))
