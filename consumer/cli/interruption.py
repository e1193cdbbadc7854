"""SIGTERM as Ctrl-C, for every command but `run`, which stops by itself. Without a library: every command begins here."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def like_ctrl_c() -> Iterator[None]:
    """SIGTERM, and SIGHUP of a terminal that is closed, raise KeyboardInterrupt as SIGINT does. Restores the handlers.

    What is ignored stays so: `nohup` means it.
    """
    asked = [each for each in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(each) is signal.SIG_DFL]
    for each in asked:
        signal.signal(each, signal.default_int_handler)
    try:
        yield
    finally:
        for each in asked:
            signal.signal(each, signal.SIG_DFL)
