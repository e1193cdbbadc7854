"""What is consumed and not yet a batch: decoded as it comes, beside a write, until the batch is full or can be written."""

from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta

from consumer.core.clock import kept_range
from consumer.core.decoding import Decoder
from consumer.core.events import Message, Partition, PartitionSlice
from consumer.core.framing import HeadedMessage
from consumer.core.learning import Learning
from consumer.core.ports import Source
from consumer.core.slicing import Cursor, Slices, add_messages

POLL = 0.25
"""Seconds that an idle worker waits for a message; also how late it hears of a signal."""
BRIEF = 0.02
"""Seconds that a worker waits for a schema while PostgreSQL works."""
BATCH_BYTES = 2 * 1024**2
"""Bytes of values after which a batch is full: a value may grow severalfold in a row, and two batches are in memory."""


class Intake:
    """Takes messages from the source into the slices of the next batch, which is bounded in number and in bytes.

    Args:
        source: Kafka.
        decoder: knows the writer schemas.
        retention: how far back the log reaches.
        most: messages in one batch.
        now: microseconds since 1970.
        monotonic: seconds, never going back.
        learning: where the schemas come from that messages name by a registry's id; None without a registry.
        headed: whether the observer looks at the messages' headers.
    """

    def __init__(
        self,
        source: Source,
        decoder: Decoder,
        *,
        retention: timedelta,
        most: int,
        now: Callable[[], int],
        monotonic: Callable[[], float],
        learning: Learning | None = None,
        headed: bool = False,
    ) -> None:
        self._source = source
        self._decoder = decoder
        self._retention = retention
        self._most = most
        self._now = now
        self._monotonic = monotonic
        self._learning = learning
        self._headed = headed
        self._unread: list[Message] = []  # consumed, but too much for one batch, or its schema is not known yet
        self._bytes = 0  # of the values in the slices
        self._seconds = 0.0  # that decoding them has taken
        self.slices: Slices = {}
        """What is to be the next batch."""
        self.full = False
        """The batch that is gathered, or was last, takes no more: more is waiting."""
        self.asking = False
        """Unread messages wait for their schemas, and nothing can be read before."""

    @property
    def empty(self) -> bool:
        """Whether everything consumed has left as a batch."""
        return not (self.slices or self._unread)

    @property
    def trouble(self) -> str | None:
        """Why schemas that messages wait for are not learned."""
        return self._learning.trouble if self._learning is not None and self.asking else None

    def take(self, cursors: Mapping[Partition, Cursor], *, patient: bool) -> bool:
        """Decodes what has come; whether anything has. Where it is `patient`, it waits for a message or a schema, up to POLL seconds."""
        messages = self._messages(POLL if patient and not self.slices else 0)
        if self._learning is not None:
            messages = self._readable(messages, self._learning, POLL if patient and not self.slices else BRIEF)
        if not messages:
            return False
        began = self._monotonic()
        add_messages(self.slices, messages, cursors, self._decoder, kept_range(self._now(), self._retention))
        self._seconds += self._monotonic() - began
        return True

    def close(self) -> tuple[list[PartitionSlice], float]:
        """The batch, and the seconds that decoding it has taken; then the next one begins."""
        slices, self.slices = list(self.slices.values()), {}
        seconds, self._seconds = self._seconds, 0.0
        return slices, seconds

    def forget(self, partition: Partition) -> None:
        """Drops what came from the partition."""
        self.slices.pop(partition, None)
        self._unread = [each for each in self._unread if (each.topic(), each.partition()) != partition]

    def clear(self) -> None:
        """Drops everything."""
        self.slices = {}
        self._unread = []

    def _messages(self, timeout: float) -> list[Message]:
        """The next messages of the batch."""
        room = self._most - sum(part.messages + part.tombstones for part in self.slices.values())
        if not self.slices:
            self._bytes = 0
        messages = self._unread
        if not messages:
            messages = self._source.consume(room, timeout)
            if self._headed:  # once and for all: they may not be read twice
                messages = [HeadedMessage(each) for each in messages]
        taken = 0
        for message in messages[:room]:
            self._bytes += len(message.value() or b"")
            if self._bytes > BATCH_BYTES and (taken or self.slices):
                break
            taken += 1
        messages, self._unread = messages[:taken], messages[taken:]
        self.full = bool(self._unread) or taken >= room
        return messages

    def _readable(self, messages: Sequence[Message], learning: Learning, timeout: float) -> list[Message]:
        """The messages up to the first one whose schema must be asked for. While none can be read, nothing more is fetched."""
        readable, rest = learning.split(messages)
        self._unread = rest + self._unread
        self.asking = bool(rest) and not readable
        if self.asking:
            self._source.hold()
            self._source.idle(learning.go_on(timeout))
        elif rest:
            learning.go_on(0)
        return readable
