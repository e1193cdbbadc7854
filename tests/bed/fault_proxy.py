"""A TCP proxy that misbehaves on demand: the network's faults, in front of a real broker or database.

It reads bytes, not protocols; behind TLS `cut_after_request` and `cut_before_request` find nothing.
"""

import contextlib
import re
import socket
import struct
import threading
import time
from collections.abc import Iterator
from types import TracebackType
from typing import Self

_CHUNK = 65_536

Needle = bytes | re.Pattern[bytes]
"""What a request holds, to the letter or as a pattern."""


class _Link:
    """One client's connection and its twin to the server; a thread for each direction."""

    def __init__(self, proxy: "FaultProxy", client: socket.socket, server: socket.socket) -> None:
        self._proxy, self._client, self._server = proxy, client, server
        self._once = threading.Lock()
        self._ended = False
        self._muted = threading.Event()  # the request was let through; its answer is not

    def start(self) -> None:
        """Lets bytes flow."""
        for pump in (self._requests, self._answers):
            threading.Thread(target=pump, daemon=True).start()

    def cut(self) -> None:
        """Ends both connections at once, whatever is still under way in them."""
        with self._once:
            if self._ended:
                return
            self._ended = True
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)  # wakes the thread that reads; close alone does not
            side.close()
        self._proxy._forget(self)

    def _requests(self) -> None:
        for data in self._read(self._client):
            fault = self._proxy._fault_for(data)
            if fault == "before":
                self.cut()
                self._proxy._tripped.set()
                return
            if fault == "after":
                self._muted.set()
            if fault == "freeze":
                self._proxy.freeze()
                self._proxy._tripped.set()
                self._proxy._hold_up()
            if not self._write(self._server, data):
                return

    def _answers(self) -> None:
        for data in self._read(self._server):
            if self._muted.is_set():  # the server has answered, so it has done what was asked
                self.cut()
                self._proxy._tripped.set()
                return
            if not self._write(self._client, data):
                return

    def _read(self, side: socket.socket) -> Iterator[bytes]:
        try:
            while data := side.recv(_CHUNK):
                self._proxy._hold_up()
                yield data
        except OSError:
            pass
        finally:
            self.cut()

    @staticmethod
    def _write(side: socket.socket, data: bytes) -> bool:
        try:
            side.sendall(data)
        except OSError:
            return False
        return True


class FaultProxy:
    """Passes bytes on to `host:port` until told otherwise. A context manager; at its end everything is closed.

    Args:
        host: of the real server.
        target_port: of the real server.
        port: where to listen; any free one if 0.
    """

    def __init__(self, host: str, target_port: int, *, port: int = 0) -> None:
        self._target = (host, target_port)
        self._lock = threading.Lock()
        self._links: set[_Link] = set()
        self._flowing = threading.Event()
        self._flowing.set()
        self._delay = 0.0
        self._trap: tuple[re.Pattern[bytes], str] | None = None
        self._tripped = threading.Event()
        self._listener: socket.socket | None = None
        self.port = port
        self.accept()

    def __enter__(self) -> Self:
        """Listens already."""
        return self

    def __exit__(self, _kind: type[BaseException] | None, _error: BaseException | None, _trace: TracebackType | None) -> None:
        """Refuses and cuts, and lets waiting threads end."""
        self.refuse()
        self.cut()
        self.thaw()

    @property
    def address(self) -> str:
        """Where it listens, as `host:port`."""
        return f"127.0.0.1:{self.port}"

    def accept(self) -> None:
        """Takes connections, on the same port as ever."""
        if self._listener is not None:
            return
        listener = socket.create_server(("127.0.0.1", self.port), backlog=64)
        self.port = listener.getsockname()[1]
        self._listener = listener
        threading.Thread(target=self._accept_all, args=(listener,), daemon=True).start()

    def refuse(self) -> None:
        """Refuses new connections, as a server that is down; open ones go on."""
        listener, self._listener = self._listener, None
        if listener is not None:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            listener.close()

    def cut(self) -> None:
        """Ends the open connections; new ones are taken."""
        with self._lock:
            links = list(self._links)
        for link in links:
            link.cut()

    def freeze(self) -> None:
        """Holds every byte back, both ways; connections stay open and new ones are taken."""
        self._flowing.clear()

    def thaw(self) -> None:
        """Lets the held bytes and all others pass."""
        self._flowing.set()

    def delay(self, seconds: float) -> None:
        """Holds every chunk of bytes up for a time, in each direction; 0 ends it."""
        self._delay = seconds

    def cut_after_request(self, needle: Needle) -> None:
        """Lets the next request that holds `needle` reach the server, waits for its answer, drops that and cuts: outcome unknown."""
        self._tripped.clear()
        self._trap = (_pattern(needle), "after")

    def cut_before_request(self, needle: Needle) -> None:
        """Cuts in place of passing on the next request that holds `needle`."""
        self._tripped.clear()
        self._trap = (_pattern(needle), "before")

    def freeze_before_request(self, needle: Needle) -> None:
        """Freezes in place of passing on the next request that holds `needle`; it passes after the thaw."""
        self._tripped.clear()
        self._trap = (_pattern(needle), "freeze")

    def wait_for_cut(self, timeout: float = 30.0) -> None:
        """Waits until the cut or freeze that was asked for has happened."""
        assert self._tripped.wait(timeout), "no such request came"

    def _accept_all(self, listener: socket.socket) -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            try:
                server = socket.create_connection(self._target, timeout=5)
            except OSError:
                client.close()
                continue
            for side in (client, server):
                side.settimeout(None)
                side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            link = _Link(self, client, server)
            with self._lock:
                self._links.add(link)
            if self._listener is not listener:  # refused while it was being set up
                link.cut()
                return
            link.start()

    def _hold_up(self) -> None:
        if self._delay:
            time.sleep(self._delay)
        self._flowing.wait()

    def _fault_for(self, data: bytes) -> str | None:
        with self._lock:  # one request springs the trap, whichever connection it comes on
            if self._trap is None or not self._trap[0].search(data):
                return None
            fault, self._trap = self._trap[1], None
            return fault

    def _forget(self, link: _Link) -> None:
        with self._lock:
            self._links.discard(link)


def _pattern(needle: Needle) -> re.Pattern[bytes]:
    return re.compile(re.escape(needle)) if isinstance(needle, bytes) else needle
