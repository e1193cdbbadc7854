"""The model of the Kafka client: the fake source as a member of a group, with prefetching, faults and other workers in between."""

from collections import deque
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING

from consumer.core.errors import FatalSourceError, SourceFailedError, TransientError
from consumer.core.events import Message, Partition
from tests.bed.fakes import MemorySource, Range

if TYPE_CHECKING:
    from tests.simulation.kafka import Entry
    from tests.simulation.world import Actor, World


class Member(MemorySource):
    """One worker's client."""

    def __init__(self, world: "World", actor: "Actor") -> None:
        super().__init__({})
        self._world = world
        self._actor = actor
        self._random = world.random
        self._cluster = world.cluster
        self._group = world.group
        self._told: deque[tuple[str, Partition | None]] = deque()
        self._expelled = False
        self._fetched: dict[Partition, deque[tuple[int, Entry]]] = {}
        self._asked: Mapping[str, str] | None = None
        self._group.join(self)

    # --- the group -----------------------------------------------------------------------------------------------------------------

    def tell(self, what: str, partition: Partition | None = None) -> None:
        """The coordinator's answer to the next heartbeat."""
        self._told.append((what, partition))

    def expel(self) -> None:
        """The session timed out: the coordinator gave up on us, and we don't know yet."""
        if not self._expelled:
            self._expelled = True
            self._told.clear()
            self._group.leave(self)

    def _serve_group(self) -> None:
        if self._expelled:
            self._expelled = False
            self._actor.note("lost", sorted(self._assigned))
            self.lose(*self._assigned)
            self._group.join(self)
            return
        while self._told and not self._expelled:
            what, partition = self._told.popleft()
            assert partition is not None
            self._actor.note(what, partition)
            if what == "assign":
                self.assign(partition)
                continue
            if partition in self._assigned:
                self.revoke(partition)
            if not self._expelled:
                self._group.released(self, partition)

    def lose(self, *partitions: Partition) -> None:
        """As MemorySource."""
        super().lose(*partitions)
        for partition in partitions:
            self._fetched.pop(partition, None)

    def leave(self) -> None:
        """Closes in order."""
        if self._assigned:
            self.before_revoke()
        self.lose(*self._assigned)
        self._told.clear()
        self._group.leave(self)

    def reopen(self) -> None:
        """As KafkaSource."""
        self._actor.note("reopen")
        super().reopen()
        self._world.boundary(self._actor, "reopen")
        self.leave()
        self.held, self.trouble, self._expelled = False, None, False
        self._group.join(self)

    # --- messages ------------------------------------------------------------------------------------------------------------------

    def unsettle(self, partition: Partition) -> None:
        """As KafkaSource."""
        super().unsettle(partition)
        self._fetched.pop(partition, None)

    def start(self, partition: Partition, offset: int) -> None:
        """As KafkaSource."""
        self._actor.note("start", partition, offset)
        self._fail_sometimes("start")
        self._fetched.pop(partition, None)
        super().start(partition, offset)

    def consume(self, max_messages: int, timeout: float) -> list[Message]:
        """As KafkaSource."""
        self._world.boundary(self._actor, "consume")
        if self._is_down():
            self._world.pass_time(timeout)
            return []
        self._serve_group()
        for partition in list(self._at):
            self._fetch(partition)
        # While held, at most a message that was under way when the pause came.
        most = max_messages if not self.held else int(self._world.happens("leak"))
        found = self._take(most)
        if self._world.happens("fatal"):
            raise FatalSourceError("_FATAL")
        self._fail_sometimes("consume")
        if found:
            self.trouble = None
            self._actor.note("consumed", [(each.partition(), each.offset()) for each in found])
        else:
            self._world.pass_time(timeout)
        return found

    def _fetch(self, partition: Partition) -> None:
        """Some offsets ahead: what is fetched is delivered though it be removed meanwhile."""
        if self._fetched.get(partition):
            return
        log, at = self._cluster.logs.get(partition), self._at[partition]
        if log is None:  # the topic is gone: the client hears nothing
            return
        if not log.low <= at <= log.high:
            if log.low > at or at > len(log.entries):
                self._actor.note("offset out of range", partition, at)
                self.unsettle(partition)
            return
        end = min(log.high, at + self._random.randint(0, 4))
        self._fetched[partition] = deque((offset, log.entries[offset]) for offset in range(at, end))

    def _take(self, most: int) -> list[Message]:
        found: list[Message] = []
        for partition in self._random.sample(list(self._fetched), len(self._fetched)) if most else ():
            fetched = self._fetched[partition]
            while fetched and len(found) < most:
                offset, message = fetched.popleft()
                self._at[partition] = offset + 1
                if message is not None:
                    found.append(message)
        return found

    def hold(self) -> None:
        """As KafkaSource."""
        if not self.held:
            self._fail_sometimes("hold")
        super().hold()

    def _fail_sometimes(self, where: str) -> None:
        if self._world.happens("client failure"):
            self._actor.note("client failure in", where)
            raise SourceFailedError(f"{where} failed")

    # --- questions -----------------------------------------------------------------------------------------------------------------

    def _is_down(self) -> bool:
        down = self._world.now < self._cluster.down_until
        if down:
            self.trouble = "Kafka: no broker answers"
        return down

    def _ask(self, seconds: float = 5.0) -> None:
        if self._is_down():
            self._world.pass_time(seconds)
            raise TransientError("Kafka: no answer")
        self.trouble = None

    def ranges(self, partitions: Iterable[Partition]) -> dict[Partition, Range]:
        """As KafkaSource: three questions, and the world may change between them."""
        wanted = list(partitions)
        self._world.boundary(self._actor, "topic ids")
        self._ask()
        ids = self._cluster.topic_ids()
        lows = {each: self._offset(each, lambda log: log.low) for each in wanted}
        highs = {each: self._offset(each, lambda log: log.high) for each in wanted}
        return {each: Range(ids[each.topic], lows[each], highs[each]) for each in wanted}

    def _offset(self, partition: Partition, question: "Callable[..., int]") -> int:
        self._world.boundary(self._actor, "list offsets")
        self._ask()
        self._cluster.topic_ids()
        return question(self._cluster.logs[partition])

    def changed_ids(self) -> Mapping[str, str] | None:
        """As Topics: the answer may be as old as the question."""
        asked, self._asked = self._asked, None
        if asked is not None:
            self.trouble = None
            return asked
        if not self._is_down() and len(self._cluster.ids) == len({each.topic for each in self._cluster.partitions}):
            self._asked = dict(self._cluster.ids)
        return None

    def commit(self, offsets: Mapping[Partition, int]) -> None:
        """As KafkaSource: refused when the group has another owner, and never an error."""
        if self._expelled or self._is_down() or self._world.happens("offset commit fails"):
            return
        for partition, offset in offsets.items():
            if partition in self._assigned and self._group.owner.get(partition) is self:
                self._group.committed[partition] = offset
                self._world.auditor.offset_committed(partition, offset)
