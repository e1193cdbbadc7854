"""An upgrade as docs/upgrading.md has it: the migration under two workers that write, then the workers one after the other."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from consumer.cli.exit_codes import ExitCode
from consumer.postgres.migrate import HEAD_REVISION, migrate
from tests.bed import former
from tests.bed.events import encoded, events
from tests.bed.kafka import KafkaBroker
from tests.bed.postgres import PostgresServer
from tests.bed.worker import Workplace, wait_until

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


@contextmanager
def load(place: Workplace) -> Iterator[list[dict[str, Any]]]:
    """Events come without a pause; those that were sent."""
    sent: list[dict[str, Any]] = []
    over = threading.Event()

    def send() -> None:
        while not over.wait(0.05):
            batch = events(20)
            place.publish(encoded(batch))
            sent.extend(batch)

    thread = threading.Thread(target=send)
    thread.start()
    try:
        yield sent
    finally:
        over.set()
        thread.join()


def test_upgraded_under_load(
    kafka_broker: KafkaBroker, postgres: PostgresServer, new_topic: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is lost and nothing doubled; those that run go on, and one of the former version that starts now refuses."""
    url = postgres.new_database(migrated=False)
    with monkeypatch.context() as then:
        then.setattr("consumer.postgres.migrate.HEAD_REVISION", former.REVISION)
        migrate(url)
    place = Workplace(kafka_broker, url, new_topic(4))
    with place.worker(module="tests.bed.former") as one, place.worker(module="tests.bed.former") as two:
        with load(place) as sent:
            wait_until(lambda: place.written() > 200 and place.members() == 2, "both write")
            done = place.command("migrate")
            assert done.returncode == 0, done.stderr
            assert place.value("SELECT version_num FROM audit.alembic_version") == HEAD_REVISION
            then_written = place.written()
            wait_until(lambda: place.written() > then_written + 100, "they go on")
            with place.worker(module="tests.bed.former") as late:
                assert late.wait(60) == ExitCode.SCHEMA_VERSION
            with place.worker(), place.worker():
                for each in (one, two):
                    assert each.poll() is None
                    each.send_signal(signal.SIGTERM)
                    assert each.wait(60) == 0
                after = place.written()
                wait_until(lambda: place.written() > after + 100, "the new ones write")
        place.drain()
    place.assert_complete(sent)
    done = place.command("reconcile")
    assert done.returncode == 0, done.stdout + done.stderr
