"""Straight-line code for one schema: reads what is usual without a call for each value.

The closures of `avro` are the rule: strict, and exact in what they say. This is a short cut for well-formed data of the usual size. It
gives up (None, or GIVES_UP) at whatever it does not know, and then the closures read the datum from its beginning; so it need not say what
is wrong, only never take what they would not. The tests hold both to the same answers on whatever a schema allows.

Nothing of a schema becomes code but literals: names and symbols by `repr`.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from consumer.core.avro_values import read_long

Straight = Callable[[bytes, int], tuple[Any, int] | None]
"""(bytes, start) → (value, next place), or None."""

MOST_LINES = 2_000
"""Longer code is no short cut."""
MOST_LEVELS = 12
"""Python nests twenty loops at most."""

GIVES_UP = (KeyError, UnicodeDecodeError)
"""What a short cut raises at a long text, and at one that is no UTF-8."""

_SHORT = {2 * length: 1 + length for length in range(64)}
"""A text's bytes together with the one that says its length, by that one."""

_ABSOLUTE = ("record", "enum", "fixed")


class _NoShortCutError(Exception):
    """The schema has something that only the closures read."""


def compile_straight(schema: Any) -> Straight | None:
    """The short cut for a schema that the closures have accepted; None where there is none."""
    writer = _Writer()
    try:
        value = writer.read(schema, "", 1)
    except _NoShortCutError:
        return None
    code = "\n".join(("def straight(data, p):", *writer.lines, f" return {value}, p"))
    space: dict[str, Any] = {"read_long": read_long, "short": _SHORT}
    exec(compile(code, "<schema>", "exec"), space)  # noqa: S102 - made here, of literals; see above
    straight: Straight = space["straight"]
    return straight


class _Writer:
    """Writes the code; each method returns the name of the variable that holds the value."""

    def __init__(self) -> None:
        self.lines: list[str] = []
        self._named: dict[str, tuple[Mapping[str, Any], str]] = {}
        self._variables = 0

    def read(self, schema: Any, namespace: str, level: int) -> str:  # noqa: C901, PLR0911 - one for each kind of schema
        """Writes how a value of the schema is read."""
        if level > MOST_LEVELS or len(self.lines) > MOST_LINES:
            raise _NoShortCutError
        match schema:
            case "string":
                return self._string(level)
            case "long":
                return self._put(level, "{v}, p = read_long(data, p)")
            case "boolean":
                return self._put(level, "n = data[p]", "if n > 1: return None", "p += 1", "{v} = n == 1")
            case list():
                return self._union(schema, namespace, level)
            case str() if (found := self._named.get(_full(schema, namespace))) is not None:
                return self.read(*found, level)
            case {"type": "record", "fields": fields}:
                space = self._remember(schema, namespace)
                values = [(field["name"], self.read(field["type"], space, level)) for field in fields]
                return self._put(level, "{v} = {{" + ", ".join(f"{_literal(name)}: {value}" for name, value in values) + "}}")
            case {"type": "enum", "symbols": symbols}:
                self._remember(schema, namespace)
                few = f"if n & 129 or n >= {2 * len(symbols)}: return None"
                return self._put(level, "n = data[p]", few, "p += 1", f"{{v}} = {_literal(tuple(symbols))}[n >> 1]")
            case {"type": "array", "items": items}:
                return self._array(items, namespace, level)
            case {"type": str() | list() | dict() as inner} if inner not in (*_ABSOLUTE, "map"):
                return self.read(inner, namespace, level)
        raise _NoShortCutError

    def _remember(self, schema: Mapping[str, Any], namespace: str) -> str:
        full = _full(schema["name"], schema.get("namespace", namespace))
        self._named[full] = (schema, namespace)
        return full.rpartition(".")[0]

    def _put(self, level: int, *lines: str) -> str:
        self._variables += 1
        variable = f"v{self._variables}"
        self.lines += (" " * level + line.format(v=variable) for line in lines)
        return variable

    def _string(self, level: int) -> str:
        return self._put(level, "q = p + short[data[p]]", "{v} = data[p + 1 : q].decode()", "p = q")

    def _union(self, branches: Sequence[Any], namespace: str, level: int) -> str:
        variable = self._put(level, "n = data[p]", "p += 1")
        for index, branch in enumerate(branches):
            self._put(level, f"{'el' * (index > 0)}if n == {2 * index}:")
            if branch in ("null", {"type": "null"}):
                self._put(level, f" {variable} = None")
                continue
            value = self.read(branch, namespace, level + 1)
            name = self._branch_name(branch, namespace)
            self._put(level, f" {variable} = " + (value if name is None else f"({_literal(name)}, {value})"))
        self._put(level, "else: return None")
        return variable

    def _branch_name(self, branch: Any, namespace: str) -> str | None:
        if isinstance(branch, Mapping) and branch.get("type") in _ABSOLUTE:
            return _full(branch["name"], branch.get("namespace", namespace))
        full = _full(branch, namespace) if isinstance(branch, str) else None
        return full if full in self._named else None

    def _array(self, items: Any, namespace: str, level: int) -> str:
        if items not in ("string", "long", "boolean"):
            raise _NoShortCutError  # how many values all items may hold together is counted by the closures
        # One block of less than 64 items, and its end.
        variable = self._put(level, "{v} = []", "n = data[p]", "p += 1", "if n:", " if n & 129: return None")
        self._put(level, " for _ in range(n >> 1):")
        value = self.read(items, namespace, level + 2)
        self._put(level + 2, f"{variable}.append({value})")
        self._put(level, " if data[p]: return None", " p += 1")
        return variable


def _literal(value: Any) -> str:
    """As Python writes it, with braces that `format` leaves alone."""
    return repr(value).replace("{", "{{").replace("}", "}}")


def _full(name: str, namespace: str) -> str:
    return name if "." in name or not namespace else f"{namespace}.{name}"
