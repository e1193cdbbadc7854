"""A reader of our stdout, such as `head`, that has seen enough."""

import os
import select
import sys


def reader_is_gone() -> bool:
    """Whether nobody reads our stdout any more."""
    try:
        descriptor = sys.stdout.fileno()
    except (OSError, ValueError):
        return False
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


def forget_stdout() -> None:
    """Sends the rest nowhere: Python would complain once more when it flushes at its end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
