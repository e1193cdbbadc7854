"""What can go wrong, by what the worker must do about it."""

from enum import StrEnum


class Reason(StrEnum):
    """Why a message is in quarantine: the closed list of the contract."""

    UNDECODABLE = "undecodable"
    UNKNOWN_SCHEMA = "unknown schema"
    UNMAPPED_CHANGE = "unmapped change"
    INVALID_EVENT = "invalid event"
    OUT_OF_RANGE = "out of range"
    CONFLICT = "conflict"
    UNSTORABLE = "unstorable"
    OVERSIZED = "oversized"


class Rejected(Exception):  # noqa: N818 - a verdict on one message, not a failure of the program
    """This message can't become an audit record; it belongs in quarantine. The text never holds a value of the event."""

    def __init__(self, reason: Reason, error: str) -> None:
        super().__init__(error)
        self.reason = reason
        self.error = error


class HostileSchemaError(ValueError):
    """A schema that could make a small message cost unbounded time or memory is refused before it is used."""


class Cause(StrEnum):
    """Who keeps the worker from its job."""

    DATABASE = "database"
    KAFKA = "kafka"
    REGISTRY = "registry"
    TOPIC = "topic"  # too much of it belongs in quarantine, or Kafka lost what was read


class TransientError(Exception):
    """It may work later: hold, keep what is in memory, try again."""

    def __init__(self, text: str, cause: Cause = Cause.DATABASE) -> None:
        super().__init__(text)
        self.cause = cause


class ConfigurationError(TransientError):
    """It will work once somebody changes a setting or a right: hold, not ready, alarm, and try again now and then."""


class MissingRightError(ConfigurationError):
    """Kafka refuses a right."""


class FencedError(Exception):
    """The position in PostgreSQL is not the one this write started from: another worker wrote. Nothing was written."""


class SourceFailedError(Exception):
    """The Kafka client may have dropped messages: rebuild it from PostgreSQL's positions."""


class FatalSourceError(Exception):
    """The Kafka client is dead for good: the process must end, and its supervisor start another."""


class TopicUnreadableError(Exception):
    """Kafka can't be read again, now; the text names the place and what helps."""
