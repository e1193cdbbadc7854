"""A graceful stop: signals that only set a flag, and a watchdog that ends the process when grace runs out."""

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import structlog

from consumer.cli.exit_codes import ExitCode

SIGNALS = (signal.SIGTERM, signal.SIGINT)
SAY_WAIT = 1.0
"""Seconds that the last line may take: it may be stderr that hangs."""


class Watchdog:
    """Says so and ends the process with its own exit code, unless it ends by itself within `grace` seconds of `start`."""

    def __init__(self, grace: float, end: Callable[[int], None] = os._exit) -> None:
        self._end = end
        self._timer = threading.Timer(grace, self._time_is_up, (grace,))
        self._timer.daemon = True
        self._started = False

    def start(self) -> None:
        """Begins to count; a second call changes nothing."""
        if not self._started:
            self._started = True
            self._timer.start()

    def cancel(self) -> None:
        """All is well."""
        self._timer.cancel()

    def _time_is_up(self, grace: float) -> None:
        code = int(ExitCode.SHUTDOWN_TIMEOUT)

        def say() -> None:
            structlog.get_logger().error("shutdown timed out", seconds=grace, exit_code=code)

        saying = threading.Thread(target=say, name="last words", daemon=True)
        saying.start()
        saying.join(SAY_WAIT)
        self._end(code)


@contextmanager
def graceful_stop(stop: Callable[[], None], watchdog: Watchdog) -> Iterator[None]:
    """The first SIGTERM or SIGINT calls `stop` and starts the watchdog, the second ends the process at once. Restores the handlers."""
    asked = False

    def on_signal(number: int, _frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            os._exit(128 + number)
        asked = True
        stop()
        watchdog.start()

    before = {each: signal.signal(each, on_signal) for each in SIGNALS}
    try:
        yield
    finally:
        for each, previous in before.items():
            signal.signal(each, previous)
