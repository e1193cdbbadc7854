"""What the load has sent: by its bytes what each message is, and from the delivery reports where it must be."""

import threading
from collections import Counter
from hashlib import sha256
from typing import Any, NamedTuple


class Sent(NamedTuple):
    """What a message is, as its sender knows it."""

    event_id: str | None
    """Of a valid event; None for a hostile message."""
    reason: str = ""
    """Why a hostile message belongs in quarantine."""


class Account:
    """The sender's books; its methods may be called from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sent: dict[bytes, Sent] = {}
        self.acknowledged: dict[tuple[int, int], bytes | None] = {}
        """Partition and offset → digest of the value (None: a tombstone), of messages outside transactions that Kafka has confirmed."""
        self.committed: set[tuple[int, int]] = set()
        """Places of messages whose transaction's commit was confirmed."""
        self.aborted: set[tuple[int, int]] = set()
        """Places of messages whose transaction's abort was confirmed."""
        self.counts: Counter[str] = Counter()
        self.failures: list[str] = []
        """Deliveries that failed for good; there must be none."""

    def sending(self, value: bytes, sent: Sent) -> None:
        """Must be called before the message goes out."""
        with self._lock:
            self._sent[digest(value)] = sent

    def known(self, value: bytes) -> Sent | None:
        """What the message is; None when nobody sent it."""
        return self._sent.get(digest(value))

    def delivered(self, error: Any, message: Any) -> None:
        """A delivery report, outside transactions."""
        if error is not None:
            self.failures.append(f"a message could not be delivered: {error.name()}")
            return
        value = message.value()
        with self._lock:
            self.acknowledged[message.partition(), message.offset()] = None if value is None else digest(value)

    def count(self, what: str) -> None:
        """For the report only."""
        with self._lock:
            self.counts[what] += 1


def digest(value: bytes) -> bytes:
    """Stands for a value, at a price in memory that does not depend on its length."""
    return sha256(value).digest()[:16]
