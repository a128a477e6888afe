"""The Kubernetes manifests, without a cluster: references, settings and commands."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from infra.cli.app import run
from infra.settings import leaves, load_settings

MANIFEST = Path(__file__).parents[2] / "infra/kubernetes/alluvium.yaml"


@pytest.fixture(scope="module")
def items() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = yaml.safe_load(MANIFEST.read_text())["items"]
    return found


def pods(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for item in items:
        if item["kind"] in {"Job", "Deployment"}:
            yield item["spec"]["template"]["spec"]


def containers(items: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    for pod in pods(items):
        yield from (*pod.get("initContainers", ()), *pod["containers"])


def test_settings_of_the_config_map_are_settings(items: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    (settings,) = (item["data"] for item in items if item["kind"] == "ConfigMap")
    for variable, value in settings.items():
        monkeypatch.setenv(variable, value)
    assert load_settings().kafka.replication_factor == 3


def test_containers_run_commands_that_exist_as_an_ordinary_user(items: list[dict[str, Any]]) -> None:
    for container in containers(items):
        assert run([*container["args"], "--help"]) == 0
        assert container["securityContext"]["readOnlyRootFilesystem"]
    assert all(pod["securityContext"]["runAsNonRoot"] for pod in pods(items))


def test_mounts_and_selectors_refer_to_what_is_there(items: list[dict[str, Any]]) -> None:
    names = {(item["kind"], item["metadata"]["name"]) for item in items}
    for pod in pods(items):
        volumes = {volume["name"] for volume in pod["volumes"]}
        for volume in pod["volumes"]:
            if "persistentVolumeClaim" in volume:
                assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in names
        for container in (*pod.get("initContainers", ()), *pod["containers"]):
            assert {mount["name"] for mount in container["volumeMounts"]} <= volumes
    for item in items:
        if item["kind"] == "Deployment":
            assert item["spec"]["selector"]["matchLabels"] == item["spec"]["template"]["metadata"]["labels"]


def test_probes_ask_the_port_that_the_process_opens(items: list[dict[str, Any]]) -> None:
    settings = load_settings()
    ports = {"worker": settings.http.worker_port, "learner": settings.http.learner_port}
    probed = [container for container in containers(items) if "readinessProbe" in container]
    assert {container["name"] for container in probed} == ports.keys()
    for container in probed:
        for probe in ("readinessProbe", "livenessProbe"):
            assert container[probe]["httpGet"]["port"] == ports[container["name"]]
