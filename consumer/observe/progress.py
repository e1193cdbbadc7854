"""How far PostgreSQL is behind Kafka, partition by partition. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from consumer.core.events import Partition, PartitionSlice


class Lag(NamedTuple):
    """How far behind a partition is."""

    offsets: int
    seconds: float


class Progress:
    """Knows what was read, what was written, and when there was nothing left.

    Nobody has seen the messages that wait in Kafka. The oldest of them is no older than the last ones written, nor than the time when
    all was written: the later of the two is taken for its time. Before there is either, it is the first message that was read.

    Args:
        now: seconds since 1970.
    """

    def __init__(self, now: Callable[[], float]) -> None:
        self._now = now
        self._first: dict[Partition, float] = {}
        self._reached: dict[Partition, float] = {}

    def read(self, slices: Sequence[PartitionSlice]) -> None:
        """These are on their way to PostgreSQL."""
        for part in slices:
            first = part.first_at / 1000 if part.first_at else self._now()
            self._first[part.partition] = min(first, self._first.get(part.partition, first))  # `lags` may have supposed a later one

    def written(self, slices: Sequence[PartitionSlice]) -> float | None:
        """These are there. Seconds since the oldest message among them came to Kafka; None where no message says."""
        times = [part.first_at / 1000 for part in slices if part.first_at]
        for part in slices:
            if part.first_at:
                self._reached[part.partition] = max(self._reached.get(part.partition, 0.0), part.first_at / 1000)
        return max(0.0, self._now() - min(times)) if times else None

    def lags(self, positions: Mapping[Partition, int], ends: Mapping[Partition, int]) -> dict[Partition, Lag]:
        """Of each partition whose end is known; what is known of others is forgotten."""
        for known in (self._first, self._reached):
            for partition in known.keys() - positions.keys():
                del known[partition]
        now = self._now()
        lags = {}
        for partition in positions.keys() & ends.keys():
            behind = max(0, ends[partition] - positions[partition])
            if not behind:
                self._reached[partition] = now
            since = self._reached.get(partition) or self._first.setdefault(partition, now)
            lags[partition] = Lag(behind, max(0.0, now - since) if behind else 0.0)
        return lags
