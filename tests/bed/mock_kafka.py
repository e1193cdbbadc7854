"""librdkafka's mock cluster, which answers a request with the error that a test wants: for injection, never as proof."""

import ctypes
from typing import Self

from consumer.kafka.mock_cluster import MockCluster

OFFSET_COMMIT = 8
"""The protocol's number of the request."""


class MockKafka(MockCluster):
    """Looks like a KafkaBroker to a Workplace."""

    def __enter__(self) -> Self:
        """Starts it."""
        super().__enter__()
        self._library.rd_kafka_mock_push_request_errors_array.argtypes = (
            ctypes.c_void_p, ctypes.c_int16, ctypes.c_size_t, ctypes.POINTER(ctypes.c_int),
        )  # fmt: skip
        return self

    @property
    def client(self) -> dict[str, str | int | float | bool]:
        """Settings of a client's connection."""
        return {"bootstrap.servers": self.bootstrap_servers, "log_level": 2}

    def fail(self, request: int, *codes: int) -> None:
        """Answers the next requests of this kind with these errors, one each."""
        array = (ctypes.c_int * len(codes))(*codes)
        self._library.rd_kafka_mock_push_request_errors_array(self._cluster, request, len(codes), array)
