"""Positions that an operator sets: what it means, and what is left unread by it."""

import pytest

from consumer.core.events import Partition
from consumer.core.moves import Change, Move, PassedOver, Stands, changes, decided, passed_over
from consumer.kafka.topics import PartitionRange

PARTITION = Partition("topic", 0)
KAFKA = PartitionRange("id", 10, 100)


@pytest.mark.parametrize(
    ("moves", "expected"),
    [
        ([], []),
        ([Move(1, None, 5, 0)], []),
        ([Move(1, 5, 9, 0)], [PassedOver(5, 9, 1)]),
        ([Move(1, 5, 9, 0), Move(2, 20, 30, 0)], [PassedOver(5, 9, 1), PassedOver(20, 30, 2)]),
        ([Move(1, 5, 9, 0), Move(2, 12, 7, 5)], [PassedOver(5, 7, 1)]),  # what it went back to is read after all
        ([Move(1, 5, 9, 0), Move(2, 9, 5, 4)], []),
        ([Move(1, 5, 9, 0), Move(2, 9, 4, 5), Move(3, 6, 8, 0)], [PassedOver(6, 8, 3)]),
    ],
)
def test_what_is_left_unread(moves: list[Move], expected: list[PassedOver]) -> None:
    """The ranges that were passed over, less what a later move went back to."""
    assert passed_over(moves) == expected


@pytest.mark.parametrize(
    ("moves", "low", "expected"),
    [
        ([Move(1, None, 5, 0)], 2, [PassedOver(2, 5, 1)]),
        ([Move(1, None, 5, 0)], 5, []),
        ([Move(1, 9, 5, 4), Move(2, 6, 8, 0)], 2, [PassedOver(2, 5, 1), PassedOver(6, 8, 2)]),
        ([Move(1, None, 7, 0)], 2, []),  # the position begins at 5, and nobody says why
    ],
)
def test_a_beginning_by_decision(moves: list[Move], low: int, expected: list[PassedOver]) -> None:
    """What Kafka has before the position's beginning, where a move set it there."""
    assert decided(moves, 5, low) == expected


@pytest.mark.parametrize(
    ("after", "stands", "effect", "offsets", "allowed"),
    [
        (10, None, "begins", 0, True),
        (30, None, "begins", 20, True),
        (5, None, "begins", 0, True),  # Kafka has removed the rest, as the worker will tell
        (101, None, "beyond the partition's end 100", 1, False),
        (50, Stands(0, 50), "stays", 0, True),
        (60, Stands(0, 50), "passes over", 10, True),
        (100, Stands(0, 50), "passes over", 50, True),
        (101, Stands(0, 50), "beyond the partition's end 100", 1, False),
        (40, Stands(0, 50), "reads again", 10, True),
        (9, Stands(0, 50), "before the partition's beginning 10", 1, False),
        (50, Stands(0, 120), "Kafka lost what was read, the partition ends at 100: make the topic anew", 20, False),
    ],
)
def test_what_it_means_to_set_a_position(after: int, stands: Stands | None, effect: str, offsets: int, allowed: bool) -> None:
    """By where it stands and by what Kafka has."""
    positions = {} if stands is None else {PARTITION: stands}
    before = None if stands is None else stands.next
    assert changes({PARTITION: after}, positions, {PARTITION: KAFKA}) == [Change("topic", 0, "id", before, after, effect, offsets, allowed)]


def test_a_partition_that_does_not_exist() -> None:
    """Refused."""
    (change,) = changes({PARTITION: 5}, {}, {})
    assert (change.effect, change.allowed) == ("no such partition", False)
