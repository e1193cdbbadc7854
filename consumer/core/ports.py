"""What the worker sees of the world: the source, the store, and who is told. The real ones and the fakes keep these."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol

from consumer.core.errors import Cause, TransientError
from consumer.core.events import Message, Partition, PartitionSlice


class Ranges(Protocol):
    """Where a partition begins and ends in Kafka."""

    @property
    def topic_id(self) -> str: ...  # noqa: D102
    @property
    def low(self) -> int: ...  # noqa: D102
    @property
    def high(self) -> int: ...  # noqa: D102


class TopicIds(Protocol):
    """Looks at the topics without waiting."""

    def changed_ids(self) -> Mapping[str, str] | None: ...  # noqa: D102


class Source(Protocol):
    """Kafka, as `consumer.kafka.source.KafkaSource` describes it."""

    before_revoke: Callable[[], None]

    @property
    def topics(self) -> TopicIds: ...  # noqa: D102
    @property
    def trouble(self) -> str | None: ...  # noqa: D102
    @property
    def missing_rights(self) -> AbstractSet[str]: ...  # noqa: D102
    @property
    def assigned(self) -> frozenset[Partition]: ...  # noqa: D102
    @property
    def unsettled(self) -> frozenset[Partition]: ...  # noqa: D102
    def unsettle(self, partition: Partition) -> None: ...  # noqa: D102
    def start(self, partition: Partition, offset: int) -> None: ...  # noqa: D102
    def consume(self, max_messages: int, timeout: float) -> list[Message]: ...  # noqa: D102
    def hold(self) -> None: ...  # noqa: D102
    def resume(self) -> None: ...  # noqa: D102
    def idle(self, timeout: float) -> None: ...  # noqa: D102
    def positions(self) -> Mapping[Partition, int]: ...  # noqa: D102
    def ends(self) -> Mapping[Partition, int]: ...  # noqa: D102
    def ranges(self, partitions: Iterable[Partition]) -> Mapping[Partition, Ranges]: ...  # noqa: D102
    def commit(self, offsets: Mapping[Partition, int]) -> None: ...  # noqa: D102
    def reopen(self) -> None: ...  # noqa: D102


class Store(Protocol):
    """PostgreSQL, as `consumer.postgres.background.BackgroundStore` describes it."""

    @property
    def busy(self) -> bool: ...  # noqa: D102
    def prepare(self, slices: Sequence[PartitionSlice]) -> Any: ...  # noqa: D102
    def start_write(self, batch: Any) -> None: ...  # noqa: D102
    def start_open(self, wanted: Mapping[Partition, tuple[str, int]]) -> None: ...  # noqa: D102
    def start_look(self, wanted: Mapping[Partition, str]) -> None: ...  # noqa: D102
    def wait(self, timeout: float) -> bool: ...  # noqa: D102
    def result(self) -> Any: ...  # noqa: D102
    def cut(self) -> None: ...  # noqa: D102


@dataclass(slots=True)
class Answers:
    """What a registry says of some ids or GUIDs; those that are in none of the three were not asked for after the failure."""

    found: dict[bytes, Mapping[str, Any]] = field(default_factory=dict)
    refused: dict[bytes, str] = field(default_factory=dict)  # it has something there, but nothing that could be a writer's schema; why
    unknown: list[bytes] = field(default_factory=list)
    failure: TransientError | None = None


class Registry(Protocol):
    """A schema registry, as `consumer.kafka.registry.BackgroundRegistry` describes it."""

    @property
    def busy(self) -> bool: ...  # noqa: D102
    def start_fetch(self, names: Sequence[bytes]) -> None: ...  # noqa: D102
    def wait(self, timeout: float) -> bool: ...  # noqa: D102
    def result(self) -> Answers: ...  # noqa: D102


@dataclass(frozen=True, slots=True)
class Standing:
    """How the worker stands at the end of a turn."""

    not_ready: Sequence[str]  # why it does not do its job
    held: AbstractSet[Cause] = frozenset()  # whose fault that is
    positions: Mapping[Partition, int] = field(default_factory=dict)  # that PostgreSQL holds, of the partitions that are read
    ends: Callable[[], Mapping[Partition, int]] = dict  # where these partitions end in Kafka, as far as it is known
    beyond_end: int = 0  # partitions that are held since their position is beyond Kafka's end
    topics_held: int = 0  # topics of which too much belongs in quarantine
    missing_rights: AbstractSet[str] = frozenset()  # what Kafka does not let us read: "topic", "group"


class LogState(NamedTuple):
    """The log as the database has it, as far as that can be told cheaply (`audit.log_state`)."""

    quarantine_open: int  # 10,000: so many or more
    books_unbalanced: int  # partitions
    months_ahead: int
    oldest_month: float  # seconds since 1970; 0: there is no month


class Observer(Protocol):
    """Who is told of what happens; must not raise."""

    def event(self, name: str, **fields: Any) -> None: ...  # noqa: D102
    def batch_written(self, slices: Sequence[PartitionSlice], written: Any, seconds: float) -> None: ...  # noqa: D102
    def batch_decoded(self, slices: Sequence[PartitionSlice], seconds: float) -> None: ...  # noqa: D102
    def beat(self, standing: Standing) -> None: ...  # noqa: D102
