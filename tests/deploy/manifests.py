"""What must be true of every set of Kubernetes manifests, whichever values it was rendered from."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import kubernetes_validate
import yaml
from kubernetes_validate.utils import SchemaNotFoundError, all_versions

from consumer.setting_values import parse_duration
from tests.deploy.variables import assert_accepted

OLDEST = (1, 31)
Manifest = Mapping[str, Any]

_CUSTOM = {"ServiceMonitor", "PrometheusRule", "ScaledObject", "TriggerAuthentication"}
"""Kinds of Prometheus' operator and of KEDA, whose schemas Kubernetes does not have."""


def read(text: str) -> list[dict[str, Any]]:
    """The manifests of a file."""
    return [each for each in yaml.safe_load_all(text) if each]


def versions() -> list[str]:
    """The Kubernetes versions to check against."""
    found = {tuple(int(part) for part in each.split(".")) for each in all_versions()}
    return [".".join(map(str, each)) for each in sorted(found) if each >= OLDEST]


def assert_valid(manifests: Iterable[Manifest]) -> None:
    """Each fits the schema of every version, strictly: no unknown field either."""
    for manifest in manifests:
        for version in versions():
            try:
                kubernetes_validate.validate(dict(manifest), version, strict=True)
            except SchemaNotFoundError:
                assert manifest["kind"] in _CUSTOM, manifest["kind"]


def of_kind(manifests: Iterable[Manifest], kind: str) -> list[Manifest]:
    """Those of a kind."""
    return [each for each in manifests if each["kind"] == kind]


def only(manifests: Iterable[Manifest], kind: str) -> Manifest:
    """The one of its kind."""
    (found,) = of_kind(manifests, kind)
    return found


def named(manifests: Iterable[Manifest], name: str) -> Manifest:
    """The one of this name."""
    (found,) = (each for each in manifests if each["metadata"]["name"] == name)
    return found


def workers(manifests: Iterable[Manifest]) -> Manifest:
    """The Deployment of the workers."""
    (found,) = (
        each
        for each in of_kind(manifests, "Deployment")
        if each["spec"]["template"]["metadata"]["labels"]["app.kubernetes.io/component"] == "worker"
    )
    return found


def pods(manifests: Iterable[Manifest]) -> Iterator[Manifest]:
    """The pods' specs: of the workers, of the migration, and of what is asked for beside them."""
    for each in manifests:
        spec = each["spec"]["jobTemplate"]["spec"] if each["kind"] == "CronJob" else each.get("spec", {})
        if each["kind"] in ("Deployment", "Job", "CronJob"):
            yield spec["template"]["spec"]


def variables(pod: Manifest) -> dict[str, str]:
    """The settings in the environment of a pod's one container."""
    (container,) = pod["containers"]
    return {each["name"]: each["value"] for each in container["env"] if each["name"].startswith("AUDIT_")}


def assert_sound(manifests: list[dict[str, Any]], folder: Path, *, most: int) -> None:
    """The properties that matter, of any variant; `folder` is scratch, `most` the number of partitions."""
    for pod in pods(manifests):
        assert_locked_down(pod)
        mounts = [Path(mount["mountPath"]) for mount in pod["containers"][0]["volumeMounts"]]
        assert_accepted(variables(pod), folder, mounts)
        assert {volume["name"] for volume in pod["volumes"]} == {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    deployment = workers(manifests)["spec"]
    pod = deployment["template"]["spec"]
    _assert_probes(pod)
    grace = parse_duration(variables(pod)["AUDIT_SHUTDOWN_GRACE"]).total_seconds()
    assert pod["terminationGracePeriodSeconds"] >= grace + 5, "the worker is killed before its own grace is over"
    assert deployment["strategy"]["rollingUpdate"]["maxSurge"] == 0, "one more worker than partitions would never be ready"
    assert_scale(manifests, most)
    _assert_selected(manifests, deployment["template"]["metadata"]["labels"])


def assert_locked_down(pod: Manifest) -> None:
    """Not root, read-only, without capability, token or the variables of Services."""
    assert pod["automountServiceAccountToken"] is False
    assert pod["enableServiceLinks"] is False, "a Service called audit would put variables of its own among ours"
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["runAsUser"] > 0
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (container,) = pod["containers"]
    expected = {"allowPrivilegeEscalation": False, "readOnlyRootFilesystem": True, "capabilities": {"drop": ["ALL"]}}
    assert container["securityContext"] == expected
    assert container["resources"]["limits"]["memory"]
    assert container["resources"]["requests"]["cpu"]


def _assert_probes(pod: Manifest) -> None:
    (container,) = pod["containers"]
    (port,) = container["ports"]
    assert str(port["containerPort"]) == variables(pod)["AUDIT_METRICS_PORT"]
    paths = {"startupProbe": "/health/live", "livenessProbe": "/health/live", "readinessProbe": "/health/ready"}
    for probe, path in paths.items():
        assert container[probe]["httpGet"] == {"path": path, "port": port["name"]}, probe


def assert_scale(manifests: Iterable[Manifest], most: int) -> None:
    """Never more workers than partitions, and the phantom lag of 1 wakes nobody."""
    replicas = workers(manifests)["spec"].get("replicas")
    scaled = of_kind(manifests, "ScaledObject")
    assert (replicas is None) == bool(scaled), "two would set the number of workers, or nobody"
    assert replicas is None or replicas <= most
    for each in scaled:
        assert each["spec"]["maxReplicaCount"] <= most
        assert all(int(trigger["metadata"]["activationLagThreshold"]) > 1 for trigger in each["spec"]["triggers"])


def _assert_selected(manifests: Iterable[Manifest], labels: Mapping[str, str]) -> None:
    """Everything that selects pods selects the workers."""
    selectors = [workers(manifests)["spec"]["selector"]["matchLabels"]]
    selectors += [each["spec"]["selector"] for each in of_kind(manifests, "Service")]
    selectors += [each["spec"]["selector"]["matchLabels"] for each in of_kind(manifests, "PodDisruptionBudget")]
    selectors += [each["spec"]["podSelector"]["matchLabels"] for each in of_kind(manifests, "NetworkPolicy")]
    assert selectors
    for selector in selectors:
        assert selector.items() <= labels.items()
