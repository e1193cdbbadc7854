"""Traces: one span a batch write, linked to the spans of those who sent its messages.

OpenTelemetry's own environment says where they go (`OTEL_EXPORTER_OTLP_ENDPOINT`, …); without that, or without the extra `otel`, there are
none, and no header is read.
"""

import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from consumer.core.events import PartitionSlice
from consumer.core.framing import HeadedMessage, Headers

MOST_LINKS = 128
"""Of one span; the SDK keeps no more."""
FLUSH = 2.0
"""Seconds for the last spans at the end."""
_CONTEXT = ("traceparent", "tracestate")


class Tracing:
    """Sends spans from a thread of the SDK's; whoever collects them may be away.

    Args:
        provider: an SDK's tracer provider, which sends.
    """

    def __init__(self, provider: Any) -> None:
        from opentelemetry import trace  # noqa: PLC0415 - an extra
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator  # noqa: PLC0415

        self._trace = trace
        self._provider = provider
        self._tracer = provider.get_tracer("integration-audit")
        self._propagator = TraceContextTextMapPropagator()

    def batch_written(self, slices: Sequence[PartitionSlice], seconds: float) -> None:
        """A write of so many seconds has been committed."""
        end = time.time_ns()
        topics = sorted({part.partition.topic for part in slices})
        span = self._tracer.start_span(
            "write batch",
            kind=self._trace.SpanKind.CONSUMER,
            links=self._links(slices),
            start_time=end - int(seconds * 1e9),
            attributes={
                "messaging.system": "kafka",
                "messaging.operation.type": "process",
                "messaging.destination.name": ",".join(topics),
                "messaging.batch.message_count": sum(part.messages for part in slices),
            },
        )
        span.end(end)

    def close(self) -> None:
        """Sends what is left, within FLUSH: nobody waits for whoever collects."""
        closing = threading.Thread(target=self._provider.shutdown, name="traces", daemon=True)
        closing.start()
        closing.join(FLUSH)

    def _links(self, slices: Sequence[PartitionSlice]) -> list[Any]:
        links: dict[tuple[int, int], Any] = {}
        for carrier in map(_carrier, _headers(slices)):
            if "traceparent" not in carrier:
                continue
            context = self._trace.get_current_span(self._propagator.extract(carrier)).get_span_context()
            if context.is_valid:
                links.setdefault((context.trace_id, context.span_id), self._trace.Link(context))
            if len(links) == MOST_LINKS:
                break
        return list(links.values())


def open_tracing(environ: Mapping[str, str]) -> Tracing | None:
    """The tracing that the environment asks for; None where it asks for none, or the extra is not installed."""
    endpoint = environ.get("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT") or environ.get("OTEL_EXPORTER_OTLP_ENDPOINT")
    if not endpoint or environ.get("OTEL_SDK_DISABLED", "").lower() == "true" or environ.get("OTEL_TRACES_EXPORTER", "otlp") != "otlp":
        return None
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter  # noqa: PLC0415 - an extra
        from opentelemetry.sdk.resources import Resource  # noqa: PLC0415
        from opentelemetry.sdk.trace import TracerProvider  # noqa: PLC0415
        from opentelemetry.sdk.trace.export import BatchSpanProcessor  # noqa: PLC0415
    except ImportError:
        return None
    name = {} if "OTEL_SERVICE_NAME" in environ else {"service.name": "integration-audit"}
    provider = TracerProvider(resource=Resource.create(name), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return Tracing(provider)


def _headers(slices: Sequence[PartitionSlice]) -> Iterator[Headers | None]:
    """Those that were read when the messages came."""
    for part in slices:
        yield from (message.schema_headers for message, _ in part.rows if isinstance(message, HeadedMessage))
        yield from (message.headers for message in part.quarantined)


def _carrier(headers: Headers | None) -> dict[str, str]:
    return {name: value.decode("ascii", "replace") for name, value in headers or () if value is not None and name in _CONTEXT}
