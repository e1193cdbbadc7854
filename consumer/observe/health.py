"""Metrics and health over HTTP."""

import json
import socket
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest


class Heartbeat:
    """When the loop last made a turn."""

    def __init__(self, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._last = monotonic()

    def beat(self) -> None:
        """A turn was made."""
        self._last = self._monotonic()

    def age(self) -> float:
        """Seconds since."""
        return self._monotonic() - self._last


class HealthServer:
    """Serves /metrics, /health/live and /health/ready.

    A probe always gets an answer: what fails while one is made becomes a 503 that names the error's type.

    Args:
        port: 0 takes a free one; see `port`.
        registry: the metrics.
        live: whether the loop makes progress; nothing external.
        not_ready: why the worker does not do its job now; empty when it does.
        host: the address to listen on; None: every one, IPv4 and IPv6, for probes and Prometheus come from other machines.
    """

    def __init__(
        self,
        port: int,
        *,
        registry: CollectorRegistry,
        live: Callable[[], bool],
        not_ready: Callable[[], Sequence[str]],
        host: str | None = None,
    ) -> None:
        def answer(path: str) -> tuple[int, str, bytes]:
            if path == "/metrics":
                return 200, CONTENT_TYPE_LATEST, generate_latest(registry)
            if path == "/health/live":
                alive = live()
                return _json(200 if alive else 503, {"live": alive})
            if path == "/health/ready":
                reasons = list(not_ready())
                return _json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})
            return _json(404, {"error": "see /metrics, /health/live and /health/ready"})

        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a client to say what it wants

            def do_HEAD(self) -> None:
                self.do_GET()

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                try:
                    status, content_type, body = answer(path)
                except Exception as error:  # noqa: BLE001 - the prober must not wait for an answer that never comes
                    status, content_type, body = _json(503, {"error": type(error).__name__})
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes are no news."""

        self._server = _Server((host or _everywhere(), port), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends; also when it never began."""
        if self._thread.is_alive():  # shutdown waits for a loop that would never end otherwise
            self._server.shutdown()
            self._thread.join()
        self._server.server_close()


def _everywhere() -> str:
    return "::" if socket.has_dualstack_ipv6() else "0.0.0.0"  # noqa: S104 - as above


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: tuple[str, int], handler: type[BaseHTTPRequestHandler]) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        super().__init__(address, handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)  # IPv4 comes in here too
        TCPServer.server_bind(self)  # not HTTPServer's, which asks DNS for a name that nobody needs
        self.server_name, self.server_port = self.server_address[:2]  # type: ignore[assignment]

    def handle_error(self, *_: object) -> None:
        """A client that went away is no news, and a traceback would not be JSON."""


def _json(status: int, content: object) -> tuple[int, str, bytes]:
    return status, "application/json", json.dumps(content).encode() + b"\n"
