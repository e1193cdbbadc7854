"""The model of a schema registry: out of order for a while, and with a schema that its replicas learn late."""

from collections.abc import Mapping, Sequence
from copy import copy
from functools import cache
from typing import TYPE_CHECKING, Any

from consumer.core.decoding import Decoder
from consumer.core.errors import TransientError
from consumer.core.framing import SINGLE_OBJECT
from consumer.core.ports import Answers
from consumer.schemas import event_schema

if TYPE_CHECKING:
    from tests.simulation.world import Actor, World

KNOWN, LATE, NEVER = 1, 2, 3
"""Ids of schemas: there from the beginning, from some time on, and never."""

_SCHEMA = event_schema()


class QuickDecoder(Decoder):
    """Learns the one schema in no time: to compile and fingerprint it costs more than a whole schedule."""

    def learn(self, schema: Mapping[str, Any], name: bytes | None = None) -> bytes:
        """As Decoder."""
        if name is None:
            return super().learn(schema)
        assert schema is _SCHEMA
        self._named[name] = self._writers[SINGLE_OBJECT + self._own]
        self._refused.pop(name, None)
        return self._own


@cache
def _first_decoder() -> QuickDecoder:
    return QuickDecoder(_SCHEMA, (), 1_048_576, with_registry=True)


def fresh_decoder() -> QuickDecoder:
    """One that has learned nothing yet."""
    decoder = copy(_first_decoder())
    decoder._named, decoder._refused = {}, {}
    return decoder


class ModelRegistry:
    """One worker's client of it."""

    def __init__(self, world: "World", actor: "Actor") -> None:
        self._world = world
        self._actor = actor
        self._names: Sequence[bytes] | None = None
        self._ready = 0.0

    @property
    def busy(self) -> bool:
        """As BackgroundRegistry."""
        return self._names is not None

    def start_fetch(self, names: Sequence[bytes]) -> None:
        """As BackgroundRegistry."""
        assert not self.busy, "one fetch in flight"
        self._names = names
        self._ready = self._world.now + self._world.random.choice((0.001, 0.001, 0.1, 5.0))

    def wait(self, timeout: float) -> bool:
        """As BackgroundRegistry."""
        self._world.boundary(self._actor, "schemas")
        if self._world.now < self._ready:
            self._world.pass_time(timeout)
        return self._world.now >= self._ready

    def result(self) -> Answers:
        """As BackgroundRegistry."""
        names, self._names = self._names, None
        assert names is not None
        answers = Answers()
        for name in names:
            if self._world.now < self._world.registry_down_until:
                answers.failure = TransientError("Schema registry: down")
                break
            schema = self._schema(int.from_bytes(name, "big"))
            if schema is None:
                answers.unknown.append(name)
            else:
                answers.found[name] = schema
        self._actor.note("registry says", answers)
        return answers

    def _schema(self, number: int) -> Mapping[str, Any] | None:
        known = number == KNOWN or (number == LATE and self._world.now >= self._world.late_schema_from)
        return _SCHEMA if known else None
