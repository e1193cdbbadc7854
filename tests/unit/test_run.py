"""How `run` begins and ends, without Kafka and PostgreSQL."""

import threading
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import pytest
import structlog

from consumer.cli import run, stopping
from consumer.cli.exit_codes import ExitCode
from consumer.cli.wiring import Drain, Parts
from consumer.core.errors import Cause, TransientError
from consumer.core.ports import Standing
from consumer.postgres.migrate import HEAD_REVISION
from consumer.postgres.positions import DatabaseState
from consumer.settings import Settings, load_settings

if TYPE_CHECKING:
    from consumer.observe.observer import WorkerObserver

GOOD = DatabaseState(HEAD_REVISION, 180_000, "worker", superuser=False, read_only=False)


class Ear:
    """Hears of each turn, and then does something."""

    def __init__(self, then: Callable[[], Any] = lambda: None) -> None:
        self.standings: list[Standing] = []
        self._then = then

    def beat(self, standing: Standing) -> None:
        """As WorkerObserver."""
        self.standings.append(standing)
        self._then()


class Impatient(threading.Event):
    """A stop that nobody waits for."""

    def wait(self, timeout: float | None = None) -> bool:
        """At once."""
        return self.is_set()


@pytest.fixture(name="settings")
def _settings() -> Settings:
    return load_settings({"AUDIT_KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1", "AUDIT_DATABASE_URL": "postgresql://127.0.0.1:1/none"})


@pytest.fixture(autouse=True)
def _nobody_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "tell_retention", lambda *_: None)


def wait_for_schema(settings: Settings, stopped: threading.Event, ear: Ear) -> bool:
    """As `run` does."""
    return run.wait_for_schema(settings, stopped, cast("WorkerObserver", ear))


def test_held_is_said_when_its_reason_changes(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the database is waited for; every try is a turn."""
    answers = iter([TransientError(text, Cause.DATABASE) for text in ("refused", "refused", "refused", "starting", "starting")])

    def read_state(_: object) -> DatabaseState:
        for failure in answers:
            raise failure
        return GOOD

    monkeypatch.setattr(run, "read_state", read_state)
    ear = Ear()
    with structlog.testing.capture_logs() as lines:
        assert wait_for_schema(settings, Impatient(), ear)
    assert [(line["event"], line["reason"]) for line in lines] == [("held", "refused"), ("held", "starting")]
    assert [list(each.not_ready) for each in ear.standings] == [["refused"]] * 3 + [["starting"]] * 2


def test_it_is_alive_while_the_database_says_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many silent hosts are asked one after the other: turns go on, with the reason."""
    answered = threading.Event()
    ear = Ear(lambda: len(ear.standings) >= 3 and answered.set())

    def read_state(_: object) -> DatabaseState:
        answered.wait()
        return GOOD

    monkeypatch.setattr(run, "read_state", read_state)
    monkeypatch.setattr(run, "PATIENCE", 0.01)
    assert wait_for_schema(settings, threading.Event(), ear)
    assert {(tuple(each.not_ready), *each.held) for each in ear.standings} == {(("PostgreSQL: no answer yet",), Cause.DATABASE)}


def test_a_stop_does_not_wait_for_the_database(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the round over its hosts."""
    never, stopped = threading.Event(), threading.Event()
    monkeypatch.setattr(run, "read_state", lambda _: never.wait())
    monkeypatch.setattr(run, "PATIENCE", 0.01)
    try:
        assert not wait_for_schema(settings, stopped, Ear(stopped.set))
    finally:
        never.set()


def test_a_drain_says_held_when_its_reason_changes(settings: Settings) -> None:
    """It asks for the ends at every idle turn."""
    failures = iter(TransientError(text, Cause.KAFKA) for text in ("no topic", "no topic", "no broker", "no topic"))

    def partitions() -> object:
        raise next(failures)

    topics = SimpleNamespace(partitions=partitions, ranges=dict)
    drain = Drain(cast("Parts", SimpleNamespace(source=SimpleNamespace(topics=topics))), settings)
    with structlog.testing.capture_logs() as lines:
        assert not any(drain.done() for _ in range(4))
    assert [line["reason"] for line in lines] == ["no topic", "no broker", "no topic"]


@pytest.fixture(name="stderr_hangs")
def _stderr_hangs(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    never = threading.Event()
    monkeypatch.setattr(structlog, "get_logger", lambda: SimpleNamespace(error=lambda *_, **__: never.wait()))
    monkeypatch.setattr(stopping, "SAY_WAIT", 0.01)
    yield
    never.set()


class Ending:
    """Instead of the process's end."""

    def __init__(self) -> None:
        self.codes: list[int] = []
        self._come = threading.Event()

    def __call__(self, code: int) -> None:
        """As os._exit."""
        self.codes.append(code)
        self._come.set()

    def wait(self) -> list[int]:
        """The codes, once there is one."""
        assert self._come.wait(30)
        return self.codes


def test_the_watchdog_says_why() -> None:
    """With the code that it ends the process with."""
    end = Ending()
    with structlog.testing.capture_logs() as lines:
        stopping.Watchdog(0.0, end).start()
        assert end.wait() == [ExitCode.SHUTDOWN_TIMEOUT]
    assert lines == [{"event": "shutdown timed out", "log_level": "error", "seconds": 0.0, "exit_code": 8}]


@pytest.mark.usefixtures("stderr_hangs")
def test_the_watchdog_does_not_wait_for_its_words() -> None:
    """It may be stderr for which the stop waits."""
    end = Ending()
    stopping.Watchdog(0.0, end).start()
    assert end.wait() == [ExitCode.SHUTDOWN_TIMEOUT]
