"""The one form of an IP address, by the operating system's parser, against the standard library's."""

from ipaddress import ip_address

from hypothesis import given
from hypothesis import strategies as st

from consumer.core.canonical import address_text


@given(st.one_of(st.ip_addresses().map(str), st.from_regex(r"[0-9a-fA-F:.%]{1,46}", fullmatch=True), st.text(max_size=20)))
def test_an_address_is_what_the_standard_library_takes_for_one(text: str) -> None:
    """And written as it writes it, in full."""
    try:
        true = ip_address(text).exploded if "%" not in text else None
    except ValueError:
        true = None
    try:
        found = address_text(text)
    except ValueError:
        found = None
    assert found == true
