"""The commands of docs/deploying.md: what can be tried here is."""

from pathlib import Path

import pytest

from tests.deploy.commands import assert_command, lines, of_program

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/deploying.md"
SHOWN = [arguments for arguments in map(of_program, lines(DOCUMENT)) if arguments]


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_commands_are_commands(arguments: list[str]) -> None:
    """With options that are there, and values that they take, wherever they run."""
    assert_command(arguments)
