"""Metrics and health over HTTP."""

import json
import threading
from collections.abc import Callable, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

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

    Args:
        port: 0 takes a free one; see `port`.
        registry: the metrics.
        live: whether the loop makes progress; nothing external.
        not_ready: why the worker does not do its job now; empty when it does.
    """

    def __init__(self, port: int, *, registry: CollectorRegistry, live: Callable[[], bool], not_ready: Callable[[], Sequence[str]]) -> None:
        class Handler(BaseHTTPRequestHandler):
            timeout = 10  # seconds for a client to say what it wants

            def do_GET(self) -> None:
                path = self.path.partition("?")[0]
                if path == "/metrics":
                    self._answer(200, CONTENT_TYPE_LATEST, generate_latest(registry))
                elif path == "/health/live":
                    alive = live()
                    self._json(200 if alive else 503, {"live": alive})
                elif path == "/health/ready":
                    reasons = list(not_ready())
                    self._json(503 if reasons else 200, {"ready": not reasons, "reasons": reasons})
                else:
                    self._json(404, {"error": "see /metrics, /health/live and /health/ready"})

            def _json(self, status: int, content: object) -> None:
                self._answer(status, "application/json", json.dumps(content).encode() + b"\n")

            def _answer(self, status: int, content_type: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", content_type)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Probes are no news."""

        self._server = ThreadingHTTPServer(("", port), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return self._server.server_port

    def start(self) -> None:
        """Begins to serve."""
        self._thread.start()

    def stop(self) -> None:
        """Ends."""
        self._server.shutdown()
        self._server.server_close()
