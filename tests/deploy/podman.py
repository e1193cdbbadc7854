"""Podman on a machine without a container engine: storage and settings of its own, and a stand-in for the base image."""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

CACHE = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "integration-audit" / "containers"
BASE = "python:3.13-slim"
"""The Dockerfile's base."""

_NEEDED = ("podman", "runc", "debootstrap")
_SETTINGS = """\
[containers]
default_ulimits = ["nofile=1024:1024", "nproc=1024:1024"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""


class Podman:
    """Runs podman, as root; images stay in the cache from one run to the next."""

    def __init__(self) -> None:
        lacking = [name for name in _NEEDED if not shutil.which(name)]
        if lacking or os.geteuid() != 0:
            sys.exit(f"image-check runs as root and needs {', '.join(_NEEDED)}: apt-get install podman runc debootstrap")
        CACHE.mkdir(parents=True, exist_ok=True)
        settings = CACHE / "containers.conf"
        settings.write_text(_SETTINGS)
        self._environment = {**os.environ, "CONTAINERS_CONF": str(settings)}
        self._command = ["podman", "--root", str(CACHE / "storage"), "--runroot", str(CACHE / "run"), "--storage-driver", "overlay"]

    def run(self, *arguments: str, check: bool = True, timeout: float = 900) -> "subprocess.CompletedProcess[str]":
        """One call of podman."""
        done = subprocess.run(
            [*self._command, *arguments], env=self._environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        if check and done.returncode:
            sys.exit(f"podman {arguments[0]}: exit {done.returncode}\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
        return done

    def provide_base(self) -> str:
        """Sees that the base image is there; says what it is."""
        if not self.run("image", "exists", BASE, check=False).returncode:
            return self.run("image", "inspect", BASE, "--format", "{{.Comment}}").stdout.strip() or "from a registry"
        with tempfile.TemporaryDirectory(dir=CACHE) as folder:
            root = Path(folder) / "rootfs"
            packages = "python3,python3-venv,python3-pip,ca-certificates"
            subprocess.run(["debootstrap", "--variant=minbase", f"--include={packages}", "trixie", str(root)], check=True, timeout=1800)
            for marker in root.glob("usr/lib/python3*/EXTERNALLY-MANAGED"):
                marker.unlink()  # the real image has none
            certificates = Path("etc/ssl/certs/ca-certificates.crt")
            shutil.copyfile(Path("/") / certificates, root / certificates)
            for leftover in ("var/cache/apt/archives", "var/lib/apt/lists"):
                shutil.rmtree(root / leftover, ignore_errors=True)
            archive = Path(folder) / "base.tar"
            subprocess.run(["tar", "-C", str(root), "-cf", str(archive), "."], check=True, timeout=600)
            self.run("import", "--message", "stand-in: Debian trixie with Python 3.13", str(archive), f"localhost/{BASE}")
        return "stand-in: Debian trixie with Python 3.13"
