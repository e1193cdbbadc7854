"""Hostile messages and good ones among them, drawn from a seed; and what must become of each.

What a mutated message is, the decoder says here too: what this run proves is the rest of the way. Every message that belongs in quarantine
is there byte for byte, every other one in the log or the books, and the worker lives.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from hashlib import blake2b
from random import Random
from typing import NamedTuple

from consumer.core.clock import kept_range
from consumer.core.decoding import Decoder
from consumer.core.errors import Reason, Rejected
from consumer.core.events import AuditRecord
from consumer.core.slicing import record_of
from consumer.schemas import event_schema
from tests.bed.events import ENCODER, event
from tests.bed.evolution import writer_schema, written_with
from tests.bench.load import id_bytes, now_micros, templates, time_bytes

PARTITIONS = 4
MAX_BYTES = 65_536
ELEVENTH = "newer-with-eleventh-change"
_RETENTION = timedelta(days=1096)
_DAY = 86_400_000_000
_REMEMBERED = 50
_ID, _TIME = slice(11, 47), slice(47, 55)
_COUNTS = (b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", b"\xfe\xff\xff\xff\x0f", b"\x80\x80\x80\x80\x80\x20", b"\x80\x01", b"\x01")

Headers = list[tuple[str, bytes | None]]


class Sent(NamedTuple):
    """A message."""

    partition: int
    key: bytes
    value: bytes | None
    headers: Headers


def digest(*parts: bytes | None) -> int:
    """Of several byte strings, told apart; sums of these don't depend on an order."""
    found = blake2b(digest_size=16)
    for part in parts:
        found.update(b"-" if part is None else b"%d:" % len(part) + part)
    return int.from_bytes(found.digest(), "big")


class Truth:
    """What must be in the database at the end; digests are summed, so that a million messages take no room."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.quarantined = self.written = 0
        self.books: Counter[str] = Counter()

    def refuse(self, reason: Reason, sent: Sent) -> None:
        """In quarantine."""
        self.books["quarantined"] += 1
        self.reasons[reason.value] += 1
        self.quarantined += quarantine_digest(reason.value, sent.key, sent.value, sent.headers)

    def write(self, record: AuditRecord, value: bytes) -> None:
        """In the log."""
        self.books["written"] += 1
        self.written += digest(record.event_id.encode(), record.content_hash, record.source_bytes)


def quarantine_digest(reason: str, key: bytes | None, value: bytes | None, headers: Sequence[tuple[str, bytes | None]]) -> int:
    """All that the quarantine keeps of a message."""
    return digest(reason.encode(), key, value, *(part for name, content in headers for part in (name.encode(), content)))


class Hostility:
    """Makes the messages, and the truth with them."""

    def __init__(self, seed: int) -> None:
        self._random = Random(seed)
        self.truth = Truth()
        self._templates = templates(500, seed=seed)
        self._decoder = Decoder(event_schema(), [writer_schema(ELEVENTH)], MAX_BYTES)
        self._first: list[list[bytes]] = [[] for _ in range(PARTITIONS)]  # some events that are in the log
        self._sample = ENCODER.encode(event({
            "type": "IntegrationAuthorized", "target": {"type": "OAuthClient", "name": "n", "id": "i"}, "scopes": ["read", "write"],
        }))  # fmt: skip
        self._unmapped = written_with(ELEVENTH, _webhook())
        kinds: dict[Callable[[int], bytes | None], float] = {
            self._good: 15, self._mutated: 35, self._cut: 8, self._longer: 5, self._noise: 8, self._noise_in_frame: 6, self._bomb: 5,
            self._unknown: 4, self._confluent: 3, self._other_time: 3, self._no_address: 3, self._eleventh: 2, self._conflict: 1,
            self._again: 1, self._tombstone: 1, self._visible: 2, self._scopes: 0.1, self._oversized: 0.1, self._unstorable: 0.02,
        }  # fmt: skip
        self._kinds, self._weights = list(kinds), list(kinds.values())

    def messages(self, count: int) -> Iterator[Sent]:
        """So many; the first one of a partition is good, so that there is something to contradict."""
        draws = self._random
        for number in range(count):
            partition = draws.randrange(PARTITIONS)
            kind = draws.choices(self._kinds, self._weights)[0] if self._first[partition] else self._good
            sent = Sent(partition, number.to_bytes(6, "big") + draws.randbytes(draws.randrange(6)), kind(partition), self._headers())
            self._account(kind, sent)
            yield sent

    def _account(self, kind: Callable[[int], bytes | None], sent: Sent) -> None:
        if sent.value is None:
            self.truth.books["tombstones"] += 1
        elif kind == self._again:
            self.truth.books["duplicates"] += 1
        elif kind == self._conflict:
            self.truth.refuse(Reason.CONFLICT, sent)
        elif kind == self._unstorable:
            self.truth.refuse(Reason.UNSTORABLE, sent)
        else:
            try:
                record = record_of(self._decoder, sent.value, kept_range(now_micros(), _RETENTION))
            except Rejected as rejected:
                self.truth.refuse(rejected.reason, sent)
            else:
                self.truth.write(record, sent.value)
                if kind == self._good and len(self._first[sent.partition]) < _REMEMBERED:
                    self._first[sent.partition].append(sent.value)

    def _headers(self) -> Headers:
        if self._random.random() < 0.9:
            return []
        return [("hé", self._random.randbytes(5)), ("__value_schema_id", None if self._random.random() < 0.5 else b"\x00junk")]

    # --- the kinds -----------------------------------------------------------------------------------------------------------------

    def _good(self, _: int) -> bytes:
        template = self._random.choice(self._templates)
        now = now_micros() - self._random.randrange(30 * _DAY)
        return b"".join((template.head, id_bytes(self._random, now), time_bytes(now), template.tail))

    def _mutated(self, partition: int) -> bytes:
        data = bytearray(self._good(partition))
        for _ in range(self._random.randrange(1, 4)):
            at = self._random.randrange(len(data))
            match self._random.randrange(4):
                case 0:
                    data[at] ^= 1 << self._random.randrange(8)
                case 1:
                    data[at] = self._random.randrange(256)
                case 2:
                    del data[at : at + self._random.randrange(1, 9)]
                case _:
                    data[at:at] = self._random.randbytes(self._random.randrange(1, 9))
        return bytes(data)

    def _cut(self, partition: int) -> bytes:
        value = self._good(partition)
        return value[: self._random.randrange(len(value))]

    def _longer(self, partition: int) -> bytes:
        return self._good(partition) + self._random.randbytes(self._random.randrange(1, 20))

    def _noise(self, _: int) -> bytes:
        return self._random.randbytes(self._random.randrange(200))

    def _noise_in_frame(self, _: int) -> bytes:
        return self._sample[:10] + self._random.randbytes(self._random.randrange(200))

    def _bomb(self, _: int) -> bytes:
        at = self._random.randrange(10, len(self._sample))
        return self._sample[:at] + self._random.choice(_COUNTS) + self._sample[at + 1 :] + bytes(self._random.randrange(2_000))

    def _unknown(self, partition: int) -> bytes:
        return self._sample[:2] + self._random.randbytes(8) + self._good(partition)[10:]

    def _confluent(self, partition: int) -> bytes:
        return b"\x00" + self._random.randbytes(4) + self._good(partition)[10:]

    def _other_time(self, partition: int) -> bytes:
        value = self._good(partition)
        days = self._random.choice((1_500, 5_000, -3, -9_000))
        return value[: _TIME.start] + time_bytes(now_micros() - days * _DAY) + value[_TIME.stop :]

    def _no_address(self, partition: int) -> bytes:
        value = self._good(partition)
        at = self._random.randrange(_ID.start, _ID.stop)
        return value[:at] + b"z" + value[at + 1 :]

    def _eleventh(self, _: int) -> bytes:
        return self._unmapped[: _ID.start] + id_bytes(self._random, now_micros()) + self._unmapped[_ID.stop :]

    def _conflict(self, partition: int) -> bytes:
        value = self._random.choice(self._first[partition])
        return value[: _TIME.start] + time_bytes(now_micros() - self._random.randrange(1, _DAY)) + value[_TIME.stop :]

    def _again(self, partition: int) -> bytes:
        return self._random.choice(self._first[partition])

    def _tombstone(self, _: int) -> None:
        return None

    def _fresh(self, **fields: str) -> bytes:
        return ENCODER.encode(event(event_id=id_bytes(self._random, now_micros()).decode(), **fields))

    def _visible(self, _: int) -> bytes:
        return self._fresh(actor="s@to").replace(b"s@to", self._random.choice((b"s\x00to", b"s\xffto")))

    def _scopes(self, _: int) -> bytes:
        scopes = [""] * self._random.choice((100, 9_000, 10_001, 30_000))
        change = {"type": "IntegrationAuthorized", "target": {"type": "OAuthClient", "name": "n", "id": "i"}, "scopes": scopes}
        return ENCODER.encode(event(change, event_id=id_bytes(self._random, now_micros()).decode()))

    def _oversized(self, _: int) -> bytes:
        return self._sample + bytes(MAX_BYTES)

    def _unstorable(self, _: int) -> bytes:
        return self._fresh(tenant=self._random.randbytes(3_000).hex())


def _webhook() -> dict[str, object]:
    """The eleventh change, which a newer producer knows."""
    datum: dict[str, object] = ENCODER.datum(event())
    fields = next(each for each in writer_schema(ELEVENTH)["fields"] if each["name"] == "change")["type"][-1]
    texts = {field["name"]: "x" for field in fields["fields"]}
    return {**datum, "change": (f"integration.audit.v1.{fields['name']}", texts)}
