"""Passwords and certificates that are changed while the worker runs."""

from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from consumer.core.errors import ConfigurationError

INTERVAL = 1.0
"""Seconds between two looks at the files."""

_FILES = ("ssl.ca.location", "ssl.certificate.location", "ssl.key.location")
_IN_PLACE = {"sasl.username", "sasl.password"}


class Change:
    """New settings of the connection.

    Args:
        client: all of them.
        in_place: whether a running client can take them over: only the name and the password of SASL are others.
    """

    def __init__(self, client: Mapping[str, Any], *, in_place: bool) -> None:
        self.client = client
        self.in_place = in_place


class Credentials:
    """Looks now and then whether the connection's settings, or the files that they name, hold something else than before.

    Args:
        client: the settings as they are used now.
        read: gives them anew; raises ConfigurationError where it can't.
        monotonic: seconds, never going back.
        report: where it is said that they can't be read.
    """

    def __init__(
        self, client: Mapping[str, Any], read: Callable[[], Mapping[str, Any]], monotonic: Callable[[], float], report: Callable[..., None]
    ) -> None:
        self._read = read
        self._monotonic = monotonic
        self._report = report
        self._client = dict(client)
        self._contents = _contents(client)
        self._looked = monotonic()
        self._unreadable: str | None = None

    def change(self) -> Change | None:
        """What is new since the last look; mostly nothing. Each change is told once, even where it proves to be of no use."""
        if self._monotonic() - self._looked < INTERVAL:
            return None
        self._looked = self._monotonic()
        try:
            client = dict(self._read())
        except ConfigurationError as error:  # half written; what we have may still be good
            if self._unreadable != str(error):
                self._unreadable = str(error)
                self._report("credentials refused", error=str(error))
            return None
        self._unreadable = None
        contents = _contents(client)
        if client == self._client and contents == self._contents:
            return None
        others = {name for name in client.keys() | self._client.keys() if client.get(name) != self._client.get(name)}
        change = Change(client, in_place=contents == self._contents and others <= _IN_PLACE and client.keys() == self._client.keys())
        self._client, self._contents = client, contents
        return change


def _contents(client: Mapping[str, Any]) -> list[bytes]:
    found = []
    for name in _FILES:
        if name in client:
            content = b""
            with suppress(OSError):
                content = Path(client[name]).read_bytes()
            found.append(content)
    return found
