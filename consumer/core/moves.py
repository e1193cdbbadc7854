"""Positions that an operator sets: what a new offset would mean, and what the moves of the past mean for the books. Pure."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from consumer.core.events import Partition
from consumer.core.ports import Ranges


class Move(NamedTuple):
    """A position that was set; see the view audit.position_move."""

    entry: int  # of audit.operation_history
    before: int | None  # None: there was no position
    after: int
    reread: int  # offsets that count twice by it


class PassedOver(NamedTuple):
    """Offsets that nobody has read, since an operator decided so."""

    first: int
    end: int  # exclusive
    entry: int  # of audit.operation_history, which says who and why


def passed_over(moves: Iterable[Move]) -> list[PassedOver]:
    """The ranges that the moves, oldest first, have left unread: what a later move went back to is read after all."""
    ranges: list[PassedOver] = []
    for move in moves:
        if move.before is not None and move.after > move.before:
            ranges.append(PassedOver(move.before, move.after, move.entry))
        else:
            ranges = [each._replace(end=min(each.end, move.after)) for each in ranges if each.first < move.after]
    return sorted(ranges)


def decided(moves: Iterable[Move], first: int, low: int) -> list[PassedOver]:
    """All that is unread by decision: `passed_over`, and what Kafka has, from `low` on, before a position that was set to `first`."""
    moves = list(moves)
    return [PassedOver(low, first, move.entry) for move in moves if move.after == first and low < first][:1] + passed_over(moves)


class Stands(NamedTuple):
    """Where a position is and where it began."""

    first: int
    next: int


class Change(NamedTuple):
    """A position, and what it means to set it."""

    topic: str
    partition: int
    topic_id: str
    before: int | None  # None: there is no position
    after: int
    effect: str  # begins, stays, passes over, reads again; or why it is refused
    offsets: int  # so many
    allowed: bool


def changes(
    targets: Mapping[Partition, int], positions: Mapping[Partition, Stands], ranges: Mapping[Partition, Ranges]
) -> list[Change]:  # fmt: skip
    """What it means to set these positions, by topic and partition.

    Args:
        targets: the partitions and their new next offsets.
        positions: where they stand, of the topics as they are now; those without a position are not in it.
        ranges: where they begin and end in Kafka; those that do not exist are not in it.
    """
    return [_change(each, after, positions.get(each), ranges.get(each)) for each, after in sorted(targets.items())]


def _change(partition: Partition, after: int, stands: Stands | None, kafka: Ranges | None) -> Change:
    before = None if stands is None else stands.next
    effect, offsets, allowed = ("no such partition", 0, False) if kafka is None else _effect(after, stands, kafka)
    return Change(*partition, kafka.topic_id if kafka else "", before, after, effect, offsets, allowed)


def _effect(after: int, stands: Stands | None, kafka: Ranges) -> tuple[str, int, bool]:
    if after > kafka.high:
        return f"beyond the partition's end {kafka.high}", after - kafka.high, False
    if stands is None:  # below its beginning too: that Kafka has removed what nobody read is then told by the worker
        return "begins", max(0, after - kafka.low), True
    if stands.next > kafka.high:
        # New messages would come to offsets that the books have passed, and whose messages may be in quarantine.
        return f"Kafka lost what was read, the partition ends at {kafka.high}: make the topic anew", stands.next - kafka.high, False
    if after == stands.next:
        return "stays", 0, True
    if after < kafka.low:
        return f"before the partition's beginning {kafka.low}", kafka.low - after, False
    return ("passes over", after - stands.next, True) if after > stands.next else ("reads again", stands.next - after, True)
