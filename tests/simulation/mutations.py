"""Workers, sources and stores that are wrong in one way each: the simulation must find every one of them."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from consumer.core.errors import SourceFailedError
from consumer.core.events import Message, Partition
from consumer.worker import Worker
from tests.simulation.member import Member


class CommitsToKafkaFirst(Worker):
    """Tells Kafka before PostgreSQL."""

    def _begin_call(self) -> None:
        batch = self._writing or self._next
        if batch is not None and not self._store.busy:
            self._source.commit({part.partition: part.next_offset for part in batch.slices})
        super()._begin_call()


class BeginsAtLatest(Member):
    """Goes on at the end, as `auto.offset.reset=latest` does after an offset was lost."""

    def start(self, partition: Partition, offset: int) -> None:
        """As KafkaSource, but wrong."""
        super().start(partition, self._cluster.logs[partition].high if partition in self._cluster.logs else offset)


class SwallowsFailures(Member):
    """A callback's exception is caught, and the batch it destroyed is not missed."""

    def consume(self, max_messages: int, timeout: float) -> list[Message]:
        """As KafkaSource, but wrong."""
        try:
            return super().consume(max_messages, timeout)
        except SourceFailedError:
            return []


@dataclass(frozen=True)
class Mutation:
    """What of the simulated system is wrong; by default nothing."""

    fence: bool = True
    ledger: bool = True
    worker: Callable[..., Worker] = Worker
    member: Callable[..., Any] = Member


MUTATIONS = {
    "no fence": Mutation(fence=False),
    "no ledger": Mutation(ledger=False),
    "Kafka first": Mutation(worker=CommitsToKafkaFirst),
    "begin at latest": Mutation(member=BeginsAtLatest),
    "swallow a failure": Mutation(member=SwallowsFailures),
}
