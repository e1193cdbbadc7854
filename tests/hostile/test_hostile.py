"""The short form of `make hostile`."""

from pathlib import Path

import psycopg
import pytest

from consumer.core.errors import Reason
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace
from tests.hostile.run import HostileRun

pytestmark = [pytest.mark.kafka, pytest.mark.postgres]


def test_some_thousand_hostile_messages(kafka_broker: KafkaBroker, database: str, topic: str, tmp_path: Path) -> None:
    """No crash, bounded memory, exact books; all of the hostile ones in quarantine byte for byte, all of the good ones in the log."""
    place = Workplace(kafka_broker, database, topic)
    run = HostileRun(place, tmp_path, seed=7)
    run.run(8_000)
    run.verify()
    assert set(run.truth.reasons) == {reason.value for reason in Reason}
    assert min(run.truth.books[name] for name in ("written", "duplicates", "quarantined", "tombstones")) > 0
    with psycopg.connect(database) as connection:  # and the verdict notices what is not so
        connection.execute("ALTER TABLE audit.quarantine DISABLE TRIGGER ALL")
        connection.execute("UPDATE audit.quarantine SET value = value || 'x' WHERE id = (SELECT min(id) FROM audit.quarantine)")
    with pytest.raises(AssertionError, match="not what was sent"):
        run.verify()
