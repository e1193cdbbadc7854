"""Death at the worst moment: of the worker (13), and between the transaction's commit and the offset commit (14)."""

import re

from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.worker import Workplace, wait_until

_OFFSET_COMMIT = re.compile(rb"\x00\x08\x00.{5}\x00\x11integration-audit", re.DOTALL)
"""How Kafka's request OffsetCommit begins: its number, a version, a number of its own, and who asks."""


def test_fault_13_kill_nine_loses_and_doubles_nothing(place: Workplace) -> None:
    """A third of the stream are duplicates; whenever the worker dies, each event is there once, and the books are exact."""
    expected = events(8_000)
    stream = expected + expected[:4_000]
    place.publish(encoded(stream))
    for kill in range(1, 5):
        with place.worker(AUDIT_BATCH_MAX_MESSAGES="200") as process:
            goal = min(kill * 2_500, len(stream))
            wait_until(lambda goal=goal: sum(place.books().values()) >= goal, "progress")
            process.kill()
            process.wait()
        place.assert_committed_after_written()
    place.drain()
    place.assert_complete(expected, duplicates=4_000)


def test_fault_14_killed_between_transaction_and_offset_commit(
    place: Workplace, kafka_proxy: FaultProxy, kafka_way: dict[str, str]
) -> None:
    """PostgreSQL has the batch and Kafka has not been told: nothing is written twice."""
    expected = events(600)
    with place.worker(**kafka_way) as process:
        place.publish(encoded(expected[:300]))
        wait_until(lambda: place.written() == 300 and place.committed() == place.positions(), "it works")
        kafka_proxy.freeze_before_request(_OFFSET_COMMIT)
        place.publish(encoded(expected[300:]))
        wait_until(lambda: place.written() > 300, "a transaction is committed")
        process.kill()
        process.wait()
    assert sum(place.committed().values()) < sum(place.positions().values())
    kafka_proxy.thaw()
    place.drain()
    place.assert_complete(expected)
