"""Finds and reads the Avro schemas: in the installed package, or in the checkout."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fastavro.schema import SchemaParseException

from consumer.core.decoding import Decoder

_EVENT = "v1/IntegrationChangeEvent.avsc"


def schema_folder() -> Path:
    """The folder with `v1/` and its later siblings."""
    package = Path(__file__).parent
    installed = package / "_schemas"
    return installed if installed.is_dir() else package.parent / "schemas"


def event_schema() -> dict[str, Any]:
    """Our schema, the reader's."""
    return _read(schema_folder() / _EVENT)


def load_writer_schemas(extra: Path | None = None) -> list[dict[str, Any]]:
    """Every schema that producers may write with: ours of all versions, and those below `extra`.

    Raises:
        ValueError: a file can't be read, or the decoder refuses what is in it; the text names the file.
    """
    decoder = Decoder(event_schema(), (), 0)
    return [_read_for(decoder, path) for path in _files(extra)]


def _files(extra: Path | None) -> Iterator[Path]:
    yield from sorted(schema_folder().glob("v*/*.avsc"))
    if extra is not None:
        if not extra.is_dir():
            raise ValueError(f"{extra} is not a folder")
        yield from sorted(extra.rglob("*.avsc"))


def _read_for(decoder: Decoder, path: Path) -> dict[str, Any]:
    """A schema that the decoder takes. It is asked here already, since only here is the file known that an error must name."""
    schema = _read(path)
    try:
        decoder.learn(schema)
    except (ValueError, SchemaParseException) as error:
        raise ValueError(f"{path}: {error}") from error
    return schema


def _read(path: Path) -> dict[str, Any]:
    try:
        schema = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise ValueError(f"{path}: {error}") from error
    if not isinstance(schema, dict):
        raise ValueError(f"{path}: not a JSON object")  # noqa: TRY004 - bad content, not a caller's mistake
    return schema
