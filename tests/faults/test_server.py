"""The database's server restarts or crashes under the worker (13)."""

import os
import signal
from collections.abc import Callable

import psycopg
import pytest

from tests.bed.events import encoded, events
from tests.bed.health import Health
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace, wait_until

BACKEND = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'integration-audit'"


@pytest.mark.parametrize("mode", ["fast", "immediate"])
def test_fault_13_the_server_restarts(place: Workplace, postgres: PostgresServer, health: Health, mode: str) -> None:
    """In order or as a crash, in the middle of the stream: alive, not ready with the reason, and it resumes by itself."""
    expected = events(4_000)
    with place.worker(AUDIT_BATCH_MAX_MESSAGES="50", **health.settings) as process:
        place.publish(encoded(expected[:3_000]))
        wait_until(lambda: place.written() > 200, "the first batches")
        postgres.stop(mode)
        try:
            wait_until(lambda: "PostgreSQL" in health.reasons, "not ready, with the reason")
            assert health.live == 200
            place.publish(encoded(expected[3_000:]))
        finally:
            postgres.start()
        wait_until(lambda: place.written() == 4_000 and health.ready, "all is written")
        assert process.poll() is None
    place.assert_complete(expected)


def test_fault_13_a_backend_is_killed(place: Workplace, postgres: PostgresServer) -> None:
    """Kill -9 of one backend makes the server end all and recover."""
    expected = events(3_000)
    with place.worker(AUDIT_BATCH_MAX_MESSAGES="50") as process:
        place.publish(encoded(expected))
        wait_until(lambda: place.written() > 200, "the first batches")
        os.kill(place.value(BACKEND), signal.SIGKILL)
        wait_until(_recovers(lambda: place.written() == 3_000), "all is written")
        assert process.poll() is None
    place.assert_complete(expected)


def test_fault_13_a_frozen_postmaster(place: Workplace, postgres: PostgresServer) -> None:
    """The worker's backend dies while nobody starts another: connecting has a bound, and it resumes."""
    expected = events(400)
    with place.worker() as process:
        place.publish(encoded(expected[:200]))
        wait_until(lambda: place.written() == 200, "it works")
        backend = place.value(BACKEND)
        os.kill(postgres.pid, signal.SIGSTOP)
        try:
            os.kill(backend, signal.SIGTERM)
            place.publish(encoded(expected[200:]))
            assert process.poll() is None
        finally:
            os.kill(postgres.pid, signal.SIGCONT)
        wait_until(lambda: place.written() == 400, "it works again")
        assert process.poll() is None
    place.assert_complete(expected)


def _recovers(condition: Callable[[], bool]) -> Callable[[], bool]:
    """The condition, which is not true while the database can't be asked."""

    def holds() -> bool:
        try:
            return condition()
        except psycopg.OperationalError:
            return False

    return holds
