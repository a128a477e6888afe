"""docker-compose.yml and what hangs on it, without a Docker engine: schema, references, the very commands it runs."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from prometheus_client import REGISTRY

import streams.learning.gauges
import streams.worker_metrics  # noqa: F401 - registers the metrics that the dashboard shows
from infra import processes
from infra.cli.app import run
from infra.settings import leaves, load_settings
from infra.supervisor import Program, Supervisor
from tests.brokers import RealBroker

ROOT = Path(__file__).parents[2]
OURS = ("topics", "features", "worker", "learner")
PORTS = {"worker": 6066, "learner": 6067}

DURATION = {"type": "string", "pattern": r"^[0-9]+(ms|s|m|h)$"}
WORDS = {"type": "array", "items": {"type": "string"}, "minItems": 1}
SERVICE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["image"],
    "properties": {
        "image": {"type": "string", "pattern": r"^[a-z0-9./_-]+:[A-Za-z0-9._-]+$"},
        "build": {
            "type": "object",
            "additionalProperties": False,
            "required": ["context", "dockerfile"],
            "properties": {"context": {"type": "string"}, "dockerfile": {"type": "string"}},
        },
        "init": {"type": "boolean"},
        "command": WORDS,
        "environment": {"type": "object", "additionalProperties": {"type": ["string", "number"]}},
        "volumes": WORDS,
        "read_only": {"type": "boolean"},
        "tmpfs": WORDS,
        "security_opt": WORDS,
        "cap_drop": WORDS,
        "ports": {"type": "array", "items": {"type": "string", "pattern": r"^127\.0\.0\.1:[0-9]+:[0-9]+$"}},
        "expose": WORDS,
        "healthcheck": {
            "type": "object",
            "additionalProperties": False,
            "required": ["test", "interval", "timeout", "retries"],
            "properties": {
                "test": {"type": "array", "prefixItems": [{"enum": ["CMD", "CMD-SHELL"]}], "minItems": 2},
                "interval": DURATION,
                "timeout": DURATION,
                "start_period": DURATION,
                "retries": {"type": "integer", "minimum": 1},
            },
        },
        "depends_on": {
            "type": "object",
            "additionalProperties": {
                "type": "object",
                "additionalProperties": False,
                "required": ["condition"],
                "properties": {
                    "condition": {"enum": ["service_started", "service_healthy", "service_completed_successfully"]}
                },
            },
        },
        "restart": {"enum": ["no", "always", "on-failure", "unless-stopped"]},
        "stop_grace_period": DURATION,
    },
}
COMPOSE = {
    "type": "object",
    "additionalProperties": False,
    "required": ["services"],
    "patternProperties": {"^x-": {}},
    "properties": {
        "name": {"type": "string"},
        "services": {"type": "object", "additionalProperties": SERVICE},
        "volumes": {"type": "object", "additionalProperties": {"type": ["object", "null"]}},
    },
}


def interpolate(text: str) -> str:
    """What compose makes of `${NAME:-default}` when the variable is not set."""
    return re.sub(r"\$\{[A-Za-z_0-9]+:-([^}]*)\}", r"\1", text)


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    text = interpolate((ROOT / "docker-compose.yml").read_text())
    assert "${" not in text, "a variable without a default would stop `docker compose up`"
    parsed: dict[str, Any] = yaml.safe_load(text)
    return parsed


@pytest.fixture
def services(compose: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = compose["services"]
    return found


def test_the_file_is_what_compose_expects(compose: dict[str, Any]) -> None:
    jsonschema.validate(compose, COMPOSE)


def test_services_wait_for_services_that_exist_and_can_say_so(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, wait in service.get("depends_on", {}).items():
            assert other in services, name
            if wait["condition"] == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for {other}"
            if wait["condition"] == "service_completed_successfully":
                assert services[other]["restart"] == "on-failure", f"{other} would be started again when it is done"


def test_all_long_running_services_have_health_checks(services: dict[str, Any]) -> None:
    assert {name for name, service in services.items() if "healthcheck" not in service} == {"topics", "features"}


def test_named_volumes_are_declared(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in compose["volumes"], source


def test_all_our_services_are_one_image(services: dict[str, Any]) -> None:
    assert len({services[name]["image"] for name in OURS}) == 1
    dockerfile = ROOT / services["worker"]["build"]["dockerfile"]
    lines = dockerfile.read_text().splitlines()
    assert [line for line in lines if line.startswith("USER ")] == ["USER 10001"]
    assert 'ENTRYPOINT ["alluvium"]' in lines
    for line in lines:
        if line.startswith("COPY ") and "--from" not in line:
            for source in line.split()[1:-1]:
                assert (ROOT / source).exists(), source


def test_our_services_get_settings_that_exist(services: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    for name in OURS:
        for variable, value in services[name]["environment"].items():
            monkeypatch.setenv(variable, str(value))
    settings = load_settings()
    assert settings.kafka.bootstrap_servers == "kafka:9092"
    assert settings.http.host == "0.0.0.0"


@pytest.mark.parametrize("name", OURS)
def test_our_services_run_commands_that_exist(
    name: str, services: dict[str, Any], capsys: pytest.CaptureFixture[str]
) -> None:
    command = services[name]["command"]
    assert run([*command, "--help"]) == 0
    shown = capsys.readouterr().out
    for word in command:
        if word.startswith("--"):
            assert word in shown


def test_prometheus_asks_where_the_services_answer(services: dict[str, Any]) -> None:
    config = yaml.safe_load((ROOT / "infra/prometheus/prometheus.yml").read_text())
    asked = {job["job_name"]: job["dns_sd_configs"][0]["port"] for job in config["scrape_configs"]}
    assert asked == PORTS
    for name, port in PORTS.items():
        assert services[name]["expose"] == [str(port)]
        assert services[name]["healthcheck"]["test"][-1] == str(port)
    for path in config["rule_files"]:
        assert (ROOT / "infra/prometheus" / path).exists()


def test_dashboard_and_alerts_show_metrics_that_exist() -> None:
    known = {"up"} | {sample for metric in REGISTRY.collect() for sample in _sample_names(metric.name, metric.type)}
    for expression in (*_panel_expressions(), *_alert_expressions()):
        names = set(re.findall(r"\b(alluvium_[a-z_0-9]+|up)\b", expression))
        assert names, expression
        assert names <= known, expression


def test_grafana_is_provisioned_with_the_dashboard() -> None:
    sources = yaml.safe_load((ROOT / "infra/grafana/provisioning/datasources/prometheus.yml").read_text())
    dashboard = json.loads((ROOT / "infra/grafana/dashboards/alluvium.json").read_text())
    used = {panel["datasource"]["uid"] for panel in dashboard["panels"]}
    assert used == {source["uid"] for source in sources["datasources"]}
    assert len({(panel["gridPos"]["x"], panel["gridPos"]["y"]) for panel in dashboard["panels"]}) == len(
        dashboard["panels"]
    )


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_commands_of_our_services_bring_the_system_up(
    services: dict[str, Any], real_kafka: RealBroker, database_url: str, tmp_path: Path
) -> None:
    """What compose would start, in its order, with its environment but for addresses, on a real broker."""
    environment = {name: str(value) for name, value in services["worker"]["environment"].items()}
    ports = {name: processes.free_port() for name in PORTS}
    environment |= {
        "ALLUVIUM_KAFKA__BOOTSTRAP_SERVERS": real_kafka.bootstrap_servers,
        "ALLUVIUM_POSTGRES__URL": database_url,
        "ALLUVIUM_DATA_DIR": str(tmp_path / "data"),
        "ALLUVIUM_HTTP__HOST": "127.0.0.1",
        "ALLUVIUM_HTTP__WORKER_PORT": str(ports["worker"]),
        "ALLUVIUM_HTTP__LEARNER_PORT": str(ports["learner"]),
        "ALLUVIUM_MODEL__TEXT_ENCODER": "hash",
    }
    real_kafka.adopt_all_topics()
    for job in ("topics", "features"):
        done = subprocess.run(
            [sys.executable, "-m", "infra.cli", *services[job]["command"]],
            check=False,
            env={**os.environ, **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr
    with Supervisor(log_dir=tmp_path / "logs") as supervisor:
        for name, port in ports.items():
            supervisor.start(
                Program(
                    name=name,
                    argv=[sys.executable, "-m", "infra.cli", *services[name]["command"]],
                    env=environment,
                    ready_url=f"http://127.0.0.1:{port}/healthz",
                    max_failures=0,
                )
            )
        supervisor.wait_ready(timeout_s=120)
        for port in ports.values():
            assert _health(port) == 0
    assert _health(ports["worker"]) == 1


def _health(port: int) -> int:
    script = ROOT / "infra/docker/healthcheck.py"
    return subprocess.run([sys.executable, str(script), str(port)], check=False, timeout=30).returncode


def _sample_names(name: str, kind: str) -> Iterator[str]:
    match kind:
        case "counter":
            yield f"{name}_total"
        case "histogram":
            yield from (f"{name}_bucket", f"{name}_sum", f"{name}_count")
        case _:
            yield name


def _panel_expressions() -> Iterator[str]:
    dashboard = json.loads((ROOT / "infra/grafana/dashboards/alluvium.json").read_text())
    for panel in dashboard["panels"]:
        yield from (target["expr"] for target in panel["targets"])


def _alert_expressions() -> Iterator[str]:
    alerts = yaml.safe_load((ROOT / "infra/prometheus/alerts.yml").read_text())
    yield from (rule["expr"] for group in alerts["groups"] for rule in group["rules"])
