"""A real worker under something that listens as systemd does."""

import signal
import socket
from pathlib import Path

import pytest

from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_worker_tells_systemd_of_its_life(kafka_broker: KafkaBroker, database: str, topic: str, tmp_path: Path) -> None:
    """Up, ready, again and again alive, and stopping; and silent while it is frozen, which is what the watchdog is for."""
    place = Workplace(kafka_broker, database, topic)
    address = str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
        ear.bind(address)
        ear.settimeout(60)

        def hear_until(wanted: str) -> list[str]:
            heard: list[str] = []
            while wanted not in heard:
                heard += ear.recv(65536).decode().split("\n")
            return heard

        with place.worker(NOTIFY_SOCKET=address, WATCHDOG_USEC="400000") as worker:
            assert "READY=1" in hear_until("STATUS=ready")
            assert "STATUS=ready" in hear_until("WATCHDOG=1")
            worker.send_signal(signal.SIGSTOP)
            ear.settimeout(2)
            with pytest.raises(TimeoutError):
                hear_until("never")
            ear.settimeout(60)
            worker.send_signal(signal.SIGCONT)
            hear_until("WATCHDOG=1")
            worker.send_signal(signal.SIGTERM)
            hear_until("STOPPING=1")
            assert worker.wait(timeout=60) == 0
