"""The manifests: valid by Kubernetes' own schemas, closed, and true of the proxy that they start.

There is no cluster here: nothing is scheduled, and no policy is enforced. kubectl, where it is installed, puts the
overlays together as it would for a cluster.
"""

from __future__ import annotations

import re
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml
from support.deployed import DEPLOY, image_environment, status_of

from cacheproxy.config import load

FOLDER = DEPLOY / "kubernetes"
OVERLAYS = ("base", "overlays/sqlite", "overlays/service-monitor")
KUBECTL = shutil.which("kubectl")
OTHERS = {"ServiceMonitor"}
"""Kinds of the Prometheus operator, which Kubernetes has no schema of."""
SECRETS = {
    "admin-token": "token-of-the-admin-plane",
    "store-url": "redis://redis:6379/0",
    "openai-api-key": "sk-ours",
}
"""What docs/deployment.md has people put into the secret."""

every_overlay = pytest.mark.parametrize("overlay", OVERLAYS)


@pytest.fixture(scope="module")
def rendered():
    """``rendered(overlay)``: its objects, by kind and name."""
    if KUBECTL is None:
        pytest.skip("kubectl is not installed")
    known = {}

    def render(overlay):
        if overlay not in known:
            done = subprocess.run([KUBECTL, "kustomize", FOLDER / overlay], capture_output=True, text=True, check=False)
            assert done.returncode == 0, done.stderr
            known[overlay] = {
                (one["kind"], one["metadata"]["name"]): one for one in yaml.safe_load_all(done.stdout) if one
            }
        return known[overlay]

    return render


@pytest.fixture
def proxy_of(rendered):
    """``proxy_of(overlay)``: its pod's specification and the container in it."""

    def find(overlay):
        pod = rendered(overlay)["Deployment", "cacheproxy"]["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        return pod, container

    return find


@pytest.fixture
def environment_of(rendered, proxy_of):
    """``environment_of(overlay)``: what its container finds in its environment."""

    def gather(overlay):
        _, container = proxy_of(overlay)
        (maps,) = container["envFrom"]
        found = image_environment("proxy") | rendered(overlay)["ConfigMap", maps["configMapRef"]["name"]]["data"]
        for variable in container["env"]:
            key = variable.get("valueFrom", {}).get("secretKeyRef", {}).get("key")
            found[variable["name"]] = SECRETS[key] if key else variable["value"]
        return found

    return gather


@every_overlay
@pytest.mark.parametrize("version", ["1.29", "1.33", "1.37"])
def test_every_object_is_what_kubernetes_takes(rendered, overlay, version):
    for (kind, _), found in rendered(overlay).items():
        if kind not in OTHERS:
            kubernetes_validate.validate(found, version, strict=True)


def test_every_file_is_used(rendered):
    named = set()
    for folder in OVERLAYS:
        kustomization = yaml.safe_load((FOLDER / folder / "kustomization.yaml").read_text(encoding="utf-8"))
        named |= {(FOLDER / folder / resource).resolve() for resource in kustomization["resources"]}
        named.add(FOLDER / folder / "kustomization.yaml")
    assert set(FOLDER.rglob("*.yaml")) <= named


@every_overlay
def test_a_pod_is_not_root_and_can_write_only_where_it_must(proxy_of, overlay):
    pod, container = proxy_of(overlay)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    writable = {mount["mountPath"] for mount in container["volumeMounts"] if not mount.get("readOnly")}
    assert writable == {"/data", "/tmp"}


@every_overlay
def test_every_container_has_limits_probes_and_a_version(proxy_of, overlay):
    _, container = proxy_of(overlay)
    assert container["resources"]["limits"].keys() == container["resources"]["requests"].keys()
    assert re.search(r":\d+\.\d+", container["image"])
    paths = {probe: container[f"{probe}Probe"]["httpGet"]["path"] for probe in ("startup", "liveness", "readiness")}
    assert paths == {"startup": "/livez", "liveness": "/livez", "readiness": "/readyz"}


@every_overlay
def test_secrets_are_named_and_never_written(rendered, proxy_of, overlay):
    _, container = proxy_of(overlay)
    assert not [kind for kind, _ in rendered(overlay) if kind == "Secret"]
    wanted = {v["valueFrom"]["secretKeyRef"]["key"] for v in container["env"] if "valueFrom" in v}
    docs = (DEPLOY.parent / "docs" / "deployment.md").read_text(encoding="utf-8")
    assert all(re.search(rf"--from-literal={key}=", docs) for key in wanted)


@every_overlay
def test_mounts_have_their_volumes(proxy_of, overlay):
    pod, container = proxy_of(overlay)
    assert {mount["name"] for mount in container["volumeMounts"]} == {volume["name"] for volume in pod["volumes"]}


@every_overlay
def test_selectors_find_the_pods(rendered, overlay):
    objects = rendered(overlay)
    labels = objects["Deployment", "cacheproxy"]["spec"]["template"]["metadata"]["labels"]
    selectors = [one["spec"]["selector"] for (kind, _), one in objects.items() if kind == "Service"]
    selectors += [
        one["spec"]["selector"]["matchLabels"]
        for (kind, _), one in objects.items()
        if kind in {"PodDisruptionBudget", "Deployment"}
    ]
    selectors.append(objects["NetworkPolicy", "cacheproxy"]["spec"]["podSelector"]["matchLabels"])
    assert all(selector.items() <= labels.items() for selector in selectors)


def test_the_monitor_finds_the_admin_service_and_its_token(rendered):
    objects = rendered("overlays/service-monitor")
    monitor = objects["ServiceMonitor", "cacheproxy"]["spec"]
    service = objects["Service", "cacheproxy-admin"]
    assert monitor["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert "component" not in str(objects["Service", "cacheproxy"]["metadata"]["labels"])
    (endpoint,) = monitor["endpoints"]
    assert endpoint["port"] in {port["name"] for port in service["spec"]["ports"]}
    assert endpoint["authorization"]["credentials"]["key"] in SECRETS


@every_overlay
def test_the_outside_reaches_callers_ports_only_by_policy(rendered, overlay):
    policy = rendered(overlay)["NetworkPolicy", "cacheproxy"]["spec"]
    assert set(policy["policyTypes"]) == {"Ingress", "Egress"}
    assert all(rule["from"] for rule in policy["ingress"])
    assert [port["port"] for rule in policy["ingress"] for port in rule["ports"]] == ["http", "admin"]
    assert all(
        one["spec"].get("type", "ClusterIP") == "ClusterIP"
        for (k, _), one in rendered(overlay).items()
        if k == "Service"
    )


def test_replicas_belong_to_the_autoscaler_or_are_one(rendered):
    base, single = rendered("base"), rendered("overlays/sqlite")
    assert base["HorizontalPodAutoscaler", "cacheproxy"]["spec"]["minReplicas"] > 1
    assert "replicas" not in base["Deployment", "cacheproxy"]["spec"]
    assert single["Deployment", "cacheproxy"]["spec"]["replicas"] == 1
    assert single["Deployment", "cacheproxy"]["spec"]["strategy"] == {"type": "Recreate"}
    assert ("HorizontalPodAutoscaler", "cacheproxy") not in single


@every_overlay
def test_every_variable_is_a_setting_that_keeps_the_door_shut(environment_of, proxy_of, overlay):
    pod, _ = proxy_of(overlay)
    settings = load(flags={}, environ=environment_of(overlay)).settings
    assert settings.upstreams["default"].injects_key
    assert settings.asks_key
    assert settings.admin_token
    assert pod["terminationGracePeriodSeconds"] > settings.deadlines.unready_s + settings.deadlines.drain_s + 5
    assert pod["enableServiceLinks"] is False, "CACHEPROXY_PORT and the like would be unknown settings"


@pytest.mark.parametrize("overlay", ["base", "overlays/sqlite"])
def test_a_proxy_answers_its_probes_until_it_is_told_to_go(environment_of, proxy_of, start, place, redis, overlay):
    _, container = proxy_of(overlay)
    ports = {port["name"]: port["containerPort"] for port in container["ports"]}

    def probe(name):
        check = container[f"{name}Probe"]["httpGet"]
        return status_of(place.url(ports[check["port"]], check["path"]))[0]

    def well():
        try:
            return probe("startup") == 200
        except OSError:
            return False

    # The embedding model takes long to load, and test_compose.py loads it.
    running = start(container["args"], environment_of(overlay) | {"CACHEPROXY_MODE": "exact"})
    running.until(well)
    assert (probe("liveness"), probe("readiness")) == (200, 200)
    assert status_of(place.url(8090, "/v1/models"))[0] == 401
    assert status_of(place.url(8091, "/metrics"), token=SECRETS["admin-token"])[0] == 200

    running.process.terminate()
    running.until(lambda: probe("readiness") == 503)
    assert probe("liveness") == 200
    running.process.kill()  # for so long as unready_s says it would go on
