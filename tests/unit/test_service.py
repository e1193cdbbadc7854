"""What systemd hears over a real datagram socket."""

import os
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry

from consumer.core.ports import Standing
from consumer.observe.health import Heartbeat
from consumer.observe.metrics import WorkerMetrics
from consumer.observe.observer import WorkerObserver
from consumer.observe.service import ServiceManager


class Systemd:
    """The other end of the socket, and the clock."""

    def __init__(self, address: str) -> None:
        self.now = 100.0
        self.environ = {"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000000", "WATCHDOG_PID": str(os.getpid())}
        self.ear = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.ear.setblocking(False)  # noqa: FBT003 - a datagram is there at once, or never
        self.ear.bind(address.replace("@", "\0", 1))

    def service(self, **changes: str) -> ServiceManager:
        """The worker's end; the watchdog waits 20 seconds."""
        return ServiceManager({**self.environ, **changes}, lambda: self.now)

    def heard(self) -> dict[str, str]:
        """The assignments of the next datagram; empty when there is none."""
        try:
            text = self.ear.recv(65536).decode()
        except BlockingIOError:
            return {}
        return dict(line.split("=", 1) for line in text.split("\n"))


@pytest.fixture(name="systemd", params=["path", "abstract"])
def _systemd(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Systemd]:
    systemd = Systemd(str(tmp_path / "notify") if request.param == "path" else f"@integration-audit-{os.getpid()}")
    yield systemd
    systemd.ear.close()


def test_the_first_turn_ends_the_start(systemd: Systemd) -> None:
    """Also of a worker that waits for its database: the status says for what. It is said once."""
    service = systemd.service()
    assert systemd.heard() == {}
    service.turn(["PostgreSQL: refused", "no partition is assigned"])
    assert systemd.heard() == {"READY": "1", "WATCHDOG": "1", "STATUS": "waiting: PostgreSQL: refused; no partition is assigned"}
    service.turn([])
    assert systemd.heard() == {"WATCHDOG": "1", "STATUS": "ready"}
    service.turn([])
    assert systemd.heard() == {}


def test_the_watchdog_lives_on_turns(systemd: Systemd) -> None:
    """Told four times in its time, and not oftener; without turns nothing tells it."""
    service = systemd.service()
    service.turn([])
    assert systemd.heard()["WATCHDOG"] == "1"
    told = []
    for systemd.now in (100.1, 104.9, 105.0, 105.1, 109.9, 110.0, 130.0):
        service.turn([])
        if systemd.heard().get("WATCHDOG") == "1":
            told.append(systemd.now)
    assert told == [105.0, 110.0, 130.0]


def test_a_status_that_keeps_changing_does_not_starve_the_watchdog(systemd: Systemd) -> None:
    """Every message of a turn is a sign of life."""
    service = systemd.service()
    for number in range(3):
        systemd.now += 4.9
        service.turn([str(number)])
        assert systemd.heard()["WATCHDOG"] == "1"


@pytest.mark.parametrize("changes", [{"WATCHDOG_USEC": ""}, {"WATCHDOG_PID": "1"}], ids=["no watchdog", "another process"])
def test_no_watchdog(systemd: Systemd, changes: Mapping[str, str]) -> None:
    """Where none was asked for, a turn without news is silent."""
    service = systemd.service(**changes)
    service.turn([])
    assert systemd.heard()["READY"] == "1"
    systemd.now += 3600
    service.turn([])
    assert systemd.heard() == {}


def test_a_reason_can_assign_nothing(systemd: Systemd) -> None:
    """What PostgreSQL says may have several lines."""
    systemd.service().turn(["PostgreSQL: gone\nMAINPID=1"])
    assert systemd.heard().keys() == {"READY", "WATCHDOG", "STATUS"}


def test_stopping(systemd: Systemd) -> None:
    """The end is told."""
    systemd.service().stopping()
    assert systemd.heard()["STOPPING"] == "1"


def test_what_was_not_heard_is_said_again(systemd: Systemd) -> None:
    """Systemd reads nothing for a while: nobody waits for it, and the start is told later."""
    service = systemd.service()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as flood, suppress(BlockingIOError):
        flood.setblocking(False)  # noqa: FBT003 - until the queue is full
        while True:
            flood.sendto(b"X=1", systemd.environ["NOTIFY_SOCKET"].replace("@", "\0", 1))
    service.turn([])
    while systemd.heard().get("X"):
        pass
    service.turn([])
    assert systemd.heard()["READY"] == "1"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1"])
def test_without_systemd_nothing_happens(address: str) -> None:
    """No socket, a socket that is gone, and one of a kind that is not spoken."""
    service = ServiceManager({"NOTIFY_SOCKET": address}, lambda: 0.0)
    service.turn(["starting"])
    service.stopping()
    assert not Path(address or ".").is_socket()


def test_the_observer_tells_of_each_turn(systemd: Systemd) -> None:
    """The loop's beat is what systemd hears, with the reasons of the readiness probe."""
    clock: Callable[[], float] = lambda: systemd.now  # noqa: E731 - a clock
    observer = WorkerObserver(WorkerMetrics(CollectorRegistry()), Heartbeat(clock), clock, systemd.service())
    observer.event("started")
    assert systemd.heard() == {}
    observer.beat(Standing(["no partition is assigned"]))
    assert systemd.heard()["STATUS"] == "waiting: no partition is assigned"
    observer.stopping()
    assert systemd.heard()["STOPPING"] == "1"
