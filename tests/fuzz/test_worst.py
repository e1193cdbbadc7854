"""The bound on what a message costs, counted in work instead of time; `make worst` measures the time of the same messages."""

import pytest

from tests.fuzz.worst import MOST, calls, messages, treat

MOST_CALLS = 150_000
"""Of functions, for one message; some 100 ns each."""
MOST_GROWTH = 8
"""Bytes for PostgreSQL, for each byte of the message: a control character is six, and an altered NUL seven and once in the raw message."""


@pytest.mark.parametrize("name", messages())
def test_no_message_makes_much_work(name: str) -> None:
    """However it is made."""
    value = messages()[name]
    assert calls(lambda: treat(value)) < MOST_CALLS
    _, size = treat(value)
    assert size < 1_000 + MOST_GROWTH * len(value)


def test_long_texts_are_not_remembered() -> None:
    """What is kept of values that come again is bounded in bytes, not in number alone."""
    from consumer.postgres import rows  # noqa: PLC0415 - its cache is looked at, as it is now

    before = rows._remembered.cache_info().currsize
    treat(messages()["an error code of control characters"])
    assert rows._remembered.cache_info().currsize <= before + 3
    assert all(len(value) <= MOST for value in messages().values())
    rows._remembered.cache_clear()
    rows._frequent("x" * 257)
    assert rows._remembered.cache_info().currsize == 0


def test_which_are_records() -> None:
    """The bound does not come from refusing everything."""
    records = {name for name, value in messages().items() if not treat(value)[0].quarantined}
    assert records == {
        "a long name",
        "NUL, in as long a message as is altered",
        "a name of control characters",
        "a name of quotes",
        "an error code of control characters",
        "a name beyond the BMP",
        "surrogates, in as long a message as is altered",
        "stray bytes, in as long a message as is altered",
        "the most scopes",
        "the most scopes, long ones",
        "the most scopes, of stray bytes",
        "as many values as fit, in wide records",
        "maps",
        "maps of arrays",
    }
