"""A real Prometheus and its promtool (Debian's), unpacked into the cache: nothing is installed, and no service starts."""

import fcntl
import json
import shutil
import subprocess
import tempfile
import time
import urllib.parse
import urllib.request
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from tests.bed.kafka import cache_folder, free_port
from tests.bed.needs import missing, update_in_ci


def program(name: str) -> Path:
    """`prometheus` or `promtool`: the machine's own, or the cache's."""
    found = shutil.which(name)
    if found is not None:
        return Path(found)
    folder = cache_folder() / "prometheus"
    with (cache_folder() / "lock-prometheus").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir() and not _fetch(folder):
            missing("Prometheus (Debian's package prometheus)")
    return folder / "usr/bin" / name


def _fetch(folder: Path) -> bool:
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return False
    making = folder.with_name(f"making-{uuid.uuid4().hex}")  # the rename is what makes it count
    making.mkdir()
    try:
        download = ["apt-get", "download", "-q", "prometheus"]
        if subprocess.run(download, cwd=making, check=False, timeout=600).returncode:
            update_in_ci()
            subprocess.run(download, cwd=making, check=False, timeout=600)
        package = next(making.glob("*.deb"), None)
        if package is None:
            return False
        subprocess.run(["dpkg-deb", "-x", package.name, "."], cwd=making, check=True, timeout=120)
        package.unlink()
        making.rename(folder)
        return True
    finally:
        shutil.rmtree(making, ignore_errors=True)


class Prometheus:
    """A server that is running."""

    def __init__(self, port: int) -> None:
        self._port = port

    def query(self, expression: str) -> list[dict[str, Any]]:
        """The result now: a vector. An expression that does not parse fails."""
        result: list[dict[str, Any]] = self._get(f"query?{urllib.parse.urlencode({'query': expression})}")["result"]
        return result

    def firing(self) -> dict[str, dict[str, str]]:
        """The alerts that fire, and their annotations."""
        alerts = self._get("alerts")["alerts"]
        return {alert["labels"]["alertname"]: alert["annotations"] for alert in alerts if alert["state"] == "firing"}

    def _get(self, path: str) -> Any:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._port}/api/v1/{path}", timeout=10) as answer:
            return json.loads(answer.read())["data"]


@contextmanager
def running_prometheus(ports: Sequence[int], rules: Mapping[str, Any]) -> Iterator[Prometheus]:
    """A server that scrapes these ports as compose's does, but twice a second, with these rules."""
    with tempfile.TemporaryDirectory(prefix="audit-prometheus-") as name:
        folder, port = Path(name), free_port()
        (folder / "rules.yml").write_text(yaml.safe_dump(rules))
        targets = [f"127.0.0.1:{each}" for each in ports]
        config = {
            "global": {"scrape_interval": "500ms", "scrape_timeout": "500ms", "evaluation_interval": "500ms"},
            "rule_files": ["rules.yml"],
            "scrape_configs": [{"job_name": "integration-audit", "static_configs": [{"targets": targets}]}],
        }
        (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
        command = [str(program("prometheus")), f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data"]
        with (folder / "log").open("wb") as log:
            listen = [f"--web.listen-address=127.0.0.1:{port}", "--log.level=warn"]
            process = subprocess.Popen([*command, *listen], stdout=log, stderr=log, cwd=folder)
        try:
            server = Prometheus(port)
            deadline = time.monotonic() + 60
            while not _answers(server):
                assert process.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < deadline, (folder / "log").read_text()
                time.sleep(0.05)
            yield server
        finally:
            process.kill()
            process.wait()


def _answers(server: Prometheus) -> bool:
    try:
        return bool(server.query("vector(1)"))
    except OSError:
        return False


def promtool(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """Prometheus' own tool."""
    return subprocess.run([str(program("promtool")), *arguments], capture_output=True, text=True, timeout=120, check=False)
