"""`alluvium demo` at toy size: the real command, the real processes, a report at the end and nothing left behind."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import psutil
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "plain_client.py"
TOY = {
    "ALLUVIUM_LEARNING__ROUND_INTERACTIONS": "1000",
    "ALLUVIUM_LEARNING__EPOCHS": "1",
    "ALLUVIUM_GATE__WINDOW": "100",
    "ALLUVIUM_MODEL__TEXT_ENCODER": "hash",
    "ALLUVIUM_MODEL__WIDTH": "16",
    "ALLUVIUM_MODEL__LAYERS": "1",
    "ALLUVIUM_MODEL__HISTORY_LENGTH": "20",
}


def start(folder: Path, *, duration_s: int) -> subprocess.Popen[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ALLUVIUM_")}
    return subprocess.Popen(
        [sys.executable, "-m", "infra.cli", "demo", "--duration", str(duration_s), "--report", str(folder / "r.json")],
        env=environment | TOY | {"ALLUVIUM_DATA_DIR": str(folder)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def family(process: subprocess.Popen[str]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def left_behind(processes: list[psutil.Process], *, patience_s: float = 10.0) -> list[psutil.Process]:
    _, alive = psutil.wait_procs(processes, timeout=patience_s)
    return [process for process in alive if process.status() != psutil.STATUS_ZOMBIE]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """One run of the whole demo, shared by the tests below."""
    folder = tmp_path_factory.mktemp("demo")
    seen: dict[int, psutil.Process] = {}
    with start(folder, duration_s=20) as process:
        try:
            while process.poll() is None:
                seen.update({child.pid: child for child in family(process)})
                time.sleep(0.5)
            output, _ = process.communicate()
        finally:
            process.kill()
    assert process.returncode == 0, output
    return {
        "output": output,
        "folder": folder / "demo",
        "report": json.loads((folder / "r.json").read_text(encoding="utf-8")),
        "children": list(seen.values()),
    }


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_event_sent_is_in_the_ledger_with_its_outcome(demo: dict[str, Any]) -> None:
    events = demo["report"]["events"]
    assert events["sent"] > 1_000
    assert events["received"] == events["sent"]
    assert events["applied"] == events["received"]
    assert [events[name] for name in ("rejected", "duplicate", "late", "erased", "truncated")] == [0] * 5


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_rankings_releases_and_quality_come_out(demo: dict[str, Any]) -> None:
    report = demo["report"]
    assert report["rankings"] > 50
    assert report["freshness_ms"]["ranking"]["p50"] > 0
    assert any(release["kind"] == "release" for release in report["releases"])
    assert {"mixture", "fast_memory", "popularity"} <= report["quality"].keys()
    assert 0 < report["quality"]["mixture"]["hit_rate_10"] < 1


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_every_drift_was_planted_and_visitors_reacted_to_published_rankings(demo: dict[str, Any]) -> None:
    report = demo["report"]
    assert [drift["planted"] for drift in report["drift"]["planted"]] == [True] * 3
    assert sum(report["click_rate"]["clicks_by_reason"].values()) > 0


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_the_report_lies_there_as_text_json_and_a_page(demo: dict[str, Any]) -> None:
    assert "DRIFT, planted against detected" in demo["output"]
    page = (demo["folder"] / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == 2
    assert json.loads((demo["folder"] / "report.json").read_text(encoding="utf-8")) == demo["report"]


@pytest.mark.slow
@pytest.mark.timeout(400)
def test_no_process_is_left_behind(demo: dict[str, Any]) -> None:
    assert len(demo["children"]) >= 4  # Kafka, Postgres, worker, learner
    assert left_behind(demo["children"]) == []


@pytest.mark.slow
@pytest.mark.timeout(240)
def test_a_plain_client_gets_a_ranking_and_ctrl_c_then_ends_everything(tmp_path: Path) -> None:
    with start(tmp_path, duration_s=120) as process:
        try:
            assert process.stdout is not None
            address = ""
            for line in process.stdout:
                if line.startswith("Kafka at "):
                    address = line.split()[2].rstrip(";")
                if "of traffic begin" in line:
                    break
            children = family(process)
            example = subprocess.run(
                [sys.executable, EXAMPLE, "--bootstrap-servers", address, "--user", "alice", "--item", "P0001"],
                capture_output=True,
                text=True,
                timeout=90,
                check=False,
            )
            process.send_signal(signal.SIGINT)
            output, _ = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, output
    assert len(children) >= 4
    assert left_behind(children) == []
    assert example.returncode == 0, example.stderr
    ranking = json.loads(example.stdout)
    assert ranking["user_id"] == "alice"
    assert len(ranking["items"]) == 20
