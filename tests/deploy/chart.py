"""Renders the chart, by helm; says what the committed manifests were rendered from."""

import hashlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
CHART = ROOT / "deploy/helm/integration-audit"
RENDERED = ROOT / "deploy/kubernetes"
NAMES = ("integration-audit", "audit")
"""Release and namespace of the plain manifests."""

# What only helm would understand, in manifests that are applied without it.
_OF_HELM = ("app.kubernetes.io/managed-by:", "helm.sh/", "# Source:")
_SHARED = {"prometheus": "alerts*.yml", "grafana/dashboards": "*.json"}


class ChartError(Exception):
    """Helm refuses; with what it says."""


def helm(program: Path, *arguments: str) -> str:
    """What helm prints."""
    done = subprocess.run([str(program), *arguments], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        raise ChartError(done.stderr.strip())
    return done.stdout


def template(program: Path, values: Mapping[str, Any]) -> str:
    """The chart with these values."""
    sets = [part for name, value in values.items() for part in ("--set-json", f"{name}={json.dumps(value)}")]
    release, namespace = NAMES
    return helm(program, "template", release, str(CHART), "--namespace", namespace, "--kube-version", "1.34.0", *sets)


def plain(text: str) -> dict[str, str]:
    """File name → manifest, without what only helm would understand."""
    files: dict[str, str] = {}
    for part in text.split("\n---\n"):
        source = next(line for line in part.splitlines() if line.startswith("# Source:"))
        lines = [line for line in part.splitlines() if not line.strip().startswith(_OF_HELM) and line != "---"]
        content = "\n".join(lines).replace("  annotations:\nspec:", "spec:").strip() + "\n"
        name = Path(source).name
        files[name] = f"{files[name]}---\n{content}" if name in files else content
    return files


def shared() -> dict[Path, Path]:
    """Alert rules and dashboards → their copies in the chart, where helm alone can read them."""
    return {
        file: CHART / "files" / ("dashboards" if "dashboards" in folder else "") / file.name
        for folder, pattern in _SHARED.items()
        for file in (ROOT / "deploy" / folder).glob(pattern)
    }


def share() -> None:
    """Makes the copies."""
    for old in (CHART / "files").rglob("*.*"):
        old.unlink()
    for source, target in shared().items():
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)


def fingerprint() -> str:
    """Of everything that the manifests are rendered from: tells without helm whether they are up to date."""
    found = hashlib.sha256()
    for file in sorted([*(each for each in CHART.rglob("*") if each.is_file()), *shared()]):
        found.update(f"{file.relative_to(ROOT)}\0".encode() + file.read_bytes() + b"\0")
    return found.hexdigest()
