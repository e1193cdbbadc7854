"""The examples of `examples/producers`, built once into the cache and run as their readers would run them."""

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import uuid
from collections.abc import Sequence
from pathlib import Path

from consumer.schemas import schema_folder
from tests.bed.kafka import cache_folder
from tests.bed.needs import missing

EXAMPLES = Path(__file__).parents[2] / "examples" / "producers"
_SCHEMAS = schema_folder() / "v1"


def run(language: str, bootstrap_servers: str, topic: str) -> "subprocess.CompletedProcess[str]":
    """Runs an example against a broker, to its end."""
    place = {"KAFKA_BOOTSTRAP_SERVERS": bootstrap_servers, "KAFKA_TOPIC": topic}
    return run_command(command(language), **place)


def run_command(arguments: Sequence[str], **environment: str) -> "subprocess.CompletedProcess[str]":
    """Runs a program of the examples to its end."""
    settings = {"SCHEMA_FILE": str(_SCHEMAS / "IntegrationChangeEvent.avsc"), **environment}
    return subprocess.run(arguments, env={**os.environ, **settings}, capture_output=True, text=True, timeout=120, check=False)


def command(language: str) -> list[str]:
    """The command that starts the example of a language, built where it must be."""
    if language == "python":
        return [sys.executable, str(EXAMPLES / "python" / "producer.py")]
    if language == "node":
        return ["node", str(_built("node", ["npm", "ci", "--silent", "--no-audit", "--no-fund"]) / "producer.js")]
    folder = _built("java", ["mvn", "-q", "-B", "package", f"-Dschemas={_SCHEMAS}"])
    quick = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
    return ["java", *quick, "-cp", f"{folder}/target/classes:{folder}/target/dependency/*", "example.AuditProducer"]


def _built(language: str, build: list[str]) -> Path:
    """A copy of the example's folder in the cache, built there; once for each state of its files."""
    files = sorted(path for path in (EXAMPLES / language).rglob("*") if path.is_file())
    content = b"\x00".join(each.read_bytes() for each in [*files, _SCHEMAS / "IntegrationChangeEvent.avsc"])
    cache = cache_folder()
    folder = cache / f"producer-{language}-{hashlib.sha256(content).hexdigest()[:12]}"
    tools = {"node", "npm"} if language == "node" else {"java", "mvn"}
    if lacking := sorted(tool for tool in tools if not shutil.which(tool)):
        missing(f"{' and '.join(lacking)}, for the example of a producer")
    with (cache / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.is_dir():
            # The rename is what makes it count: a build that was cut off leaves no half folder under the name.
            making = cache / f"making-{uuid.uuid4().hex}"
            try:
                shutil.copytree(EXAMPLES / language, making, ignore=shutil.ignore_patterns("node_modules", "target"))
                subprocess.run(build, cwd=making, check=True, timeout=600)
                making.rename(folder)
            finally:
                shutil.rmtree(making, ignore_errors=True)
    return folder
