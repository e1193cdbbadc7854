"""The quarantine's circuit breaker."""

from consumer.core.breaker import Breaker
from consumer.core.errors import Reason
from consumer.core.events import Partition, PartitionSlice, QuarantinedMessage
from tests.bed.events import FakeMessage

GARBAGE = Reason.UNDECODABLE


def coming(good: int, bad: int) -> list[PartitionSlice]:
    """So many messages of either kind."""
    rows = [(FakeMessage(b"", offset), None) for offset in range(good)]
    refused = [QuarantinedMessage(offset, GARBAGE, "", None, b"", None) for offset in range(bad)]
    return [PartitionSlice(Partition("topic", 0), "id", 0, good + bad, rows=rows, quarantined=refused)]  # type: ignore[arg-type]


def test_it_opens_past_the_limit_and_the_share() -> None:
    """Not before there is evidence in quarantine, and then for what would go there too."""
    breaker = Breaker(100, 0.5)
    assert not breaker.refuses("topic", coming(0, 1_000))
    breaker.written("topic", 99, [GARBAGE] * 99)
    assert not breaker.refuses("topic", coming(0, 1))
    breaker.written("topic", 1, [GARBAGE])
    assert breaker.refuses("topic", coming(0, 1))
    assert not breaker.refuses("other", coming(0, 1_000))


def test_it_says_what_and_how_to_go_on() -> None:
    """The topic, the counts, the reason most found, and the setting."""
    breaker = Breaker(10, 0.5)
    breaker.written("topic", 12, [GARBAGE] * 9 + [Reason.INVALID_EVENT] * 2)
    assert breaker.refuses("topic", coming(3, 1))
    assert "topic topic: 12 of the last 16 messages" in breaker.open["topic"]
    assert "`undecodable`" in breaker.open["topic"]
    assert "AUDIT_QUARANTINE_LIMIT" in breaker.open["topic"]


def test_a_share_that_is_usual_opens_nothing() -> None:
    """However many they become in time."""
    breaker = Breaker(10, 0.5)
    for _ in range(100):
        assert not breaker.refuses("topic", coming(11, 9))
        breaker.written("topic", 20, [GARBAGE] * 9)


def test_it_closes_when_the_topic_is_mended() -> None:
    """Good messages pass at once; few bad ones among many good ones too."""
    breaker = Breaker(10, 0.5)
    breaker.written("topic", 20, [GARBAGE] * 20)
    assert breaker.refuses("topic", coming(5, 5))
    assert not breaker.refuses("topic", coming(5, 0))
    assert not breaker.open
    assert breaker.refuses("topic", coming(5, 5))
    assert not breaker.refuses("topic", coming(50, 1))


def test_old_messages_are_forgotten() -> None:
    """Only the latest ones count."""
    breaker = Breaker(10, 0.5)
    breaker.written("topic", 20, [GARBAGE] * 20)
    breaker.written("topic", 20, [])
    assert not breaker.refuses("topic", coming(0, 5))


def test_what_only_postgres_tells_is_not_seen_coming() -> None:
    """A flood of conflicts is held too, though the next batch looks well."""
    breaker = Breaker(10, 0.5)
    breaker.written("topic", 10, [Reason.CONFLICT] * 10)
    assert breaker.refuses("topic", coming(1_000, 0))


def test_no_limit() -> None:
    """Zero: everything goes into quarantine."""
    breaker = Breaker(0, 0.5)
    breaker.written("topic", 1_000, [GARBAGE] * 1_000)
    assert not breaker.refuses("topic", coming(0, 1_000))
