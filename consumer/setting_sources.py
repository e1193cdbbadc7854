"""Where the settings' texts come from: the environment, and the file that AUDIT_CONFIG_FILE names."""

import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PREFIX = "AUDIT_"

# What Kubernetes puts into the environment for a Service that is called "audit", or whose name begins with "audit-".
_KUBERNETES = re.compile(r"AUDIT_(.*_)?(SERVICE_HOST|SERVICE_PORT(_.*)?|PORT_\d+_.*)")
_KUBERNETES_PORT = re.compile(r"(tcp|udp|sctp)://")


def from_environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Our variables; without those that Kubernetes put there by itself, also where one has the name of a setting."""
    return {
        name: text
        for name, text in environ.items()
        if name.startswith(PREFIX) and not _KUBERNETES.fullmatch(name) and not (name.endswith("_PORT") and _KUBERNETES_PORT.match(text))
    }


def from_file(path: Path) -> dict[str, str]:
    """TOML by its ending, otherwise NAME=value lines; a name with or without the prefix, in any case.

    Raises:
        OSError: the file can't be read.
        ValueError: its content is not of that form; no value is in the text.
    """
    text = path.read_text(encoding="utf-8")
    return _toml(text) if path.suffix == ".toml" else _lines(text)


def _variable(name: str) -> str:
    return PREFIX + name.strip().upper().removeprefix(PREFIX)


def _toml(text: str) -> dict[str, str]:
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ValueError(f"is not TOML: {error}") from None
    return {_variable(name): _text(name, value) for name, value in content.items()}


def _text(name: str, value: Any) -> str:
    if isinstance(value, dict):
        raise ValueError(f"has a table {name}; settings stand at the top level")  # noqa: TRY004 - content, not a caller's mistake
    return ",".join(map(str, value)) if isinstance(value, list) else str(value)


def _lines(text: str) -> dict[str, str]:
    pairs = {}
    for number, line in enumerate(text.splitlines(), 1):
        content = line.strip().removeprefix("export ")
        if not content or content.startswith("#"):
            continue
        name, equals, value = content.partition("=")
        if not equals:
            raise ValueError(f"has a line {number} that is not NAME=value")
        value = value.strip()
        if len(value) > 1 and value[0] == value[-1] and value[0] in "\"'":
            value = value[1:-1]
        pairs[_variable(name)] = value
    return pairs
