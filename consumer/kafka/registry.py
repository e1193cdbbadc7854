"""The schema registry, through confluent-kafka's own client; it tries once, and the worker decides when to try again."""

import json
import threading
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import httpx2
from confluent_kafka.schema_registry import Schema, SchemaRegistryClient
from confluent_kafka.schema_registry.error import SchemaRegistryError

from consumer.core.errors import Cause, ConfigurationError, HostileSchemaError, TransientError
from consumer.core.ports import Answers
from consumer.core.references import self_contained

TIMEOUT = 5.0
"""Seconds for connecting and for each silence of an answer; the client's own default is for ever."""
MOST_REFERENCES = 50
"""Schemas that one schema may refer to, by one or several steps."""
LONGEST = 1024**2
"""Characters of a schema."""

LONGEST_ANSWER = 4 * 1024**2
"""Bytes; in JSON a schema's quotes take two each."""

_UNKNOWN = range(40400, 40500)
"""A registry's own words for: no such subject, version, schema. Any other 404 may as well be a wrong address."""
_LATER = (408, 425, 429)

Config = Callable[[], Mapping[str, Any]]
"""The client's settings; called again where the registry refuses us, for a password or certificate may have been changed."""


class SchemaRegistry:
    """Reads schemas. For one thread.

    Args:
        config: of the client.

    Raises:
        ConfigurationError: the client refuses its settings.
    """

    def __init__(self, config: Config) -> None:
        self._config = config
        self._client: SchemaRegistryClient | None = None
        self._open()

    def _open(self) -> SchemaRegistryClient:
        if self._client is None:
            try:
                fixed = {"timeout": TIMEOUT, "max.retries": 0, "cache.capacity": 100}
                self._client = SchemaRegistryClient.new_client({**self._config(), **fixed})
                session = self._client._rest_client.session  # noqa: SLF001 - the client reads answers of any length
                session.headers["Accept-Encoding"] = "identity"
                session.event_hooks = {"response": [_bound]}
            except (OSError, ValueError, TypeError) as error:  # ssl.SSLError is an OSError
                raise ConfigurationError(f"Schema registry: the client refuses its settings: {error}", Cause.REGISTRY) from error
        return self._client

    def close(self) -> None:
        """Closes the connections."""
        client, self._client = self._client, None
        if client is not None:
            client.close()

    def fetch(self, name: bytes) -> Mapping[str, Any] | None:
        """The self-contained schema of this id (4 bytes) or GUID (16); None where the registry does not know it.

        Raises:
            TransientError: the registry can't be asked; ConfigurationError where somebody must change something.
            HostileSchemaError: what it has there can't be a writer's schema.
        """
        try:
            client = self._open()
            if len(name) == 16:
                schema = client.get_schema_by_guid(str(uuid.UUID(bytes=name)))
            else:
                schema = client.get_schema(int.from_bytes(name, "big"))
            return self._whole(client, schema)
        except HostileSchemaError:
            raise
        except TransientError:
            self.close()  # the client keeps what it took for a schema
            raise
        except SchemaRegistryError as error:
            if self._is_no(error):
                return None
            raise self._failure(error) from error
        except httpx2.HTTPError as error:
            raise TransientError(_unreachable(error), Cause.REGISTRY) from error
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise _no_registry(error) from error

    def check(self) -> None:
        """Raises what `fetch` would, unless the registry answers."""
        try:
            answer = self._open().get_schema_types()
        except SchemaRegistryError as error:
            raise self._failure(error) from error
        except httpx2.HTTPError as error:
            raise TransientError(_unreachable(error), Cause.REGISTRY) from error
        except (ValueError, TypeError, AttributeError, KeyError, RecursionError) as error:
            raise _no_registry(error) from error
        if not isinstance(answer, list):
            raise _no_registry(None)

    def _whole(self, client: SchemaRegistryClient, schema: Schema) -> Mapping[str, Any]:
        root = _parsed(schema)
        referenced: dict[tuple[str, int], Any] = {}
        open_ = list(schema.references or ())
        while open_:
            each = open_.pop()
            place = (each.subject or "", each.version or 0)
            if place in referenced:
                continue
            if len(referenced) == MOST_REFERENCES:
                raise HostileSchemaError(f"it refers to more than {MOST_REFERENCES} schemas")
            found = client.get_version(*place).schema
            referenced[place] = _parsed(found)
            open_ += found.references or ()
        whole = self_contained(root, referenced.values())
        if not isinstance(whole, dict):
            raise HostileSchemaError("it is no record")
        return whole

    def _is_no(self, error: SchemaRegistryError) -> bool:
        """Whether the registry says that it has no such schema. Only its own words count, or else that it answers other questions."""
        status = error.http_status_code
        if status == 404 and error.error_code in _UNKNOWN:
            return True
        if 400 <= status < 500 and status not in (401, 403, *_LATER):
            self.check()
            return True
        return False

    def _failure(self, error: SchemaRegistryError) -> TransientError:
        status = error.http_status_code
        if status in (401, 403):
            self.close()  # the next try reads the secrets anew
            return ConfigurationError(
                f"Schema registry: it refuses us (HTTP {status}): check user, password, token and rights of reading", Cause.REGISTRY
            )
        if 300 <= status < 500 and status not in _LATER:
            return ConfigurationError(
                f"Schema registry: HTTP {status}, as no registry answers: check the path of AUDIT_SCHEMA_REGISTRY_URL", Cause.REGISTRY
            )
        return TransientError(f"Schema registry: HTTP {status}", Cause.REGISTRY)


class BackgroundRegistry:
    """Asks in a thread of its own; at most one call in flight, so an id is never asked for twice at a time."""

    def __init__(self, registry: SchemaRegistry) -> None:
        self._registry = registry
        self._answers: Answers | None = None
        self._done = threading.Event()
        self.busy = False
        """Whether a call was started whose result nobody has taken."""

    def start_fetch(self, names: Sequence[bytes]) -> None:
        """Begins to ask for these ids or GUIDs, one after the other until a failure."""
        if self.busy:
            raise RuntimeError("a call is in flight")
        self.busy = True
        self._done.clear()
        # No pool: its thread would be waited for at the interpreter's end, however long an answer takes.
        threading.Thread(target=self._fetch, args=(list(names),), name="registry", daemon=True).start()

    def wait(self, timeout: float) -> bool:
        """Waits at most `timeout` seconds; true when the result can be taken."""
        return self._done.wait(timeout)

    def result(self) -> Answers:
        """Takes the finished call's result."""
        answers, self._answers, self.busy = self._answers, None, False
        if answers is None:
            raise RuntimeError("no call was finished")
        return answers

    def _fetch(self, names: Sequence[bytes]) -> None:
        answers = Answers()
        try:
            for name in names:
                try:
                    schema = self._registry.fetch(name)
                except HostileSchemaError as error:
                    answers.refused[name] = str(error)
                    continue
                if schema is None:
                    answers.unknown.append(name)
                else:
                    answers.found[name] = schema
        except TransientError as error:
            answers.failure = error
        except BaseException as error:  # noqa: BLE001 - it must not be lost with the thread: held and said, like an outage
            answers.failure = TransientError(f"Schema registry: unexpected {type(error).__name__}", Cause.REGISTRY)
        self._answers = answers
        self._done.set()


class _BoundedStream(httpx2.SyncByteStream):
    """An answer as it comes, up to LONGEST_ANSWER."""

    def __init__(self, stream: httpx2.SyncByteStream) -> None:
        self._stream = stream

    def __iter__(self) -> Iterator[bytes]:
        room = LONGEST_ANSWER
        for part in self._stream:
            room -= len(part)
            if room < 0:
                raise HostileSchemaError(f"the registry's answer is longer than {LONGEST_ANSWER} bytes")
            yield part

    def close(self) -> None:
        self._stream.close()


def _bound(response: httpx2.Response) -> None:
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise HostileSchemaError("the registry's answer is compressed, which nobody asked for")
    if isinstance(response.stream, httpx2.SyncByteStream):
        response.stream = _BoundedStream(response.stream)


def _parsed(schema: Schema) -> Any:
    text = schema.schema_str
    if (schema.schema_type or "AVRO") != "AVRO":
        raise HostileSchemaError("it is no Avro schema")
    if not text:
        raise _no_registry(None)
    if len(text) > LONGEST:
        raise HostileSchemaError(f"it is longer than {LONGEST} characters")
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise HostileSchemaError("it is no JSON") from error


def _unreachable(error: httpx2.HTTPError) -> str:
    """The text names the address and what the network or the certificates say; that of a protocol error quotes a header."""
    told = str(error) if not isinstance(error, httpx2.ProtocolError) else ""
    return f"Schema registry: {type(error).__name__}" + (f": {told}"[:200] if told else "")


def _no_registry(error: Exception | None) -> TransientError:
    what = "" if error is None else f" ({type(error).__name__})"
    return TransientError(f"Schema registry: the answer is not a registry's{what}: check AUDIT_SCHEMA_REGISTRY_URL", Cause.REGISTRY)
