"""The model of Kafka's side: logs with retention and transactions, topics that come and go, and the consumer group."""

from random import Random
from typing import TYPE_CHECKING

from consumer.core.errors import ConfigurationError
from consumer.core.events import Partition
from tests.simulation.messages import Content, Name, Planned

if TYPE_CHECKING:
    from tests.simulation.member import Member

Entry = Planned | None
"""What stands at an offset; None: a transaction marker, or an aborted message."""


class Log:
    """One partition. Whatever ever stood at an offset is remembered, to judge what the worker says became of it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.ever: list[list[Entry]] = []
        self.low = 0
        self._open: list[int] = []  # offsets of the open transaction

    @property
    def high(self) -> int:
        """The last stable offset: what a reader of committed messages reaches."""
        return self._open[0] if self._open else len(self.entries)

    def append(self, message: Entry, *, transaction: bool = False) -> None:
        """A message, or a marker."""
        if transaction:
            self._open.append(len(self.entries))
        if len(self.entries) == len(self.ever):
            self.ever.append([])
        self.ever[len(self.entries)].append(message)
        self.entries.append(message)

    @property
    def in_transaction(self) -> bool:
        """Whether one is open."""
        return bool(self._open)

    def end_transaction(self, *, commit: bool) -> None:
        """A marker; what was aborted was never there for a reader."""
        for offset in [] if commit else self._open:
            self.entries[offset] = self.ever[offset][-1] = None
        self._open.clear()
        self.append(None)

    def retain(self, low: int) -> None:
        """Retention removes what is older."""
        self.low = max(self.low, min(low, self.high))

    def truncate(self, end: int) -> None:
        """A leader that lacked the last messages was elected."""
        if not self._open and end >= self.low:
            del self.entries[end:]


class Cluster:
    """The topics that exist now, and those that did."""

    def __init__(self, partitions: dict[str, int]) -> None:
        self.partitions = [Partition(Name(topic), number) for topic, count in partitions.items() for number in range(count)]
        self.ids: dict[str, str] = {}
        self.logs: dict[Partition, Log] = {}
        self.all_logs: dict[tuple[Partition, str], Log] = {}
        self.truncated: set[Partition] = set()
        self.down_until = 0.0
        self._made = 0
        for topic in dict.fromkeys(each.topic for each in self.partitions):
            self.make(topic)

    def make(self, topic: str) -> None:
        """A topic is made, under an id of its own."""
        self._made += 1
        self.ids[topic] = f"id-{self._made}"
        for each in self.partitions:
            if each.topic == topic:
                self.truncated.discard(each)
                self.logs[each] = self.all_logs[each, self.ids[topic]] = Log()

    def delete(self, topic: str) -> None:
        """A topic is deleted, with all that is in it."""
        del self.ids[topic]
        for each in [each for each in self.logs if each.topic == topic]:
            del self.logs[each]

    def is_dead(self, partition: Partition, topic_id: str) -> bool:
        """Whether this topic was deleted."""
        return self.ids.get(partition.topic) != topic_id

    def publish(self, partition: Partition, content: Content, *, transaction: bool = False) -> None:
        """A producer's message."""
        log = self.logs[partition]
        log.append(Planned(content, partition, len(log.entries)), transaction=transaction)

    def topic_ids(self) -> dict[str, str]:
        """As the admin client: one missing topic fails the question."""
        names = dict.fromkeys(each.topic for each in self.partitions)
        for name in names:
            if name not in self.ids:
                raise ConfigurationError(f"Kafka: topic {name} does not exist")
        return dict(self.ids)


class Group:
    """The coordinator: who owns which partition. A partition has at most one owner, but its old owner may not know."""

    def __init__(self, cluster: Cluster, random: Random) -> None:
        self._cluster = cluster
        self._random = random
        self.members: list[Member] = []
        self.owner: dict[Partition, Member] = {}
        self.committed: dict[Partition, int] = {}

    def join(self, member: "Member") -> None:
        """A member comes; partitions that nobody has are given away."""
        self.members.append(member)
        self._give_orphans()

    def leave(self, member: "Member") -> None:
        """A member went, or was given up after its session timed out."""
        if member in self.members:
            self.members.remove(member)
        for partition in [each for each, owner in self.owner.items() if owner is member]:
            del self.owner[partition]
        self._give_orphans()

    def rebalance(self, *, everything: bool) -> None:
        """Asks for partitions back: some, as the cooperative protocols do, or all of them."""
        for partition, owner in list(self.owner.items()):
            if everything or self._random.random() < 0.5:
                owner.tell("revoke", partition)

    def released(self, member: "Member", partition: Partition) -> None:
        """A revoke is done."""
        if self.owner.get(partition) is member:
            del self.owner[partition]
            self._give_orphans()

    def _give_orphans(self) -> None:
        for partition in self._cluster.partitions:
            if partition not in self.owner and self.members:
                self.owner[partition] = member = self._random.choice(self.members)
                member.tell("assign", partition)
