"""What a registry, or whoever answers in its place, may make the client do."""

import gzip
import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from consumer.core.errors import HostileSchemaError, TransientError
from consumer.kafka.registry import LONGEST_ANSWER, SchemaRegistry

ID = (7).to_bytes(4, "big")


@contextmanager
def answering(body: bytes, **headers: str) -> Iterator[SchemaRegistry]:
    """A registry that says this, whatever it is asked."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            for name, value in {"Content-Type": "application/json", "Content-Length": str(len(body)), **headers}.items():
                self.send_header(name.replace("_", "-"), value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        registry = SchemaRegistry(lambda: {"url": f"http://127.0.0.1:{server.server_port}"})
        try:
            yield registry
        finally:
            registry.close()
            server.shutdown()


def test_an_answer_is_read_up_to_a_bound() -> None:
    """The client itself would take all of it into memory."""
    schema = json.dumps({"type": "record", "name": "R", "fields": []})
    with answering(json.dumps({"schema": schema}).encode()) as registry:
        assert registry.fetch(ID) == json.loads(schema)
    with (
        answering(json.dumps({"schema": schema + " " * LONGEST_ANSWER}).encode()) as registry,
        pytest.raises(HostileSchemaError, match="longer"),
    ):
        registry.fetch(ID)


def test_a_compressed_answer_is_refused() -> None:
    """A few kilobytes could become gigabytes."""
    with answering(gzip.compress(b"{}"), Content_Encoding="gzip") as registry, pytest.raises(HostileSchemaError, match="compressed"):
        registry.fetch(ID)


def test_a_header_that_can_not_be_sent_is_not_told() -> None:
    """The HTTP library's error quotes it, and it may be the token."""
    config = {
        "url": "http://127.0.0.1:9",
        "bearer.auth.credentials.source": "STATIC_TOKEN",
        "bearer.auth.token": "PLANTED\nPLANTED",
        "bearer.auth.logical.cluster": "",
    }
    with pytest.raises(TransientError) as caught:
        SchemaRegistry(lambda: config).fetch(ID)
    assert "PLANTED" not in str(caught.value)
