"""Metrics and health over real HTTP."""

import json
import socket
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from http.client import HTTPConnection

import pytest
from prometheus_client import CollectorRegistry

from consumer.observe.health import HealthServer, Heartbeat
from consumer.observe.metrics import WorkerMetrics


def has_ipv6() -> bool:
    """Whether this machine's loopback interface has it."""
    with suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        return True
    return False


class State:
    """What the worker would say."""

    def __init__(self) -> None:
        self.alive = True
        self.reasons: Sequence[str] = ()
        self.registry = CollectorRegistry()
        self.metrics = WorkerMetrics(self.registry)


@contextmanager
def serving(live: Callable[[], bool], not_ready: Callable[[], Sequence[str]], registry: CollectorRegistry) -> Iterator[HealthServer]:
    """A server on a free port of this machine."""
    server = HealthServer(0, registry=registry, live=live, not_ready=not_ready, host="127.0.0.1")
    server.start()
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(name="state")
def _state() -> State:
    return State()


@pytest.fixture(name="server")
def _server(state: State) -> Iterator[HealthServer]:
    with serving(lambda: state.alive, lambda: state.reasons, state.registry) as server:
        yield server


def get(server: HealthServer, path: str) -> tuple[int, str]:
    """Status and body."""
    connection = HTTPConnection("127.0.0.1", server.port, timeout=10)
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read().decode()
    finally:
        connection.close()


def test_ready_says_why_not(state: State, server: HealthServer) -> None:
    """And is read anew each time."""
    assert get(server, "/health/ready") == (200, '{"ready": true, "reasons": []}\n')
    state.reasons = ("no partition", "PostgreSQL: is shutting down")
    status, body = get(server, "/health/ready?probe=1")
    assert (status, json.loads(body)) == (503, {"ready": False, "reasons": list(state.reasons)})


def test_live_follows_the_loop_only(state: State, server: HealthServer) -> None:
    """A worker that waits for its database is alive."""
    state.reasons = ("PostgreSQL",)
    assert get(server, "/health/live") == (200, '{"live": true}\n')
    state.alive = False
    assert get(server, "/health/live") == (503, '{"live": false}\n')


@pytest.mark.parametrize("path", ["/health/live", "/metrics"])
def test_head_is_get_without_a_body(server: HealthServer, path: str) -> None:
    """Some probes ask so. Not by a client that would drop a body unseen."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as raw:
        raw.sendall(f"HEAD {path} HTTP/1.0\r\n\r\n".encode())
        answer = b"".join(iter(lambda: raw.recv(65_536), b""))
    head, end, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.0 200")
    assert f"Content-Length: {len(get(server, path)[1])}".encode() in head
    assert (end, body) == (b"\r\n\r\n", b"")


def test_other_paths_do_not_exist(server: HealthServer) -> None:
    """The answer says which ones do."""
    status, body = get(server, "/")
    assert status == 404
    assert "/health/ready" in body


def test_an_error_while_answering_is_an_answer(capfd: pytest.CaptureFixture[str]) -> None:
    """Named by its type; no traceback in the logs, and the server goes on."""

    def broken() -> bool:
        raise ZeroDivisionError("with a secret")

    with serving(broken, tuple, CollectorRegistry()) as server:
        assert get(server, "/health/live") == (503, '{"error": "ZeroDivisionError"}\n')
        assert get(server, "/health/ready")[0] == 200
    assert capfd.readouterr().err == ""


def test_a_silent_client_holds_nobody_up(server: HealthServer) -> None:
    """Each connection has its own thread."""
    with socket.create_connection(("127.0.0.1", server.port)):
        assert get(server, "/health/live")[0] == 200


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_it_listens_on_every_address(state: State, host: str) -> None:
    """Of a machine or a cluster that has IPv6 only, too."""
    if host == "::1" and not has_ipv6():
        pytest.skip("this machine has no IPv6")
    server = HealthServer(0, registry=state.registry, live=lambda: True, not_ready=tuple)
    server.start()
    try:
        connection = HTTPConnection(host, server.port, timeout=10)
        connection.request("GET", "/health/live")
        assert connection.getresponse().status == 200
        connection.close()
    finally:
        server.stop()


def test_it_listens_where_there_is_no_ipv6(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    """On IPv4 alone."""
    monkeypatch.setattr(socket, "has_dualstack_ipv6", lambda: False)
    server = HealthServer(0, registry=state.registry, live=lambda: True, not_ready=tuple)
    server.start()
    try:
        assert get(server, "/health/live")[0] == 200
    finally:
        server.stop()


def test_stop_closes_the_port(state: State) -> None:
    """Also of a server that was never started."""
    with serving(lambda: True, tuple, state.registry) as server:
        port = server.port
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))
    HealthServer(0, registry=state.registry, live=lambda: True, not_ready=tuple, host="127.0.0.1").stop()


def test_metrics_have_their_names(state: State, server: HealthServer) -> None:
    """Dashboards rely on them; a number that was counted is shown."""
    state.metrics.written.labels(action="add oauth client", outcome="SUCCESS").inc(3)
    state.metrics.quarantined.labels(reason="undecodable").inc()
    state.metrics.pauses.labels(cause="database").inc()
    state.metrics.rebalances.labels(kind="lost").inc()
    state.metrics.position.labels(topic="t", partition=0).set(17)
    status, body = get(server, "/metrics")
    assert status == 200
    lines = body.splitlines()
    prefix = "integration_audit_"
    for line in (
        'events_written_total{action="add oauth client",outcome="SUCCESS"} 3.0',
        'events_written_total{action="generate API token",outcome="VALIDATION ERROR"} 0.0',
        'quarantined_total{reason="undecodable"} 1.0',
        "duplicates_total 0.0",
        "tombstones_total 0.0",
        "skipped_offsets_total 0.0",
        "expired_offsets_total 0.0",
        "batches_total 0.0",
        "write_seconds_count 0.0",
        "batch_messages_count 0.0",
        'quarantined_total{reason="conflict"} 0.0',
        'pauses_total{cause="database"} 1.0',
        'pauses_total{cause="topic"} 0.0',
        'held{cause="registry"} 0.0',
        'missing_rights{kind="group"} 0.0',
        'rebalances_total{kind="lost"} 1.0',
        'position{partition="0",topic="t"} 17.0',
        "assigned_partitions 0.0",
        "ready 0.0",
    ):
        assert prefix + line in lines
    helps = [line for line in lines if line.startswith("# HELP integration_audit_") and "_created" not in line]
    assert all(line.endswith(".") for line in helps)


def test_a_heartbeat_ages_until_the_next_beat() -> None:
    """By the clock that was given."""
    now = [10.0]
    heart = Heartbeat(lambda: now[0])
    now[0] = 12.5
    assert heart.age() == 2.5
    heart.beat()
    assert heart.age() == 0.0
