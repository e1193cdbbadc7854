"""Traces of a real worker, as a collector receives them."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

from consumer.core.events import Partition
from consumer.core.slicing import Cursor
from consumer.observe.traces import open_tracing
from tests.bed.events import FakeMessage, decoder, message_value, slices_of
from tests.bed.kafka import KafkaBroker
from tests.bed.worker import Workplace, wait_until

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = ("traceparent", f"00-{TRACE}-00f067aa0ba902b7-01".encode())


class Collector:
    """Takes spans by OTLP over HTTP."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        taken = self.requests

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                taken.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                """Nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def settings(self) -> dict[str, str]:
        """What makes a worker send them here, soon."""
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.server.server_port}", "OTEL_BSP_SCHEDULE_DELAY": "50"}

    @property
    def spans(self) -> list[Any]:
        """What came."""
        return [span for request in self.requests for each in request.resource_spans for scope in each.scope_spans for span in scope.spans]


@pytest.fixture(name="collector")
def _collector() -> Iterator[Collector]:
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_batch_is_linked_to_its_producers(kafka_broker: KafkaBroker, database: str, topic: str, collector: Collector) -> None:
    """One span a write; a link for each span of a producer, also of a message that went into quarantine; the headers are kept there."""
    place = Workplace(kafka_broker, database, topic)
    place.publish([message_value()] * 3, partition=0, headers=[PARENT])
    place.publish([b"garbage"], partition=0, headers=[("traceparent", PARENT[1].replace(b"00f0", b"11f0")), ("other", b"x")])
    place.publish([message_value()], partition=0, headers=[("traceparent", b"nonsense")])
    place.drain(**collector.settings)
    wait_until(lambda: sum(_messages(span) for span in collector.spans) == 5, "the spans")
    links = {(link.trace_id.hex(), link.span_id.hex()) for span in collector.spans for link in span.links}
    assert links == {(TRACE, "00f067aa0ba902b7"), (TRACE, "11f067aa0ba902b7")}
    assert all(span.name == "write batch" and span.end_time_unix_nano > span.start_time_unix_nano for span in collector.spans)
    (resource,) = {request.resource_spans[0].resource.SerializeToString() for request in collector.requests}
    assert b"integration-audit" in resource
    assert place.value("SELECT jsonb_array_length(headers) FROM audit.quarantine") == 2


@pytest.mark.kafka
@pytest.mark.postgres
def test_a_collector_that_is_away_changes_nothing(kafka_broker: KafkaBroker, database: str, topic: str) -> None:
    """All is written, and the end is in time."""
    place = Workplace(kafka_broker, database, topic)
    place.publish([message_value()], headers=[PARENT])
    place.drain(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9", OTEL_BSP_SCHEDULE_DELAY="50")
    assert place.written() == 1


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": ""},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_SDK_DISABLED": "true"},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x", "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_without_an_endpoint_there_is_nothing(environ: dict[str, str]) -> None:
    """Nor where the SDK is switched off."""
    assert open_tracing(environ) is None


def test_without_the_extra_there_is_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though an endpoint be configured."""
    monkeypatch.setitem(__import__("sys").modules, "opentelemetry.sdk.trace", None)
    assert open_tracing({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://x"}) is None


def test_headers_are_read_only_for_traces() -> None:
    """A message as it comes is sliced without a look at its headers."""

    class Untouchable(FakeMessage):
        def headers(self) -> Any:
            raise AssertionError

    (part,) = slices_of([Untouchable(message_value(), 0)], {Partition("topic", 0): Cursor("id", 0)}, decoder(), (0, 2**62))
    assert len(part.rows) == 1


def _messages(span: Any) -> int:
    return next(int(each.value.int_value) for each in span.attributes if each.key == "messaging.batch.message_count")
