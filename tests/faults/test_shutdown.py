"""SIGTERM in every state (2): the batch is finished or rolled back, and the process ends inside its grace; what is left is read later.

Also: a loop that stalls is not alive.
"""

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from subprocess import Popen

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.cli.wiring import observation
from consumer.core.errors import TransientError
from consumer.postgres import connection
from consumer.postgres.migrate import HEAD_REVISION
from consumer.postgres.positions import read_state
from consumer.settings import load_settings
from tests.bed.events import encoded, events
from tests.bed.fault_proxy import FaultProxy
from tests.bed.health import Health
from tests.bed.inside import worker_inside
from tests.bed.worker import Workplace, wait_until

GRACE = 10
MARGIN = 3
"""Seconds: what a loaded machine may add to the grace."""

BACKEND = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'integration-audit'"


class Stage:
    """A worker that has written half of what was published; both its ways lead through proxies."""

    def __init__(self, place: Workplace, kafka: FaultProxy, database: FaultProxy, process: Popen[bytes]) -> None:
        self.place, self.kafka, self.database, self.process = place, kafka, database, process
        self.expected = events(2_000)

    def publish_half(self) -> None:
        """The other half."""
        self.place.publish(encoded(self.expected[1_000:]))

    def stop(self) -> int:
        """SIGTERM; the exit code."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(timeout=GRACE + MARGIN)

    def assert_nothing_lost(self) -> None:
        """Whoever comes next finds the rest, and nothing twice."""
        self.place.drain()
        self.place.assert_complete(self.expected)
        self.place.assert_committed_after_written()


@pytest.fixture
def stage(
    place: Workplace, kafka_proxy: FaultProxy, postgres_proxy: FaultProxy, kafka_way: dict[str, str], database_way: dict[str, str]
) -> Iterator[Stage]:
    """Set, with small batches."""
    with place.worker(AUDIT_SHUTDOWN_GRACE=f"{GRACE}s", AUDIT_BATCH_MAX_MESSAGES="100", **kafka_way, **database_way) as process:
        stage = Stage(place, kafka_proxy, postgres_proxy, process)
        place.publish(encoded(stage.expected[:1_000]))
        wait_until(lambda: place.written() == 1_000, "it works")
        yield stage


class TestFault02Stop:
    """SIGTERM, once."""

    def test_fault_02_consuming(self, stage: Stage) -> None:
        """With nothing to do; it leaves the group."""
        assert stage.stop() == ExitCode.DONE
        assert stage.place.members() == 0
        stage.publish_half()
        stage.assert_nothing_lost()

    def test_fault_02_busy(self, stage: Stage) -> None:
        """In the middle of the stream."""
        stage.publish_half()
        wait_until(lambda: stage.place.written() > 1_000, "it writes")
        assert stage.stop() == ExitCode.DONE
        stage.assert_nothing_lost()

    @pytest.mark.parametrize("request_", [b"COPY audit.audit_log", b"COMMIT"])
    def test_fault_02_writing(self, stage: Stage, request_: bytes) -> None:
        """The batch in flight is finished once the database answers."""
        stage.database.freeze_before_request(request_)
        stage.publish_half()
        stage.database.wait_for_cut()
        stage.process.send_signal(signal.SIGTERM)
        stage.database.thaw()
        assert stage.process.wait(GRACE + MARGIN) == ExitCode.DONE
        assert stage.place.written() > 1_000
        stage.assert_nothing_lost()

    def test_fault_02_frozen_way_to_the_database(self, stage: Stage) -> None:
        """The batch in flight is cut and rolled back."""
        stage.database.freeze_before_request(b"COPY audit.audit_log")
        stage.publish_half()
        stage.database.wait_for_cut()
        assert stage.stop() == ExitCode.DONE
        stage.database.cut()
        stage.assert_nothing_lost()

    def test_fault_02_frozen_backend(self, stage: Stage) -> None:
        """The backend does not answer, and keeps its locks until it is awake."""
        backend = stage.place.value(BACKEND)
        os.kill(backend, signal.SIGSTOP)
        try:
            stage.publish_half()
            assert stage.stop() == ExitCode.DONE
        finally:
            os.kill(backend, signal.SIGCONT)
        stage.assert_nothing_lost()

    def test_fault_02_database_down(self, stage: Stage) -> None:
        """Holding a batch."""
        stage.database.refuse()
        stage.database.cut()
        stage.publish_half()
        assert stage.stop() == ExitCode.DONE
        stage.assert_nothing_lost()

    def test_fault_02_brokers_down(self, stage: Stage) -> None:
        """The group can't be told."""
        stage.kafka.refuse()
        stage.kafka.cut()
        assert stage.stop() == ExitCode.DONE
        stage.publish_half()
        stage.assert_nothing_lost()

    def test_fault_02_frozen_brokers(self, stage: Stage) -> None:
        """The group is told, and does not answer: gracefully, or by the watchdog."""
        stage.kafka.freeze()
        assert stage.stop() in (ExitCode.DONE, ExitCode.SHUTDOWN_TIMEOUT)
        stage.publish_half()
        stage.assert_nothing_lost()

    def test_fault_02_all_frozen(self, stage: Stage) -> None:
        """Nobody answers at all, in the middle of a write."""
        stage.database.freeze_before_request(b"COMMIT")
        stage.publish_half()
        stage.database.wait_for_cut()
        stage.kafka.freeze()
        assert stage.stop() in (ExitCode.DONE, ExitCode.SHUTDOWN_TIMEOUT)
        stage.database.cut()
        stage.assert_nothing_lost()


class TestFault02StopWhileWaiting:
    """SIGTERM before the worker has begun: it waits for the database and its schema."""

    @pytest.mark.parametrize("how", [FaultProxy.refuse, FaultProxy.freeze])
    def test_fault_02_waiting_for_the_schema(
        self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], how: Callable[[FaultProxy], None], tmp_path: Path
    ) -> None:
        """Refused, or silent from the first byte."""
        how(postgres_proxy)
        log = tmp_path / "log"
        with place.worker(log=log, AUDIT_SHUTDOWN_GRACE=f"{GRACE}s", **database_way) as process:
            wait_until(lambda: '"held"' in log.read_text(), "it waits")
            process.send_signal(signal.SIGTERM)
            assert process.wait(GRACE + MARGIN) == ExitCode.DONE

    def test_fault_02_an_answer_that_never_comes(self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str]) -> None:
        """Connected, and then frozen: the question about the schema is cut, or the watchdog ends the process."""
        postgres_proxy.freeze_before_request(b"audit.alembic_version")
        with place.worker(AUDIT_SHUTDOWN_GRACE=f"{GRACE}s", **database_way) as process:
            postgres_proxy.wait_for_cut()
            process.send_signal(signal.SIGTERM)
            assert process.wait(GRACE + MARGIN) in (ExitCode.DONE, ExitCode.SHUTDOWN_TIMEOUT)

    def test_fault_02_a_question_that_is_not_answered_is_asked_again(
        self, place: Workplace, postgres_proxy: FaultProxy, database_way: dict[str, str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Connected, and then frozen: the question has a bound, and does not stop the loop for good."""
        monkeypatch.setattr("consumer.postgres.connection.ANSWER_TIMEOUT", 1.0)
        postgres_proxy.freeze_before_request(b"audit.alembic_version")
        connect = partial(connection.connect, database_way["AUDIT_DATABASE_URL"])
        with pytest.raises(TransientError, match="PostgreSQL"):
            read_state(connect)
        postgres_proxy.cut()
        postgres_proxy.thaw()
        assert read_state(connect).revision == HEAD_REVISION


def test_a_stalled_loop_is_not_alive(place: Workplace, health: Health, monkeypatch: pytest.MonkeyPatch) -> None:
    """The probe says so after STALLED seconds without a turn, and alive again after the next."""
    monkeypatch.setattr("consumer.cli.wiring.STALLED", 1.0)
    with observation(load_settings({**place.environment, **health.settings})) as observer, _beating(place, observer) as turn:
        turn()
        assert health.live == 200
        wait_until(lambda: health.live == 503, "not alive")
        turn()
        assert health.live == 200


@contextmanager
def _beating(place: Workplace, observer: object) -> Iterator[Callable[[], None]]:
    with worker_inside(place.environment) as inside:
        inside.worker._observer = observer  # type: ignore[assignment]
        yield inside.worker.run_once
