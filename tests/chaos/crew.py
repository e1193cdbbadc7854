"""The workers of a run: processes that are started, frozen, stopped and killed; none may end on its own."""

import contextlib
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Self

GRACE = 40.0
"""Seconds that a graceful stop may take: AUDIT_SHUTDOWN_GRACE, and the start and end of a process on a loaded machine."""


@dataclass
class Member:
    """One worker process."""

    name: str
    process: "subprocess.Popen[bytes]"
    log: Path
    frozen: bool = False
    deadline: float = 0.0
    """By when it must have stopped, once it was asked to."""

    @property
    def unheard(self) -> bool:
        """It has not said a word yet: a signal then meets an interpreter that still imports, and ends it, as it does any program."""
        return not self.log.stat().st_size

    def signal(self, number: int) -> None:
        """Sends a signal, which nobody gets where the process has ended meanwhile."""
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)


class Crew:
    """Starts and ends workers. A context manager; at its end all are gone.

    Args:
        environment: the workers' settings.
        folder: where each worker's log goes, into a file of its own.
    """

    def __init__(self, environment: Mapping[str, str], folder: Path) -> None:
        self._environment = dict(environment)
        self._folder = folder
        self.started = 0
        """How many there have been."""
        self.members: list[Member] = []
        self.leaving: list[Member] = []
        """Those that were asked to stop and have not done so yet."""
        self.deaths: list[str] = []
        """Every end of a worker that nobody asked for, and every stop that was not graceful."""

    def __enter__(self) -> Self:
        """Nobody works yet."""
        return self

    def __exit__(self, *_: object) -> None:
        """Kills whoever is left."""
        for member in (*self.members, *self.leaving):
            self._end(member)

    def start(self) -> Member:
        """One more worker."""
        self.started += 1
        name = f"worker-{self.started}"
        # The kernel ends it when the run is gone, however that went: a frozen worker would stay for ever.
        tied = ["setpriv", "--pdeathsig", "KILL"] if shutil.which("setpriv") else []
        path = self._folder / f"{name}.log"
        with path.open("wb") as log:
            process = subprocess.Popen([*tied, sys.executable, "-m", "consumer", "run"], env=self._environment, stdout=log, stderr=log)
        member = Member(name, process, path)
        self.members.append(member)
        return member

    def pick(self, choice: float) -> Member | None:
        """One of those that run: the same for the same choice (0 up to 1) and the same crew."""
        running = [member for member in self.members if not member.frozen]
        return running[int(choice * len(running))] if running else None

    def kill(self, member: Member) -> None:
        """Ends it at once."""
        self._note_death(member)
        self._end(member)
        self._forget(member)

    def freeze(self, member: Member) -> None:
        """Stops it in its tracks."""
        member.frozen = True
        member.signal(signal.SIGSTOP)

    def thaw(self, member: Member) -> None:
        """Lets it go on."""
        member.signal(signal.SIGCONT)
        member.frozen = False

    def ask_to_stop(self, member: Member) -> None:
        """Begins a graceful stop, which `look` sees the end of. It is nobody's choice any more."""
        self._note_death(member)
        self._forget(member)
        member.deadline = time.monotonic() + GRACE
        member.signal(signal.SIGTERM)
        self.leaving.append(member)

    def stop_all(self) -> None:
        """Ends the whole crew gracefully, and waits until it is gone."""
        for member in list(self.members):
            self.ask_to_stop(member)
        while self.leaving:
            self.look()
            time.sleep(0.05)

    def look(self) -> None:
        """Notes who died on their own, and starts others in their place, so that the run can go on; and who has stopped, and how."""
        for member in list(self.members):
            if self._note_death(member):
                self._forget(member)
                self.start()
        for member in list(self.leaving):
            code = member.process.poll()
            if code is None and time.monotonic() < member.deadline:
                continue
            self.leaving.remove(member)
            if code is None:
                self.deaths.append(f"{member.name} did not stop within {GRACE:.0f} s of SIGTERM")
                self._end(member)
            elif code and not (code == -signal.SIGTERM and member.unheard):
                self.deaths.append(f"{member.name} ended with {code} after SIGTERM")

    def _note_death(self, member: Member) -> bool:
        code = member.process.poll()
        if code is not None:
            self.deaths.append(f"{member.name} ended on its own with {code}")
        return code is not None

    @staticmethod
    def _end(member: Member) -> None:
        member.signal(signal.SIGKILL)
        member.process.wait()

    def _forget(self, member: Member) -> None:
        if member in self.members:
            self.members.remove(member)
