"""Logs: one JSON object a line, or lines for the console; always on stderr."""

import logging
import sys
from collections.abc import Callable
from typing import Any

import structlog


def configure_logging(level: str, fmt: str) -> None:
    """Sets the process's logging up; once, at its start."""
    renderer: Any = (
        structlog.processors.JSONRenderer(ensure_ascii=False)
        if fmt == "json"
        else structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    )
    common: list[Any] = [structlog.processors.add_log_level, structlog.processors.TimeStamper(fmt="iso", utc=True)]
    structlog.configure(
        processors=[*common, renderer],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    # What libraries log would stand between our lines as bare text. Only their warnings: below, they tell statements' values.
    libraries = logging.StreamHandler(sys.stderr)
    libraries.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
            foreign_pre_chain=[*common, structlog.stdlib.add_logger_name],
        )
    )
    logging.basicConfig(level=logging.WARNING, handlers=[libraries], force=True)


class RateLimited:
    """Lets one event of a name through in every interval, and counts the others."""

    def __init__(self, interval: float, monotonic: Callable[[], float]) -> None:
        self._interval = interval
        self._monotonic = monotonic
        self._last: dict[str, float] = {}
        self._suppressed: dict[str, int] = {}

    def allow(self, name: str) -> int | None:
        """None: suppress it. Otherwise how many were suppressed since the last one."""
        now = self._monotonic()
        if name in self._last and now - self._last[name] < self._interval:
            self._suppressed[name] = self._suppressed.get(name, 0) + 1
            return None
        self._last[name] = now
        return self._suppressed.pop(name, 0)
