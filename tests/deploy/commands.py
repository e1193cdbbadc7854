"""Commands as documents show them, given to the command line's own parser."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from consumer.cli.main import COMMANDS, cli


def assert_command(arguments: Sequence[str]) -> None:
    """They name a command, with options that are there, and values that they take."""
    command: click.Command = cli
    words = list(arguments)
    while isinstance(command, click.Group):
        found = command.get_command(click.Context(command), words.pop(0))
        assert found is not None, arguments
        command = found
    with command.make_context(command.name, words):
        pass


def lines(document: Path) -> Iterator[str]:
    """Each command line of its code blocks that are no SQL; one that goes on is one."""
    for language, block in re.findall(r"^```(\w*)\n(.*?)^```", document.read_text(), flags=re.MULTILINE | re.DOTALL):
        if not language:
            yield from block.replace("\\\n", " ").splitlines()


def of_program(line: str) -> list[str]:
    """The arguments that `integration-audit` gets in this line, wherever it is installed; none where it isn't run."""
    words = shlex.split(line, comments=True)
    for number, word in enumerate(words):
        if word.rpartition("/")[2] == "integration-audit" and words[number + 1 : number + 2] and words[number + 1] in COMMANDS:
            return words[number + 1 :]
    return []
