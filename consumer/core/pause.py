"""Backoff between tries: grows, has a bound, and is jittered so that many workers don't come back at once."""

from collections.abc import Callable


class Backoff:
    """Seconds to wait before the next try.

    Args:
        random: a number in [0, 1) at each call.
        first: seconds at most before the second try.
        most: seconds at most, ever.
    """

    def __init__(self, random: Callable[[], float], first: float = 0.2, most: float = 5.0) -> None:
        self._random = random
        self._first = first
        self._most = most
        self._tries = 0

    def next(self) -> float:
        """Half to all of the bound, which doubles with each call."""
        bound: float = min(self._most, self._first * 2 ** min(self._tries, 16))
        self._tries += 1
        return bound * (0.5 + self._random() / 2)

    def reset(self) -> None:
        """The next failure is a first one again."""
        self._tries = 0
