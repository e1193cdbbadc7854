"""The load: events with duplicates, conflicts, hostile messages, tombstones and transactions, sent straight to the broker."""

import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from random import Random
from types import TracebackType
from typing import Any, Self

from confluent_kafka import KafkaException, Producer

from consumer.core.decoding import SINGLE_OBJECT
from consumer.core.samples import sample_events
from tests.bed.events import ENCODER
from tests.chaos.account import Account, Sent

PARTITIONS = 6
MAX_MESSAGE_BYTES = 16_384
"""The workers' AUDIT_MAX_MESSAGE_BYTES."""
_SHARES = {"event": 84, "duplicate": 7, "conflict": 2, "hostile": 3, "tombstone": 4}
"""Percent. What goes to quarantine stays a small share, as it would where the input is not rotten altogether."""
_REMEMBERED = 2_000
"""So many of the last events may come again."""


class Mixture:
    """Draws messages from the seed: (partition, value), after the account knows them. For one thread."""

    def __init__(self, seed: str, account: Account) -> None:
        self._random = Random(seed)
        self._account = account
        numbers = Random(f"{seed} events")
        self._fresh = sample_events(2_000_000, seed=numbers.getrandbits(32), now=time.time_ns() // 1000)
        self._recent: deque[tuple[int, dict[str, Any]]] = deque(maxlen=_REMEMBERED)

    def draw(self) -> tuple[int, bytes | None]:
        """The next message; None is a tombstone."""
        (what,) = self._random.choices(list(_SHARES), list(_SHARES.values()))
        if what in ("duplicate", "conflict") and not self._recent:
            what = "event"
        self._account.count(what)
        partition = self._random.randrange(PARTITIONS)
        if what == "tombstone":
            return partition, None
        if what == "hostile":
            return partition, self._hostile()
        if what == "event":
            event = next(self._fresh)
            if self._random.random() < 0.005:
                event["actor"] = "nul\x00byte"
            self._recent.append((partition, event))
        else:
            where, event = self._random.choice(self._recent)
            partition = where if self._random.random() < 0.5 else partition
            if what == "conflict":
                event = {**event, "actor": f"other-{self._random.getrandbits(32):08x}"}
        value = ENCODER.encode(event)
        self._account.sending(value, Sent(event["event_id"]))
        return partition, value

    def _hostile(self) -> bytes:
        value, reason = self._random.choice(_HOSTILE)(self._random, next(self._fresh))
        self._account.sending(value, Sent(None, reason))
        return value


def _encoded(event: Mapping[str, Any], **fields: Any) -> bytes:
    return ENCODER.encode({**event, **fields})


_HOSTILE: tuple[Callable[[Random, dict[str, Any]], tuple[bytes, str]], ...] = (
    lambda random, _: (b"garbage " + random.randbytes(20), "undecodable"),
    lambda _, event: (_encoded(event)[:-1], "undecodable"),
    lambda _, event: (_encoded(event) + b"\x00", "undecodable"),
    lambda *_: (b"", "undecodable"),
    lambda random, event: (SINGLE_OBJECT + b"\x00" + random.randbytes(7) + _encoded(event)[10:], "unknown schema"),
    lambda _, event: (_encoded(event, source_ip="nowhere"), "invalid event"),
    lambda _, event: (_encoded(event, occurred_at="1999-01-01T00:00:00Z"), "out of range"),
    lambda random, _: (b"x" + random.randbytes(MAX_MESSAGE_BYTES), "oversized"),
    # PostgreSQL's index refuses a long text that does not compress.
    lambda random, event: (_encoded(event, tenant=random.randbytes(4_000).hex()), "unstorable"),
)


class Load:
    """Sends until it is stopped, through whatever happens to the broker. A context manager.

    One thread sends what a Mixture draws, idempotently and again until Kafka confirms it; another does the same in transactions.

    Args:
        client: the connection, straight to the broker.
        topic: of PARTITIONS partitions.
        seed: of what is sent; when it is sent, and so how much, is a matter of real time.
        rate: messages a second, transactions aside.
    """

    def __init__(self, client: Mapping[str, Any], topic: str, seed: int, rate: float) -> None:
        self.account = Account()
        self._client = dict(client)
        self._topic = topic
        self._seed = seed
        self._rate = rate
        self._stopping = threading.Event()
        self._threads = [threading.Thread(target=self._guarded, args=(each,), daemon=True) for each in (self._send, self._transact)]

    def __enter__(self) -> Self:
        """Begins to send."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """Sends nothing new."""
        self._stopping.set()

    def finish(self, timeout: float = 90.0) -> None:
        """Sends nothing new, and waits until every message is confirmed and every transaction ended; the broker must be up."""
        self._stopping.set()
        for thread in self._threads:
            thread.join(timeout)
            if thread.is_alive():
                self.account.failures.append("the load did not come to its end")

    def _guarded(self, send: Callable[[], None]) -> None:
        try:
            send()
        except Exception as error:
            self.account.failures.append(f"the load broke off: {type(error).__name__}: {error}")
            raise

    def _send(self) -> None:
        # Without a time-out of its own: a message is sent again until it is confirmed, however long the broker is away.
        producer = Producer(
            {**self._client, "enable.idempotence": True, "linger.ms": 5, "message.timeout.ms": 0, "compression.type": "lz4"}
        )
        mixture = Mixture(f"{self._seed} load", self.account)
        for _ in self._paced():
            partition, value = mixture.draw()
            producer.produce(self._topic, value, key=b"chaos", partition=partition, on_delivery=self.account.delivered)
            producer.poll(0)
        if producer.flush(60):
            self.account.failures.append("messages were not confirmed")

    def _paced(self) -> Iterator[None]:
        """As often as the rate asks; what an outage delays comes in a burst, but no more than a second's worth at once."""
        due = time.monotonic()
        while not self._stopping.is_set():
            now = time.monotonic()
            due = max(due, now - 1.0)
            if due > now:
                self._stopping.wait(due - now)
            due += 1 / self._rate
            yield

    def _transact(self) -> None:
        random = Random(f"{self._seed} transactions")
        mixture = Mixture(f"{self._seed} transacted load", self.account)
        name = f"chaos-{uuid.uuid4().hex}"
        producer: Producer | None = None
        while not self._stopping.wait(random.uniform(0.05, 1.0)):
            try:
                producer = producer or self._transactional(name)
                self._transaction(producer, mixture, random)
            except KafkaException:
                producer = None  # the next one of the same name ends what this one left open
                self.account.count("transaction of unknown outcome")
        self._end_open_transaction(name)

    def _transaction(self, producer: Producer, mixture: Mixture, random: Random) -> None:
        places: set[tuple[int, int]] = set()

        def delivered(error: Any, message: Any) -> None:
            if error is None:
                places.add((message.partition(), message.offset()))

        producer.begin_transaction()
        for _ in range(random.randint(1, 20)):
            partition, value = mixture.draw()
            producer.produce(self._topic, value, key=b"chaos", partition=partition, on_delivery=delivered)
        producer.flush(10)  # what is only queued would not reach the log of an aborted transaction
        if random.random() < 0.2:
            self._stopping.wait(random.uniform(0.0, 3.0))  # nobody may read past it meanwhile
        if random.random() < 0.6:
            producer.commit_transaction(20)
            self.account.count("transaction committed")
            self.account.committed |= places
        else:
            producer.abort_transaction(20)
            self.account.count("transaction aborted")
            self.account.aborted |= places

    def _transactional(self, name: str) -> Producer:
        producer = Producer({**self._client, "transactional.id": name, "transaction.timeout.ms": 20_000, "linger.ms": 5})
        producer.init_transactions(20)
        return producer

    def _end_open_transaction(self, name: str) -> None:
        for _ in range(3):
            try:
                self._transactional(name)
            except KafkaException:
                continue
            return
        self.account.failures.append("a transaction could not be ended")
