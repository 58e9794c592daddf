"""The Helm chart, rendered: settings, secrets, rights, and who reaches whom."""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Iterator
from functools import cache
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
import yaml

from cli import certificates
from cli.certificates import SERVICES
from cli.serve import SETTINGS
from runtime import peers
from tests.deploy.known import CALLS, DATABASE, OUTSIDE, ROOT, loaded, names, secrets
from tests.harness import FINGERPRINT_KEY, SEALING_KEY, SIGNING_KEY, b64

WHY = "pip install of requirements-deploy.lock"
helm = pytest.importorskip("helm_python", reason=WHY)
kubernetes = pytest.importorskip("kubernetes_validate", reason=WHY)

Manifest = dict[str, Any]

CHART = ROOT / "deploy" / "helm" / "winnow"
VALUES: dict[str, Any] = yaml.safe_load((CHART / "values.yaml").read_text())
WATCHER = {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "monitoring"}}}
# Everything that is optional.
FULL: dict[str, Any] = {
    "image": {"digest": "sha256:" + "0" * 64, "pullSecrets": [{"name": "pull"}]},
    "settings": {"max_report_bytes": 2**31, "audit_required": True, "log_level": "WARNING"},
    "database": {
        "podSelector": {"matchLabels": {"app": "postgres"}},
        "migration": {"existingSecret": "o"},
    },
    "certificates": {"issuer": {"name": "ca"}},
    "gateway": {"tlsSecret": "https", "autoscaling": {"enabled": True}},
    "orchestrator": {"autoscaling": {"enabled": True}},
    "metrics": {"monitor": True},
    "networkPolicy": {
        "clients": [{"namespaceSelector": {"matchLabels": {"app": "ingress"}}}],
        "prometheus": [WATCHER],
        "broker": [{"ports": [{"port": 6379, "protocol": "TCP"}]}],
        "languageModel": [{"ports": [{"port": 443, "protocol": "TCP"}]}],
    },
    "podAnnotations": {"a": "b"},
    "nodeSelector": {"disk": "ssd"},
    "tolerations": [{"key": "k", "operator": "Exists"}],
}
BOTH = pytest.mark.parametrize("values", ["{}", json.dumps(FULL)], ids=["default", "full"])
EXAMPLES = {
    "winnow_sealing_key": b64(SEALING_KEY),
    "winnow_fingerprint_key": b64(FINGERPRINT_KEY),
    "winnow_audit_signing_key": b64(SIGNING_KEY),
    "winnow_database_url": "postgresql://u:p@db/winnow",
}


@cache
def rendered(values: str = "{}") -> list[Manifest]:
    """The manifests, by values in JSON."""
    with helm.Chart.load(str(CHART)) as chart:
        files = chart.render(json.loads(values), name="winnow", namespace="ns")
    texts = [text for name, text in files.items() if name.endswith(".yaml")]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


def of(kind: str, values: str = "{}") -> dict[str, Manifest]:
    """Manifests of a kind, by name."""
    return {one["metadata"]["name"]: one for one in rendered(values) if one["kind"] == kind}


def pods(values: str) -> Iterator[tuple[str, Manifest]]:
    """Specifications of pods, by component."""
    for kind in ("Deployment", "Job"):
        for one in of(kind, values).values():
            template = one["spec"]["template"]
            yield template["metadata"]["labels"]["app.kubernetes.io/component"], template["spec"]


def deployment(service: str, values: str = "{}") -> Manifest:
    pod: Manifest = of("Deployment", values)[f"winnow-{service}"]["spec"]["template"]["spec"]
    return pod


def variables(service: str, values: str = "{}") -> dict[str, str]:
    (container,) = deployment(service, values)["containers"]
    shared = of("ConfigMap", values)[container["envFrom"][0]["configMapRef"]["name"]]["data"]
    return shared | {one["name"]: one["value"] for one in container["env"]}


def secret_files(service: str) -> dict[str, bool]:
    """The files of secrets that a pod gets, and whether one may be missing."""
    volumes = [one for one in deployment(service)["volumes"] if one["name"] == "secrets"]
    sources = [one["secret"] for volume in volumes for one in volume["projected"]["sources"]]
    return {item["path"]: one.get("optional", False) for one in sources for item in one["items"]}


def test_helm_has_nothing_to_say_against_it() -> None:
    assert helm.lint(str(CHART))["errors"] == []


@BOTH
@pytest.mark.parametrize("version", ["1.30", "1.37"])
def test_kubernetes_takes_every_manifest(values: str, version: str) -> None:
    kinds = set()
    for one in rendered(values):
        if one["apiVersion"].split("/")[0] in {"cert-manager.io", "monitoring.coreos.com"}:
            continue
        kubernetes.validate(one, version, strict=True)
        kinds.add(one["kind"])
    assert {"Deployment", "Service", "NetworkPolicy", "Job", "HorizontalPodAutoscaler"} <= kinds


def test_it_is_of_this_version() -> None:
    about = yaml.safe_load((CHART / "Chart.yaml").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert (about["version"], about["appVersion"]) == (project["version"], project["version"])


def test_its_settings_are_those_of_the_code() -> None:
    """All but secrets, and what the chart sets itself."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    full = json.dumps(FULL)
    own = set.union(*(names(variables(one, full)) for one in SERVICES)) - FULL["settings"].keys()
    known = {name for one in SETTINGS.values() for name in one.model_fields}
    hidden = set.union(*map(secrets, SERVICES))
    assert own - OUTSIDE <= known
    assert set(schema["properties"]["settings"]["properties"]) == known - hidden - own


@pytest.mark.parametrize("settings", [{"log_levl": "INFO"}, {"sealing_key": "x"}])
def test_a_setting_that_nobody_knows_is_refused(settings: dict[str, str]) -> None:
    with pytest.raises(helm.HelmError, match=next(iter(settings))):
        rendered(json.dumps({"settings": settings}))


def test_values_reach_the_services_as_they_are() -> None:
    given = variables("gateway", json.dumps(FULL))
    assert given["WINNOW_MAX_REPORT_BYTES"] == "2147483648"
    assert given["WINNOW_AUDIT_REQUIRED"] == "true"
    assert given["WINNOW_LOG_LEVEL"] == "WARNING"


@pytest.mark.parametrize("service", SERVICES)
def test_each_service_can_load_what_it_is_given(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificates.init(tmp_path / "certs", [], [], 365, 3650)
    needed = {
        name: EXAMPLES[name] for name, optional in secret_files(service).items() if not optional
    }
    settings = loaded(
        service, variables(service), needed, tmp_path / "certs", tmp_path / "s", monkeypatch
    )
    for callee in CALLS[service]:
        host, _, port = getattr(settings, f"{callee}_address").partition(":")
        (served,) = [
            one for one in of("Service")[host]["spec"]["ports"] if one["name"] != "metrics"
        ]
        assert (host, str(served["port"])) == (f"winnow-{callee}", port)
        assert variables(callee)[f"WINNOW_{callee.upper()}_LISTEN"] == f"0.0.0.0:{port}"


@pytest.mark.parametrize("service", SERVICES)
def test_each_pod_gets_the_secrets_of_its_service(service: str) -> None:
    given = secret_files(service)
    assert names(given) == secrets(service)
    required = {
        name for name, field in SETTINGS[service].model_fields.items() if field.is_required()
    }
    assert names(name for name, optional in given.items() if not optional) == required


def test_no_secret_is_a_variable_or_of_the_charts_making() -> None:
    hidden = {f"WINNOW_{name.upper()}" for one in SERVICES for name in secrets(one)}
    assert not of("Secret", json.dumps(FULL))
    for service in SERVICES:
        assert not hidden & set(variables(service, json.dumps(FULL)))


@BOTH
def test_no_pod_may_more_than_it_must(values: str) -> None:
    seen = set()
    for component, pod in pods(values):
        seen.add(component)
        assert pod["automountServiceAccountToken"] is False
        # Else Kubernetes adds WINNOW_…_PORT, which are no settings.
        assert pod["enableServiceLinks"] is False
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == 10001
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert not {"hostNetwork", "hostPID", "hostIPC", "initContainers"} & set(pod)
        (container,) = pod["containers"]
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        }
        assert container["resources"]["requests"].keys() == {"cpu", "memory"}
        assert "memory" in container["resources"]["limits"]
        assert not any("hostPath" in volume for volume in pod["volumes"])
        # A mount of one file of a secret never changes in place.
        assert not any("subPath" in mount for mount in container["volumeMounts"])
    assert seen == {*SERVICES, "migrate"}


@BOTH
@pytest.mark.parametrize("service", SERVICES)
def test_probes_ask_what_can_be_answered(service: str, values: str) -> None:
    (container,) = deployment(service, values)["containers"]
    probes = [container[f"{kind}Probe"] for kind in ("startup", "readiness", "liveness")]
    if service == "gateway":
        scheme = "HTTPS" if json.loads(values) else "HTTP"
        asked = [(one["httpGet"]["path"], one["httpGet"]["scheme"]) for one in probes]
        assert asked == [(path, scheme) for path in ("/healthz", "/readyz", "/healthz")]
        return
    assert [one.get("tcpSocket") for one in probes] == [{"port": "service"}] * 2 + [None]
    assert probes[2]["exec"]["command"] == ["winnow", "probe", service]


def matches(selector: Manifest, labels: dict[str, str]) -> bool:
    """Whether a label selector of Kubernetes selects; the operators that the chart uses."""
    for one in selector.get("matchExpressions", []):
        assert one["operator"] == "In"
        if labels.get(one["key"]) not in one["values"]:
            return False
    return selector.get("matchLabels", {}).items() <= labels.items()


def labels(component: str) -> dict[str, str]:
    return {
        "app.kubernetes.io/name": "winnow",
        "app.kubernetes.io/instance": "winnow",
        "app.kubernetes.io/component": component,
    }


def may(
    values: str, direction: str, who: dict[str, str], peer: dict[str, str] | None, port: int
) -> bool:
    """What NetworkPolicies let a pod do, with a pod of its namespace or (None) anybody else.

    Args:
        direction: Ingress or Egress, seen from `who`.
    """
    policies = [
        one["spec"]
        for one in of("NetworkPolicy", values).values()
        if direction in one["spec"]["policyTypes"] and matches(one["spec"]["podSelector"], who)
    ]
    rules = [rule for policy in policies for rule in policy.get(direction.lower(), [])]
    side = "from" if direction == "Ingress" else "to"
    return not policies or any(
        port in {one["port"] for one in rule["ports"]}
        and (
            side not in rule
            or any(
                peer is not None
                and "namespaceSelector" not in one
                and matches(one["podSelector"], peer)
                for one in rule[side]
            )
        )
        for rule in rules
    )


def port_of(service: str) -> int:
    return int(deployment(service)["containers"][0]["ports"][0]["containerPort"])


@BOTH
def test_who_reaches_whom_is_who_calls_whom(values: str) -> None:
    for caller, callee in permutations([*SERVICES, "migrate"], 2):
        if callee == "migrate":
            continue
        port = port_of(callee)
        both = may(values, "Egress", labels(caller), labels(callee), port) and may(
            values, "Ingress", labels(callee), labels(caller), port
        )
        assert both == (callee in CALLS.get(caller, set())), (caller, callee)


@BOTH
def test_who_reaches_postgresql(values: str) -> None:
    out = {one for one in (*SERVICES, "migrate") if may(values, "Egress", labels(one), None, 5432)}
    assert out == {*DATABASE, "migrate"}
    server = {"app": "postgres"}
    heard = {
        one
        for one in (*SERVICES, "migrate", "x")
        if may(values, "Ingress", server, labels(one), 5432)
    }
    # It is a policy of its own only where the database is in the same namespace.
    assert heard == ({*DATABASE, "migrate"} if json.loads(values) else {*SERVICES, "migrate", "x"})


@BOTH
def test_only_the_gateway_is_open_to_others(values: str) -> None:
    for service in SERVICES:
        assert may(values, "Ingress", labels(service), {"app": "x"}, port_of(service)) == (
            service == "gateway" and not json.loads(values)
        )
        assert not may(values, "Ingress", labels(service), {"app": "x"}, 9464)
    out = {one for one in SERVICES if may(values, "Egress", labels(one), None, 443)}
    assert out == ({"moderator"} if json.loads(values) else set())


def test_what_is_scaled_by_what() -> None:
    scaled = of("HorizontalPodAutoscaler", json.dumps(FULL))
    by = {name: one["spec"]["metrics"][0] for name, one in scaled.items()}
    assert by.keys() == {f"winnow-{name}" for name in SERVICES if name != "audit"}
    queue = by.pop("winnow-orchestrator")["external"]["metric"]
    assert queue == {
        "name": "winnow_queue_jobs",
        "selector": {"matchLabels": {"kind": "report.run", "state": "waiting"}},
    }
    assert {one["resource"]["name"] for one in by.values()} == {"cpu"}
    for name, one in of("Deployment", json.dumps(FULL)).items():
        # Who is scaled has no count of his own, which every upgrade would set back.
        assert ("replicas" in one["spec"]) == (name not in scaled)


def test_the_audit_service_is_one_and_can_be_moved() -> None:
    audit = of("Deployment")["winnow-audit"]["spec"]
    assert (audit["replicas"], audit["strategy"]) == (1, {"type": "Recreate"})
    assert "winnow-audit" not in of("PodDisruptionBudget", json.dumps(FULL))
    claim = of("PersistentVolumeClaim")["winnow-checkpoints"]["metadata"]
    assert claim["annotations"] == {"helm.sh/resource-policy": "keep"}


@pytest.mark.parametrize("service", SERVICES)
def test_certificates_say_who_it_is_and_where(service: str) -> None:
    issued = of("Certificate", json.dumps(FULL))[f"winnow-{service}"]["spec"]
    assert issued["uris"] == [f"{peers.PREFIX}{service}"]
    assert {f"winnow-{service}", "localhost"} <= set(issued["dnsNames"])
    assert set(issued["usages"]) == {"client auth", "server auth"}
    (mounted,) = [one for one in deployment(service)["volumes"] if one["name"] == "tls"]
    assert mounted["secret"]["secretName"] == issued["secretName"]


def test_the_migration_comes_first() -> None:
    job = of("Job")["winnow-migrate"]
    assert job["metadata"]["annotations"]["helm.sh/hook"] == "pre-install,pre-upgrade"
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["args"] == ["migrate"]
    assert names(one["name"] for one in container["env"]) == OUTSIDE
    # What is not there yet before the first install.
    assert not {"envFrom", "serviceAccountName"} & {*container, *job["spec"]["template"]["spec"]}


def test_prometheus_finds_the_services_by_the_labels_of_the_rules() -> None:
    (monitor,) = of("ServiceMonitor", json.dumps(FULL)).values()
    (endpoint,) = monitor["spec"]["endpoints"]
    (relabeled,) = endpoint["relabelings"]
    assert relabeled["targetLabel"] == "service"
    job = monitor["spec"]["jobLabel"]
    for service in SERVICES:
        served = of("Service")[f"winnow-{service}"]
        about = served["metadata"]["labels"]
        assert matches(monitor["spec"]["selector"], about)
        assert about[job] == "winnow"
        label = relabeled["sourceLabels"][0].removeprefix("__meta_kubernetes_service_label_")
        assert {re.sub(r"\W", "_", key): value for key, value in about.items()}[label] == service
        assert endpoint["port"] in {one["name"] for one in served["spec"]["ports"]}


def flat(values: dict[str, Any], above: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict) and value and key != "resources":
            yield from flat(value, f"{above}{key}.")
        else:
            yield above + key, value


def test_the_table_of_values_is_the_values() -> None:
    document = (ROOT / "docs" / "deploy.md").read_text()
    rows = re.findall(
        r"^\| `([\w.]+)` \| `(.*?)` \|", document.partition("### Values")[2], re.MULTILINE
    )
    assert {name: json.loads(default) for name, default in rows} == dict(flat(VALUES))
