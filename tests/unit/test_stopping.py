"""Signals: what a command makes of a stop from outside."""

import signal
import sys
from types import SimpleNamespace

import click
import pytest

from consumer.cli import main as entry
from consumer.cli.interruption import like_ctrl_c


@pytest.mark.parametrize(("name", "handler"), [("export", signal.default_int_handler), ("run", signal.SIG_DFL)])
def test_a_stop_from_outside_is_as_ctrl_c(monkeypatch: pytest.MonkeyPatch, name: str, handler: object) -> None:
    """For every command but `run`, which has a way of its own; afterwards the signals are what they were."""
    found: list[object] = []
    command = click.Command(name, callback=lambda: found.extend(map(signal.getsignal, (signal.SIGTERM, signal.SIGHUP))))
    monkeypatch.setattr(entry, "import_module", lambda _: SimpleNamespace(command=command))
    monkeypatch.setattr(sys, "argv", ["integration-audit", name])
    before = [signal.signal(each, signal.SIG_DFL) for each in (signal.SIGTERM, signal.SIGHUP)]
    try:
        with pytest.raises(SystemExit):
            entry.main()
        assert found == [handler, handler]
        assert [signal.getsignal(each) for each in (signal.SIGTERM, signal.SIGHUP)] == [signal.SIG_DFL, signal.SIG_DFL]
    finally:
        for each, previous in zip((signal.SIGTERM, signal.SIGHUP), before, strict=True):
            signal.signal(each, previous)


def test_a_command_under_nohup_outlives_its_terminal() -> None:
    """Who has SIGHUP ignored means it."""
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with like_ctrl_c():
            signal.raise_signal(signal.SIGHUP)
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)
