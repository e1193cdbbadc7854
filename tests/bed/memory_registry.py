"""A schema registry in memory."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from consumer.core.ports import Answers

if TYPE_CHECKING:
    from consumer.core.errors import TransientError


class MemoryRegistry:
    """Knows some schemas; can fail; counts."""

    def __init__(self) -> None:
        self.schemas: dict[bytes, Mapping[str, Any]] = {}
        self.failure: TransientError | None = None
        self.silent = False
        self.asked: list[bytes] = []
        self._names: Sequence[bytes] | None = None

    @property
    def busy(self) -> bool:
        """As BackgroundRegistry."""
        return self._names is not None

    def start_fetch(self, names: Sequence[bytes]) -> None:
        """As BackgroundRegistry."""
        assert not self.busy
        assert len(set(names)) == len(names)
        self._names = names

    def wait(self, timeout: float) -> bool:
        """As BackgroundRegistry."""
        return not self.silent

    def result(self) -> Answers:
        """As BackgroundRegistry."""
        names, self._names = self._names, None
        assert names is not None
        if self.failure is not None:
            return Answers(failure=self.failure)
        self.asked += names
        known = {name: self.schemas[name] for name in names if name in self.schemas}
        return Answers(known, {}, [name for name in names if name not in known])
