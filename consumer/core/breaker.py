"""The quarantine's circuit breaker: when nearly everything is refused, something is wrong with the topic, not with its messages."""

from collections import Counter, deque
from collections.abc import Iterable, Sequence

from consumer.core.errors import Reason
from consumer.core.events import PartitionSlice

_ONLY_POSTGRES_TELLS = (Reason.CONFLICT, Reason.UNSTORABLE)


class _Latest:
    """What was written of a topic's latest messages; the sums are kept, since a batch may be a single message."""

    def __init__(self) -> None:
        self._batches: deque[tuple[int, Counter[Reason]]] = deque()
        self.messages = 0
        self.refused: Counter[Reason] = Counter()

    def add(self, messages: int, refused: Iterable[Reason], window: float) -> None:
        """Adds a batch, and forgets the oldest ones that the window does not need."""
        counts = Counter(refused)
        self._batches.append((messages, counts))
        self.messages += messages
        self.refused.update(counts)
        while self.messages - self._batches[0][0] >= window:
            messages, counts = self._batches.popleft()
            self.messages -= messages
            self.refused.subtract(counts)


class Breaker:
    """Opens for a topic when at least `limit` messages, and at least `share` of the latest ones, went into quarantine.

    What comes then and belongs in quarantine too is not written, so that the quarantine holds some evidence and stays bounded (by the limit
    and two batches) while the cause lasts. The topic is judged again each time it is read again, and closes by itself once the share has
    fallen; but for refusals that PostgreSQL alone can tell, which nobody sees coming: those last until the process is started anew.

    Args:
        limit: messages; 0 is no limit.
        share: of the latest `limit / share` messages, between 0 and 1.
    """

    def __init__(self, limit: int, share: float) -> None:
        self._limit = limit
        self._share = share
        self._window = limit / share
        self._latest: dict[str, _Latest] = {}
        self.open: dict[str, str] = {}
        """Topics that are held, each with the reason and the remedy."""

    def written(self, topic: str, messages: int, refused: Iterable[Reason]) -> None:
        """So many messages of the topic are accounted for, these of them in quarantine."""
        if not self._limit:
            return
        self._latest.setdefault(topic, _Latest()).add(messages, refused, self._window)

    def refuses(self, topic: str, slices: Sequence[PartitionSlice]) -> bool:
        """Whether these messages of the topic must not be written."""
        latest = self._latest.get(topic) or _Latest()
        messages, refused = latest.messages, latest.refused
        count = refused.total()
        closed = not self._limit or count < self._limit
        if not closed and sum(refused[reason] for reason in _ONLY_POSTGRES_TELLS) < self._limit:
            coming = sum(len(part.quarantined) for part in slices)
            messages += sum(part.messages for part in slices)
            count += coming
            closed = not coming
        if closed or count < self._share * messages:
            self.open.pop(topic, None)
            return False
        reason, _ = refused.most_common(1)[0]
        self.open[topic] = (
            f"topic {topic}: {count} of the last {messages} messages belong in quarantine, most as `{reason.value}`; no more are put there:"
            " see `integration-audit quarantine list`, mend the producer or the schemas (it is looked at again by itself),"
            " or restart with a higher AUDIT_QUARANTINE_LIMIT (0: none) to go on all the same"
        )
        return True
