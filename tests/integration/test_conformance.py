"""The same tests on the in-memory store and on the real one: a fake that lies would make the unit tests lie."""

import uuid
from collections.abc import Iterator
from typing import Any

import pytest

from consumer.core.errors import FencedError, Reason
from consumer.core.events import Partition, PartitionPosition, PartitionSlice, QuarantinedMessage
from consumer.core.mapping import audit_record
from consumer.postgres.connection import connect
from consumer.postgres.store import PostgresStore, Written
from tests.bed.events import ENCODER, FakeMessage, decoder, event
from tests.bed.fakes import MemoryStore

NOW = 1_795_478_400_000_000


@pytest.fixture(params=["memory", "postgres"])
def store(request: pytest.FixtureRequest) -> Iterator[Any]:
    """The fake, then the real one."""
    if request.param == "memory":
        yield MemoryStore()
        return
    url = request.getfixturevalue("database")
    real = PostgresStore(lambda: connect(url), lambda: NOW)
    yield real
    real.close()


def _part(partition: Partition, expected: int, *events: dict[str, Any], **counts: int) -> PartitionSlice:
    part = PartitionSlice(partition, "id", expected, expected + len(events) + sum(counts.values()), **counts)
    for number, each in enumerate(events):
        value = ENCODER.encode(each)
        part.rows.append((FakeMessage(value, expected + number), audit_record(decoder().decode(value), value)))
    return part


class TestStore:
    """What the worker relies on."""

    partition = Partition(f"topic-{uuid.uuid4().hex}", 3)

    def _open(self, store: Any, low: int = 0) -> int:
        positions = store.open_positions({self.partition: ("id", low)})
        assert positions.keys() == {self.partition}
        found: PartitionPosition = positions[self.partition]
        assert found.topic_id == "id"
        return found.next_offset

    def test_a_position_is_made_once(self, store: Any) -> None:
        """At the offset given; a later call finds it."""
        assert self._open(store, 7) == 7
        assert self._open(store, 9) == 7

    def test_a_write_moves_the_position(self, store: Any) -> None:
        """And says what it wrote."""
        self._open(store)
        assert store.write(store.prepare([_part(self.partition, 0, event(), event())])) == Written(2, 0, ())
        assert self._open(store) == 2

    def test_the_fence(self, store: Any) -> None:
        """A batch that does not begin at the position writes nothing; the same batch twice neither."""
        self._open(store)
        batch = store.prepare([_part(self.partition, 0, event())])
        store.write(batch)
        for wrong in (batch, store.prepare([_part(self.partition, 5, event())])):
            with pytest.raises(FencedError):
                store.write(wrong)
        assert self._open(store) == 1

    def test_duplicates_and_conflicts(self, store: Any) -> None:
        """Within a batch and over batches."""
        self._open(store)
        first = event()
        other = {**first, "tenant": "other"}
        assert store.write(store.prepare([_part(self.partition, 0, first, first, other)])) == Written(1, 1, (Reason.CONFLICT,))
        assert store.write(store.prepare([_part(self.partition, 3, other, first, event())])) == Written(1, 1, (Reason.CONFLICT,))
        assert store.write(store.prepare([_part(self.partition, 6, event())])) == Written(1, 0, ())

    def test_counts_without_rows(self, store: Any) -> None:
        """Tombstones, skipped and expired offsets, and quarantine."""
        self._open(store)
        part = _part(self.partition, 0, tombstones=1, skipped=2, expired=3)
        part.next_offset += 1
        part.quarantined.append(QuarantinedMessage(6, Reason.UNDECODABLE, "no Avro", None, b"\x00", [("a", None), ("b\x00", b"\xff")]))
        assert store.write(store.prepare([part])) == Written(0, 0, (Reason.UNDECODABLE,))
        assert self._open(store) == 7
