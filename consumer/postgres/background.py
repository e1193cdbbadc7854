"""Runs the store's calls in a thread of their own, so that the worker decodes the next batch meanwhile."""

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any

from consumer.core.errors import TransientError
from consumer.core.events import Partition, PartitionPosition, PartitionSlice
from consumer.core.ports import LogState
from consumer.postgres.batch import RenderedBatch
from consumer.postgres.store import PostgresStore, Written

LOOK_INTERVAL = 15.0
"""Seconds between two looks at the state of the log."""


class BackgroundStore:
    """At most one call in flight. libpq releases the interpreter's lock while it waits, so the overlap is real.

    Args:
        store: PostgreSQL.
        told: hears of the state of the log now and then, in the store's thread, or why it could not be read. A look is taken only behind
            a call that succeeded, whose result does not wait for it.
    """

    def __init__(self, store: PostgresStore, told: Callable[[LogState | TransientError], None] | None = None) -> None:
        self._store = store
        self._told = told
        self._look_at = 0.0
        self._looking = False
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="store")
        self._call: Future[Any] | None = None

    @property
    def busy(self) -> bool:
        """Whether a call was started whose result nobody has taken."""
        return self._call is not None

    def prepare(self, slices: Sequence[PartitionSlice]) -> RenderedBatch:
        """Renders a batch, in the caller's thread."""
        return self._store.prepare(slices)

    def start_write(self, batch: RenderedBatch) -> None:
        """Begins to write a batch; `result` gives a Written."""
        self._start(self._store.write, batch)

    def start_open(self, wanted: Mapping[Partition, tuple[str, int]]) -> None:
        """Begins to read (and where there are none, make) positions; `result` gives a dict."""
        self._start(self._store.open_positions, dict(wanted))

    def start_look(self, wanted: Mapping[Partition, str]) -> None:
        """Begins to read positions; `result` gives a dict of those that there are."""
        self._start(self._store.positions, dict(wanted))

    def wait(self, timeout: float) -> bool:
        """Waits for the call in flight, at most `timeout` seconds; true when its result can be taken."""
        return self._call is not None and bool(wait((self._call,), timeout).done)

    def result(self) -> Written | dict[Partition, PartitionPosition]:
        """Takes the finished call's result, or raises what it raised."""
        call, self._call = self._call, None
        if call is None:
            raise RuntimeError("no call was started")
        return call.result(timeout=0)  # type: ignore[no-any-return]

    def cut(self) -> None:
        """Ends a call that hangs."""
        self._store.cut()

    def close(self) -> None:
        """Ends the thread and closes the connection; a call still in flight is cut."""
        if self._call is not None or self._looking:
            self._store.cut()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._store.close()

    def _start(self, call: Callable[..., Any], *args: Any) -> None:
        if self._call is not None:
            raise RuntimeError("a call is in flight")
        self._call = self._thread.submit(self._run, call, args)

    def _run(self, call: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        result = call(*args)
        if self._told is not None and time.monotonic() >= self._look_at:
            self._look_at = time.monotonic() + LOOK_INTERVAL
            self._looking = True
            with suppress(RuntimeError):  # the end has begun
                self._thread.submit(self._look, self._told)
        return result

    def _look(self, told: Callable[[LogState | TransientError], None]) -> None:
        try:
            told(self._store.log_state())
        except TransientError as error:
            told(error)
        finally:
            self._looking = False
