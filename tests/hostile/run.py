"""Hostile messages through a worker process on the real Kafka and PostgreSQL, and what must be true afterwards."""

import base64
import shutil
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable
from pathlib import Path
from subprocess import Popen

import psutil
import psycopg
from confluent_kafka import Producer

from tests.bed.evolution import FOLDER
from tests.bed.worker import BOOKS, Workplace
from tests.hostile.messages import ELEVENTH, MAX_BYTES, Hostility, Sent, Truth, digest, quarantine_digest

CEILING = 400 * 1024**2
"""Bytes that the worker may take, whatever it reads: librdkafka's queue, two batches and what renders them are bounded."""
_WITHOUT_PROGRESS = 120.0


class HostileRun:
    """One run.

    Args:
        place: where the worker works.
        folder: for schemas and the worker's log.
        seed: of the messages.
    """

    def __init__(self, place: Workplace, folder: Path, seed: int) -> None:
        self._place = place
        self._hostility = Hostility(seed)
        schemas = folder / "schemas"
        schemas.mkdir()
        shutil.copy(FOLDER / f"{ELEVENTH}.avsc", schemas)
        self.log = folder / "worker.log"
        self._settings = {
            "AUDIT_QUARANTINE_LIMIT": "0",
            "AUDIT_SCHEMA_DIR": str(schemas),
            "AUDIT_MAX_MESSAGE_BYTES": str(MAX_BYTES),
        }
        self.peak = 0
        """The most bytes that the worker had."""

    @property
    def truth(self) -> Truth:
        """What must be there."""
        return self._hostility.truth

    def run(self, count: int, tell: Callable[[str], None] = lambda _: None) -> None:
        """Sends so many messages while the worker works, waits until all are accounted for, and stops it.

        Raises:
            AssertionError: it crashed, stood still or took too much memory.
        """
        with self._place.worker(log=self.log, **self._settings) as process:
            self._send(self._hostility.messages(count), process, tell)
            done, since = -1, time.monotonic()
            while self._place.positions() != self._place.ends():
                self._look_at(process)
                now = sum(self._place.books().values())
                if now != done:
                    done, since = now, time.monotonic()
                    tell(f"{done:,} accounted for, {self.peak / 1024**2:.0f} MiB at most")
                assert time.monotonic() - since < _WITHOUT_PROGRESS, f"it stands still at {done}"
                time.sleep(0.5)
            self._look_at(process)
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) == 0, self.log.read_text()[-2000:]

    def _send(self, messages: Iterable[Sent], process: Popen[bytes], tell: Callable[[str], None]) -> None:
        producer = Producer({**self._place.kafka.client, "linger.ms": 20, "queue.buffering.max.messages": 20_000})
        for number, sent in enumerate(messages):
            while True:
                try:
                    producer.produce(  # type: ignore[call-overload] # None is a tombstone, and a header's value
                        self._place.topic, sent.value, sent.key, partition=sent.partition, headers=sent.headers
                    )
                except BufferError:
                    producer.poll(0.1)
                    continue
                break
            if number % 500 == 0:
                producer.poll(0)
                self._look_at(process)
            if number % 100_000 == 99_999:
                tell(f"{number + 1:,} sent, {self.peak / 1024**2:.0f} MiB at most")
        assert producer.flush(60) == 0

    def _look_at(self, process: Popen[bytes]) -> None:
        assert process.poll() is None, f"the worker ended: {self.log.read_text()[-2000:]}"
        self.peak = max(self.peak, psutil.Process(process.pid).memory_info().rss)
        assert self.peak < CEILING, f"{self.peak / 1024**2:.0f} MiB"

    def verify(self) -> None:
        """The books are exact, the quarantine holds what it must, byte for byte, and the log the rest.

        Raises:
            AssertionError: it is otherwise.
        """
        truth = self.truth
        assert self._place.books() == {name: truth.books[name] for name in BOOKS}
        reasons: Counter[str] = Counter()
        quarantined = written = 0
        with psycopg.connect(self._place.database) as connection:
            with connection.cursor("quarantined") as cursor:
                cursor.itersize = 5_000
                for reason, key, value, headers in cursor.execute("SELECT reason, key, value, headers FROM audit.quarantine"):
                    reasons[reason] += 1
                    given = [(name, None if text is None else base64.b64decode(text)) for name, text in headers or ()]
                    quarantined += quarantine_digest(reason, key, value, given)
            with connection.cursor("written") as cursor:
                cursor.itersize = 5_000
                for row in cursor.execute("SELECT event_id::text, content_hash, source_bytes FROM audit.audit_log"):
                    written += digest(row[0].encode(), row[1], row[2])
        assert reasons == truth.reasons
        assert quarantined == truth.quarantined, "a message in quarantine is not what was sent"
        assert written == truth.written, "the log holds other events than were sent"
