"""What a machine lacks: a skip on a laptop, a failure in CI."""

import os
import shutil
import subprocess
from typing import NoReturn

import pytest


def missing(what: str) -> NoReturn:
    """Skips the test, or fails it under CI=true."""
    if os.environ.get("CI", "").lower() in ("true", "1", "yes"):
        pytest.fail(f"this machine lacks {what}", pytrace=False)
    pytest.skip(f"this machine lacks {what}")


def install_in_ci(package: str) -> None:
    """Installs a package of Debian where that is nobody's machine; whoever asks looks afterwards whether it is there."""
    if update_in_ci():
        subprocess.run(["apt-get", "install", "-y", "-q", package], check=False, timeout=600)


def update_in_ci() -> bool:
    """Brings Debian's lists up to date where that is nobody's machine; whether it is one."""
    ours = os.environ.get("CI") == "true" and os.geteuid() == 0 and shutil.which("apt-get") is not None
    if ours:
        subprocess.run(["apt-get", "update", "-q"], check=False, timeout=300)
    return ours
