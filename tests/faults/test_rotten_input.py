"""A topic of garbage, a producer that uses ids twice: held with some evidence in quarantine, until somebody decides."""

import signal

from consumer.cli.exit_codes import ExitCode
from tests.bed.events import encoded, events, message_value
from tests.bed.health import Health
from tests.bed.worker import Workplace, wait_until

LIMIT = {"AUDIT_QUARANTINE_LIMIT": "100", "AUDIT_BATCH_MAX_MESSAGES": "50"}
MOST = 100 + 3 * 50
"""Messages in quarantine: the limit, a batch that passes it, and two that are under way."""


def test_a_topic_of_garbage_is_held_and_goes_on_as_decided(place: Workplace, health: Health) -> None:
    """Not ready with the reason and the remedy, alive; all of it goes into quarantine once somebody says so."""
    good = events(200)
    place.publish(encoded(good[:100]))
    with place.worker(**LIMIT, **health.settings) as process:
        wait_until(lambda: place.written() == 100, "good messages are written")
        place.publish([b"garbage"] * 2_000)
        wait_until(lambda: "AUDIT_QUARANTINE_LIMIT" in health.reasons, "held, and says how to go on")
        assert 100 <= place.books()["quarantined"] <= MOST
        assert health.live == 200
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == ExitCode.DONE
    held = place.command("run", "--drain", **LIMIT)
    assert held.returncode == ExitCode.HELD, held.stderr[-2000:]
    assert "belong in quarantine" in held.stderr
    assert place.books()["quarantined"] <= 2 * MOST
    place.publish(encoded(good[100:]))
    place.drain(AUDIT_QUARANTINE_LIMIT="0")
    place.assert_complete(good, quarantined=2_000)
    assert place.value("SELECT count(*) FROM audit.quarantine WHERE value = 'garbage'") == 2_000


def test_a_topic_that_is_mended_goes_on_by_itself(place: Workplace, health: Health) -> None:
    """The garbage is removed from Kafka while the worker holds: the gap is recorded, and what comes next is written."""
    good = events(100)
    with place.worker(**LIMIT, **health.settings):
        place.publish([b"garbage"] * 1_000, partition=0)
        wait_until(lambda: "AUDIT_QUARANTINE_LIMIT" in health.reasons, "held")
        place.publish(encoded(good), partition=0)
        place.kafka.delete_records(place.topic, 0, 1_000)
        wait_until(lambda: place.written() == 100 and health.ready, "written, and ready")
    quarantined = place.books()["quarantined"]
    place.assert_complete(good, quarantined=quarantined, expired=1_000 - quarantined)


def test_a_flood_of_conflicts_is_held(place: Workplace, health: Health) -> None:
    """Only PostgreSQL can tell them; they look well before."""
    one = events(1)
    place.publish(encoded(one), partition=0)
    with place.worker(**LIMIT, **health.settings):
        wait_until(lambda: place.written() == 1, "the first one is written")
        place.publish([message_value(event_id=one[0]["event_id"], tenant=f"t{number}") for number in range(2_000)], partition=0)
        wait_until(lambda: "`conflict`" in health.reasons, "held")
        assert 100 <= place.books()["quarantined"] <= MOST
    assert place.written() == 1
