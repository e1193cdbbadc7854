"""`integration-audit run`: the worker."""

import os
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future, wait
from functools import partial

import click
import structlog

from consumer.cli.exit_codes import CommandError, ExitCode
from consumer.cli.interpreter import tune_interpreter
from consumer.cli.last_words import LastWords
from consumer.cli.stopping import Watchdog, graceful_stop
from consumer.cli.wiring import Drain, database_connector, observation, worker_parts
from consumer.core.errors import Cause, ConfigurationError, FatalSourceError, TransientError
from consumer.core.pause import Backoff
from consumer.core.ports import Standing
from consumer.observe.logs import configure_logging
from consumer.observe.observer import WorkerObserver
from consumer.postgres.migrate import HEAD_REVISION
from consumer.postgres.positions import DatabaseState, read_state
from consumer.postgres.retention import tell_retention
from consumer.setting_values import show_duration
from consumer.settings import Settings, load_settings
from consumer.worker import PATIENCE


@click.command()
@click.option("--drain", is_flag=True, help="Stop when everything that was in the topics at the start is accounted for.")
def command(*, drain: bool) -> None:
    """Write the events of the topics into the audit log, until told to stop.

    SIGTERM and SIGINT stop gracefully: the batch in hand is finished or rolled back. A second signal ends at once. After
    AUDIT_SHUTDOWN_GRACE the process ends in any case, with its own exit code.
    """
    _begin_log(os.environ)
    settings = load_settings(os.environ)
    settings.require_kafka()
    settings.require_database()
    configure_logging(settings.log_level, settings.log_format)
    stopped = threading.Event()
    watchdog = Watchdog(settings.shutdown_grace.total_seconds())
    with graceful_stop(stopped.set, watchdog), observation(settings) as observer:
        if wait_for_schema(settings, stopped, observer):
            _run(settings, observer, drain=drain, stopped=stopped, watchdog=watchdog)
    watchdog.cancel()
    structlog.get_logger().info("stopped")


def _begin_log(environ: Mapping[str, str]) -> None:
    """Before the settings are known: that they can't be used is a line of the log too."""
    configure_logging("info", "console" if environ.get("AUDIT_LOG_FORMAT", "").lower() == "console" else "json")
    click.get_current_context().ensure_object(LastWords).log()


def _run(settings: Settings, observer: WorkerObserver, *, drain: bool, stopped: threading.Event, watchdog: Watchdog) -> None:
    tune_interpreter()
    with worker_parts(settings, observer) as parts:
        structlog.get_logger().info("started", topics=list(settings.kafka_topics), group=settings.kafka_group_id)
        try:
            done = Drain(parts, settings).done if drain else lambda: False
            parts.worker.run(stopped.is_set, done, grace=settings.shutdown_grace.total_seconds())
        except FatalSourceError as error:
            raise CommandError(f"the Kafka client failed for good: {error}", ExitCode.FATAL_CLIENT) from error
        finally:
            observer.stopping()
            watchdog.start()  # closing has no bound of its own, whatever brought us here


def wait_for_schema(settings: Settings, stopped: threading.Event, observer: WorkerObserver) -> bool:
    """Waits for the database, looks at its schema, and tells it the retention; false when told to stop meanwhile.

    Raises:
        CommandError: the schema is older or newer than this version.
    """
    log = structlog.get_logger()
    backoff = Backoff(lambda: 0.5)
    standing = Standing(["PostgreSQL: no answer yet"], {Cause.DATABASE})
    said: str | None = None
    while not stopped.is_set():
        try:
            state = _ask(settings, stopped, partial(observer.beat, standing))
        except TransientError as error:
            standing = Standing([str(error)], {error.cause})
            observer.beat(standing)
            if str(error) != said:
                said = str(error)
                remedy = _REMEDY if isinstance(error, ConfigurationError) else None
                log.warning("held", reason=said, cause=error.cause.value, remedy=remedy)
            stopped.wait(backoff.next())
            continue
        if state is None:
            break
        if state.superuser:
            log.warning("superuser", role=state.role, remedy="give the worker a role of its own: GRANT audit_writer TO its_role")
        if state.revision == HEAD_REVISION:
            return True
        older = state.revision is None or state.revision < HEAD_REVISION
        raise CommandError(
            f"the database's schema is at {state.revision or 'nothing'}, this version needs {HEAD_REVISION}: "
            + ("run `integration-audit migrate`" if older else "install the newer version of integration-audit that made it"),
            ExitCode.SCHEMA_VERSION,
        )
    return False


def _ask(settings: Settings, stopped: threading.Event, waiting: Callable[[], None]) -> DatabaseState | None:
    """How the database is; None when told to stop before it has answered. `waiting` is called while it does not.

    In a thread that the end does not wait for: a round over silent hosts takes five seconds for each, and the worker is alive meanwhile.
    """
    answer: Future[DatabaseState] = Future()

    def ask() -> None:
        try:
            answer.set_result(_greet(settings))
        except Exception as error:  # noqa: BLE001 - it is raised where the answer is taken
            answer.set_exception(error)

    threading.Thread(target=ask, name="schema", daemon=True).start()
    while not wait((answer,), PATIENCE).done:
        if stopped.is_set():
            return None
        waiting()
    return answer.result()


def _greet(settings: Settings) -> DatabaseState:
    connect = database_connector(settings)
    state = read_state(connect)
    if state.revision == HEAD_REVISION:
        tell_retention(connect, "worker", show_duration(settings.retention))
    return state


_REMEDY = "check AUDIT_DATABASE_URL, the password, and that the role is granted audit_writer"
