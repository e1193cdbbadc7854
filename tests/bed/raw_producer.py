"""Sends what the Python client can't: a header whose name is not UTF-8. Straight through librdkafka."""

import ctypes
from pathlib import Path

import confluent_kafka

# The tags of rd_kafka_producev, from rdkafka.h (enum rd_kafka_vtype_t).
_END, _TOPIC, _PARTITION, _VALUE, _FLAGS, _HEADER = 0, 1, 3, 4, 7, 9
_COPY = 2


def produce_with_header_name(bootstrap_servers: str, topic: str, value: bytes, name: bytes, count: int) -> None:
    """Sends `count` messages to partition 0, each with one header of this name."""
    (path,) = (Path(confluent_kafka.__file__).parent.parent / "confluent_kafka.libs").glob("librdkafka*")
    library = ctypes.CDLL(str(path))
    library.rd_kafka_conf_new.restype = library.rd_kafka_new.restype = ctypes.c_void_p
    error = ctypes.create_string_buffer(512)
    config = ctypes.c_void_p(library.rd_kafka_conf_new())
    library.rd_kafka_conf_set(config, b"bootstrap.servers", bootstrap_servers.encode(), error, 512)
    client = ctypes.c_void_p(library.rd_kafka_new(0, config, error, 512))
    for _ in range(count):
        result = library.rd_kafka_producev(
            client,
            *(_TOPIC, ctypes.c_char_p(topic.encode())),
            *(_PARTITION, ctypes.c_int32(0)),
            *(_FLAGS, _COPY),
            *(_VALUE, ctypes.c_char_p(value), ctypes.c_size_t(len(value))),
            *(_HEADER, ctypes.c_char_p(name), ctypes.c_char_p(b"val"), ctypes.c_ssize_t(3)),
            _END,
        )
        assert result == 0
    assert library.rd_kafka_flush(client, 30_000) == 0
    library.rd_kafka_destroy(client)
