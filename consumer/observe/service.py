"""What systemd is told: that the worker is up, how it does, that it makes progress, that it stops (sd_notify)."""

import os
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress


class ServiceManager:
    """Speaks to systemd over its datagram socket; says nothing where there is none. Never raises and never waits.

    `WATCHDOG=1` comes from the loop's own turns and from nowhere else: when they end, systemd ends the process.

    Args:
        environ: NOTIFY_SOCKET, WATCHDOG_USEC and WATCHDOG_PID, as systemd sets them.
        monotonic: seconds, never going back.
    """

    def __init__(self, environ: Mapping[str, str], monotonic: Callable[[], float]) -> None:
        address = environ.get("NOTIFY_SOCKET", "")
        self._address = "\0" + address[1:] if address.startswith("@") else address  # @: in the abstract namespace
        self._monotonic = monotonic
        self._interval = _watchdog_seconds(environ) / 4
        self._told: str | None = None
        self._fed = monotonic()

    def turn(self, not_ready: Sequence[str]) -> None:
        """The loop made a turn. The first one ends the start: what is missing now is waited for, and the reason is shown as the status."""
        if not self._address:
            return
        status = f"waiting: {'; '.join(not_ready)}" if not_ready else "ready"
        now = self._monotonic()
        if status == self._told and not (self._interval and now - self._fed >= self._interval):
            return
        lines = [f"STATUS={' '.join(status.split())}", "WATCHDOG=1"]  # a line end in the status would begin another assignment
        if self._told is None:
            lines.append("READY=1")
        if self._send(lines):
            self._told, self._fed = status, now

    def stopping(self) -> None:
        """The end has begun."""
        if self._address:
            self._send(["STOPPING=1", "STATUS=stopping"])

    def _send(self, lines: Sequence[str]) -> bool:
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as ear:
            ear.setblocking(False)  # noqa: FBT003 - the loop never waits for systemd: when its queue is full, the next turn says it again
            ear.sendto("\n".join(lines).encode(), self._address)
            return True
        return False


def _watchdog_seconds(environ: Mapping[str, str]) -> float:
    """Seconds that systemd waits for a sign of life; 0: it does not, or not for this process."""
    text = environ.get("WATCHDOG_USEC", "")
    meant = environ.get("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
    return int(text) / 1e6 if meant and text.isdecimal() else 0.0
