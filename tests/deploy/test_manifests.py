"""The plain manifests, as committed. The chart itself, in its variants and by helm: `make chart-check`."""

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes_validate import ValidationError

from consumer import __version__
from tests.deploy import chart
from tests.deploy.manifests import assert_sound, assert_valid, only, read, variables, versions

PARTITIONS = 4
Manifests = list[dict[str, Any]]


@pytest.fixture(name="manifests")
def _manifests() -> Manifests:
    return [each for file in sorted(chart.RENDERED.glob("*.yaml")) for each in read(file.read_text())]


def test_they_fit_several_versions_of_kubernetes(manifests: Manifests) -> None:
    """Strictly; and an unknown field would be noticed."""
    assert len(versions()) >= 5
    assert_valid(manifests)
    only(manifests, "Deployment")["spec"]["template"]["spec"]["containers"][0]["probes"] = {}  # type: ignore[index]
    with pytest.raises(ValidationError, match="probes"):
        assert_valid(manifests)


def test_they_are_sound(manifests: Manifests, tmp_path: Path) -> None:
    """Locked down, probed where the worker answers, killed after its grace, never more than partitions, every variable a setting."""
    assert_sound(manifests, tmp_path, most=PARTITIONS)


def _pod(manifests: Manifests) -> dict[str, Any]:
    pod: dict[str, Any] = only(manifests, "Deployment")["spec"]["template"]["spec"]
    return pod


def _set_variable(manifests: Manifests, name: str, value: str) -> None:
    _pod(manifests)["containers"][0]["env"].append({"name": name, "value": value})


BREAKS: dict[str, Callable[[Manifests], Any]] = {
    "root": lambda them: _pod(them)["securityContext"].update(runAsNonRoot=False),
    "a writable root": lambda them: _pod(them)["containers"][0]["securityContext"].update(readOnlyRootFilesystem=False),
    "a capability": lambda them: _pod(them)["containers"][0]["securityContext"].update(capabilities={"drop": ["NET_RAW"]}),
    "variables of Services": lambda them: _pod(them).update(enableServiceLinks=True),
    "killed too early": lambda them: _pod(them).update(terminationGracePeriodSeconds=30),
    "another probe": lambda them: _pod(them)["containers"][0]["livenessProbe"]["httpGet"].update(path="/health/ready"),
    "another port": lambda them: _pod(them)["containers"][0]["ports"][0].update(containerPort=80),
    "too many workers": lambda them: only(them, "Deployment")["spec"].update(replicas=PARTITIONS + 1),
    "an unknown setting": lambda them: _set_variable(them, "AUDIT_KAFKA_BROKERS", "kafka:9092"),
    "a file that is not mounted": lambda them: _set_variable(them, "AUDIT_DATABASE_PASSWORD_FILE", "/etc/password"),
    "labels of nobody": lambda them: only(them, "Service")["spec"]["selector"].update({"app.kubernetes.io/component": "x"}),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_would_be_noticed(manifests: Manifests, tmp_path: Path, name: str) -> None:
    """Each property, broken."""
    broken = copy.deepcopy(manifests)
    BREAKS[name](broken)
    with pytest.raises((AssertionError, ValueError)):
        assert_sound(broken, tmp_path, most=PARTITIONS)


def test_they_are_what_the_chart_renders() -> None:
    """By the fingerprint of the chart that they name, so that this needs no helm: after a change run `make manifests`."""
    files = list(chart.RENDERED.glob("*.yaml"))
    assert len(files) >= 6
    for file in files:
        assert f"Fingerprint of the chart: {chart.fingerprint()}\n" in file.read_text(), file.name


def test_the_chart_is_of_this_version() -> None:
    """Its default image is the one of this checkout."""
    assert yaml.safe_load((chart.CHART / "Chart.yaml").read_text())["appVersion"] == __version__


def test_the_migration_and_the_worker_have_secrets_of_their_own(manifests: Manifests) -> None:
    """The worker never holds the owner's rights."""
    sources = [only(manifests, kind)["spec"]["template"]["spec"]["volumes"][0]["secret"]["secretName"] for kind in ("Deployment", "Job")]
    assert len(set(sources)) == 2
    assert only(manifests, "Job")["spec"]["template"]["spec"]["containers"][0]["args"] == ["migrate"]
    assert not [name for name in variables(_pod(manifests)) if name.endswith("PASSWORD")]
