"""The list of mutations is true: each applies to the code as it is, and names a test that there is."""

from pathlib import Path

import pytest

from tests.mutations import MUTATIONS, ROOT, Mutation


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda each: each.name)
def test_a_mutation_applies_and_names_a_test(mutation: Mutation) -> None:
    """What it replaces stands in its file once."""
    for name, old, new in mutation.edits:
        assert (ROOT / name).read_text().count(old) == 1
        assert old != new
    file, *names = mutation.test.partition("[")[0].split("::")
    text = (ROOT / Path(file)).read_text()
    assert all(f"def {each}(" in text or f"class {each}:" in text for each in names)
