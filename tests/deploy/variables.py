"""The AUDIT_ variables of what deploys the worker, given to the worker's own reader of settings."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from consumer.settings import load_settings

_CONTENTS = {"DATABASE_URL_FILE": "postgresql://audit@db/audit"}


def assert_accepted(variables: Mapping[str, str], folder: Path, mounts: Iterable[Path]) -> None:
    """Every variable is a setting with a value that it takes, and every file that one names lies in a mounted folder.

    Args:
        variables: as the worker would get them.
        folder: scratch, in which the files are made.
        mounts: folders (or files) that are there when the worker runs.
    """
    mounts = list(mounts)
    given = {}
    for name, text in variables.items():
        assert name.startswith("AUDIT_"), name
        given[name] = text
        if name.endswith(("_FILE", "_DIR")):
            path = Path(text)
            assert any(path.is_relative_to(mount) for mount in mounts), f"{name}={text}: nothing is mounted there"
            stand_in = folder / path.relative_to("/")
            given[name] = str(stand_in)
            if name.endswith("_DIR"):
                stand_in.mkdir(parents=True, exist_ok=True)
                continue
            stand_in.parent.mkdir(parents=True, exist_ok=True)
            stand_in.write_text(_CONTENTS.get(name.removeprefix("AUDIT_"), "x"))
    load_settings(given)
