"""`python -m tests.bed.doomed run`: the worker, whose Kafka client fails for good at SIGUSR1, by librdkafka's own injection."""

import ctypes
import gc
import signal

import confluent_kafka

from consumer.cli.main import main
from consumer.kafka.mock_cluster import _library

_FENCED = 82  # FENCED_INSTANCE_ID: another member has our name


def fail_for_good(consumer: confluent_kafka.Consumer) -> None:
    """Raises a fatal error inside the client."""
    inject = _library().rd_kafka_test_fatal_error
    inject.argtypes = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    # The client has no name for its handle: it is the first field of the Python object.
    handle = ctypes.c_void_p.from_address(id(consumer) + object.__basicsize__).value
    inject(handle, _FENCED, b"injected by a test")


def _fail(*_: object) -> None:
    for each in gc.get_objects():
        if isinstance(each, confluent_kafka.Consumer):
            fail_for_good(each)


if __name__ == "__main__":
    signal.signal(signal.SIGUSR1, _fail)
    main()
