"""The commands of docs/deploying.md: what can be tried here is."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.deploy.commands import assert_command, lines, of_program
from tests.deploy.manifests import only, pods, read, variables

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs/deploying.md"
SHOWN = [arguments for arguments in map(of_program, lines(DOCUMENT)) if arguments]


@pytest.mark.parametrize("arguments", SHOWN, ids=" ".join)
def test_commands_are_commands(arguments: list[str]) -> None:
    """With options that are there, and values that they take, wherever they run."""
    assert_command(arguments)


def test_the_plain_manifests_get_an_image_and_brokers(tmp_path: Path) -> None:
    """By the lines that the document shows, which change nothing else."""
    shutil.copytree(ROOT / "deploy/kubernetes", tmp_path / "deploy/kubernetes")
    shown = [line for line in lines(DOCUMENT) if line.startswith("cp ") or (line.startswith("sed -i") and "manifests/" in line)]
    subprocess.run(["sh", "-ec", "\n".join(shown)], cwd=tmp_path, check=True, timeout=30)
    manifests = [each for file in (tmp_path / "manifests").glob("*.yaml") for each in read(file.read_text())]
    assert [pod["containers"][0]["image"] for pod in pods(manifests)] == ["YOUR_REGISTRY/integration-audit:0.1.0"] * 2
    pod = only(manifests, "Deployment")["spec"]["template"]["spec"]
    assert variables(pod)["AUDIT_KAFKA_BOOTSTRAP_SERVERS"] == "broker-1:9092,broker-2:9092"
    before, after = (
        {f"{file.name}: {line}" for file in (tmp_path / folder).glob("*.yaml") for line in file.read_text().splitlines()}
        for folder in ("deploy/kubernetes", "manifests")
    )
    assert len(after - before) == 3
