"""`python -m tests.deploy.chart_check [--write]` (make chart-check, make manifests): the chart by helm itself.

Helm is built from source once, which takes minutes, and kept in the cache. `--write` renders deploy/kubernetes anew.
"""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.deploy import chart, watching
from tests.deploy.commands import assert_command
from tests.deploy.manifests import assert_sound, assert_valid, named, of_kind, only, pods, read, variables, versions, workers

HELM = "v3.22.0"
_TLS = {"kafka.security.protocol": "SSL", "kafka.security.secretName": "kafka", "kafka.security.caKey": "ca.crt"}
_SASL = {**_TLS, "kafka.security.protocol": "SASL_SSL", "kafka.security.saslMechanism": "SCRAM-SHA-512"}
_SASL |= {"kafka.security.saslUsername": "audit", "kafka.security.saslPasswordKey": "password"}
_OAUTH = {**_TLS, "kafka.security.protocol": "SASL_SSL", "kafka.security.saslMechanism": "OAUTHBEARER"}
_OAUTH |= {"kafka.security.oauthTokenUrl": "https://token", "kafka.security.oauthClientId": "audit"}
_OAUTH |= {"kafka.security.oauthClientSecretKey": "secret"}
_KEDA = {"autoscaling.enabled": True, "autoscaling.maxReplicas": 20}

VARIANTS: Mapping[str, Mapping[str, Any]] = {
    "default": {},
    "TLS and SASL": _SASL,
    "mutual TLS": {**_TLS, "kafka.security.certificateKey": "tls.crt", "kafka.security.keyKey": "tls.key"},
    "OAuth": _OAUTH,
    "KEDA": _KEDA,
    "KEDA, two topics, TLS and SASL": {**_KEDA, **_SASL, "kafka.topic": "a,b"},
    "retention": {"retention.enabled": True, "settings": {"AUDIT_RETENTION": "5 years"}},
    "tools": {**_SASL, "tools.enabled": True, "tools.passwordKey": "password"},
    "registry": {"registry.url": "https://registry", "registry.secretName": "r", "registry.username": "u", "registry.passwordKey": "p"},
    "registry with a token": {
        "registry.url": "https://registry:8081,https://other", "registry.secretName": "r", "registry.tokenKey": "token",
        "registry.caKey": "ca.crt", "registry.certificateKey": "tls.crt", "registry.keyKey": "tls.key", "registry.keyPasswordKey": "p",
    },
    "Prometheus' operator": {
        **{f"metrics.{name}.enabled": True for name in ("serviceMonitor", "prometheusRule", "dashboards")},
        "metrics.prometheusRule.runbookUrl": "https://wiki/runbook",
    },
    "brokers of Strimzi": {"kafka.bootstrapServers": "SSL://a:9094,b:9094", "networkPolicy.kafka.ports": [9094]},
    "brokers anywhere": {"kafka.bootstrapServers": "a:9098", "networkPolicy.enabled": False},
    "traces": {
        "extraEnv": [
            {"name": "OTEL_EXPORTER_OTLP_ENDPOINT", "value": "http://collector:4318"},
            {"name": "OTEL_EXPORTER_OTLP_HEADERS", "valueFrom": {"secretKeyRef": {"name": "otel", "key": "headers"}}},
        ],
        "networkPolicy.extraEgress": [{"ports": [{"port": 4318, "protocol": "TCP"}]}],
    },
    "no metrics": {"metrics.service": False, "networkPolicy.metricsFrom": [{"podSelector": {}}]},
    "one worker, everything else": {
        "replicas": 1, "shutdownGraceSeconds": 60, "port": 9000, "image.digest": "sha256:" + "0" * 64, "database.passwordKey": "password",
        "schemas.configMapName": "more", "settings": {"AUDIT_RETENTION": "5 years", "AUDIT_QUARANTINE_LIMIT": 0},
        "imagePullSecrets": [{"name": "x"}],
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "nodeSelector": {"e": "f"}, "tolerations": [{"operator": "Exists"}],
        "affinity": {"nodeAffinity": {}}, "priorityClassName": "high", "serviceAccount.create": False, "migration.enabled": False,
        "podDisruptionBudget.enabled": False, "networkPolicy.database.to": [{"ipBlock": {"cidr": "192.0.2.1/32"}}],
    },
}  # fmt: skip
REFUSED: Mapping[str, tuple[Mapping[str, Any], str]] = {
    "more workers than partitions": ({"replicas": 5}, "more than kafka.partitions"),
    "a lag of 1 as work": ({"autoscaling.activationLagThreshold": 1}, "activationLagThreshold"),
    "more at least than at most": ({**_KEDA, "autoscaling.minReplicas": 5}, "autoscaling.minReplicas"),
    "a secret as a value": ({"settings": {"AUDIT_DATABASE_PASSWORD": "x"}}, "AUDIT_DATABASE_PASSWORD"),
    "a token as a value": ({"settings": {"AUDIT_SCHEMA_REGISTRY_TOKEN": "x"}}, "AUDIT_SCHEMA_REGISTRY_TOKEN"),
    "a token of no Secret": ({"registry.tokenKey": "token"}, "secretName"),
    "a setting that is a value already": ({"settings": {"AUDIT_KAFKA_TOPIC": "x"}}, "a value of its own"),
    "a key of no Secret": ({"kafka.security.caKey": "ca.crt"}, "secretName"),
    "an unknown value": ({"kafka.brokers": "x"}, "brokers"),
    "brokers that nobody can reach": ({"kafka.bootstrapServers": "a:9092, b:9096"}, "has port 9096.*networkPolicy.kafka.ports"),
    "a registry that nobody can reach": ({"registry.url": "http://registry:8443/apis"}, "registry.url has port 8443.*http.ports"),
    "alerts that link nowhere": ({"metrics.prometheusRule.enabled": True}, "runbookUrl: say where"),
    "alerts that link to no page": ({"metrics.prometheusRule.runbookUrl": "docs/runbook.md"}, "runbookUrl"),
    "a retention that nobody has chosen": ({"retention.enabled": True}, "AUDIT_RETENTION how far back"),
    "a setting past the settings": ({"extraEnv": [{"name": "AUDIT_DATABASE_PASSWORD", "value": "x"}]}, "extraEnv/0/name"),
    "a monitor of nothing": ({"metrics.service": False, "metrics.serviceMonitor.enabled": True}, "needs metrics.service"),
}


def provide_helm() -> Path:
    """Helm from the cache; built where it is not there yet."""
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "integration-audit" / f"helm-{HELM}"
    if not (folder / "helm").is_file():
        print(f"building helm {HELM}, once; this takes minutes …", flush=True)
        environment = {**os.environ, "GOBIN": str(folder)}
        subprocess.run(["go", "install", f"helm.sh/helm/v3/cmd/helm@{HELM}"], env=environment, check=True, timeout=1800)
    return folder / "helm"


def check(helm: Path) -> None:
    """Lint, every variant, everything that must be refused."""
    chart.helm(helm, "lint", "--strict", str(chart.CHART))
    for name, values in VARIANTS.items():
        manifests = read(chart.template(helm, values))
        assert_valid(manifests)
        with tempfile.TemporaryDirectory() as folder:
            assert_sound(manifests, Path(folder), most=4)
        print(f"{name}: {len(manifests)} manifests, valid from Kubernetes {versions()[0]} to {versions()[-1]}")
    for name, (values, reason) in REFUSED.items():
        with pytest.raises(chart.ChartError, match=reason):
            chart.template(helm, values)
        print(f"{name}: refused")
    rendered = read(chart.template(helm, VARIANTS["Prometheus' operator"]))
    rules = yaml.safe_load(watching.RULES.read_text().replace("docs/runbook.md", "https://wiki/runbook"))
    assert only(rendered, "PrometheusRule")["spec"] == rules
    assert watching.dashboard() in [json.loads(text) for each in of_kind(rendered, "ConfigMap") for text in each["data"].values()]
    assert len(of_kind(rendered, "ServiceMonitor")) == 1
    traced = read(chart.template(helm, VARIANTS["traces"]))
    assert only(traced, "Deployment")["spec"]["template"]["spec"]["containers"][0]["env"][-2:] == VARIANTS["traces"]["extraEnv"]
    assert only(traced, "NetworkPolicy")["spec"]["egress"][-1:] == VARIANTS["traces"]["networkPolicy.extraEgress"]
    assert_retention(read(chart.template(helm, VARIANTS["retention"])))
    assert_tools(read(chart.template(helm, VARIANTS["tools"])))


def assert_retention(manifests: list[dict[str, Any]]) -> None:
    """With the workers' own retention, rights of its own, and a command that the program takes; one run at a time."""
    job = only(manifests, "CronJob")["spec"]
    (pod,) = pods([only(manifests, "CronJob")])
    (container,) = pod["containers"]
    assert variables(pod)["AUDIT_RETENTION"] == variables(workers(manifests)["spec"]["template"]["spec"])["AUDIT_RETENTION"] == "5 years"
    assert pod["volumes"][0]["secret"]["secretName"] == "integration-audit-retention"
    assert job["concurrencyPolicy"] == "Forbid"
    assert container["args"][:3] == ["retention", "apply", "--yes"]
    assert_command(container["args"])


def assert_tools(manifests: list[dict[str, Any]]) -> None:
    """Nobody is there unasked; a place to export to; rights of its own; and no Service sends anything there."""
    tools, service = named(manifests, "integration-audit-tools"), only(manifests, "Service")
    pod = tools["spec"]["template"]["spec"]
    assert tools["spec"]["replicas"] == 0
    assert {mount["mountPath"] for mount in pod["containers"][0]["volumeMounts"] if not mount.get("readOnly")} == {"/export", "/tmp"}  # noqa: S108 - in the container
    secrets = {volume["secret"]["secretName"] for volume in pod["volumes"] if "secret" in volume}
    assert secrets == {"integration-audit-operator", "kafka"}
    assert not service["spec"]["selector"].items() <= tools["spec"]["template"]["metadata"]["labels"].items()


def expected(helm: Path) -> dict[str, str]:
    """The files of deploy/kubernetes."""
    note = f"# Rendered from deploy/helm by `make manifests`; edit the chart. Fingerprint of the chart: {chart.fingerprint()}\n"
    files = chart.plain(chart.template(helm, {}))
    return {name: note + content for name, content in files.items()}


def main(*, write: bool) -> None:
    """Checks; with `write` renders first."""
    helm = provide_helm()
    if write:
        chart.share()
        chart.RENDERED.mkdir(exist_ok=True)
        for old in chart.RENDERED.glob("*.yaml"):
            old.unlink()
        for name, content in expected(helm).items():
            (chart.RENDERED / name).write_text(content)
    check(helm)
    committed = {file.name: file.read_text() for file in chart.RENDERED.glob("*.yaml")}
    if committed != expected(helm):
        sys.exit("deploy/kubernetes is not what the chart renders: run `make manifests`")
    print("chart-check: all is well")


if __name__ == "__main__":
    main(write="--write" in sys.argv[1:])
