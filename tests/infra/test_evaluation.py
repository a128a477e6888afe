"""`alluvium evaluate` on a small log: judged as the worker would, and the same at every run."""

import csv
import json
import random
from pathlib import Path

import pytest

from infra.cli.app import run
from infra.evaluation import observations
from infra.settings import leaves
from streams.eventlog import event_log

pytestmark = pytest.mark.usefixtures("logs_restored")
HOUR_S = 3600


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return path


def event(number: int, user: str, item: str, time_s: int) -> dict[str, object]:
    return {"event_id": f"e{number}", "user_id": user, "item_id": item, "event_type": "view", "event_time": time_s}


def test_repeats_are_dropped_and_late_events_marked(tmp_path: Path) -> None:
    start = 1_600_000_000
    rows = [
        event(1, "a", "x", start + 2 * HOUR_S),
        event(1, "a", "x", start + 2 * HOUR_S),
        event(2, "a", "y", start + HOUR_S),
        event(3, "a", "z", start + HOUR_S - 1),
        event(4, "b", "x", start),
    ]
    log = event_log(write(tmp_path / "events.csv", rows))
    found = [(o.user_id, o.item_id, o.late) for o in observations(log, allowed_lateness_ms=HOUR_S * 1000)]
    assert found == [("a", "x", False), ("a", "y", False), ("a", "z", True), ("b", "x", False)]


def test_two_runs_with_one_seed_report_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALLUVIUM_MODEL__TEXT_ENCODER", "hash")
    rng = random.Random(1)
    rows = [event(n, f"u{rng.randrange(9)}", f"i{rng.randrange(20)}", 1_600_000_000 + 60 * n) for n in range(400)]
    events = write(tmp_path / "events.csv", rows)
    catalog = write(tmp_path / "catalog.csv", [{"item_id": f"i{n}", "title": f"thing {n}"} for n in range(20)])
    reports = []
    for name in ("first", "second"):
        report = tmp_path / f"{name}.json"
        words = ["evaluate", str(events), "--catalog", str(catalog), "--seed", "3", "--data-dir", str(tmp_path / name)]
        assert run([*words, "--report", str(report), "--quiet"]) == 0
        reports.append(json.loads(report.read_text()))
    assert reports[0]["quality"] == reports[1]["quality"]
    assert reports[0]["seed"] == 3
    assert reports[0]["strategies"]["default"]["interactions"] == 400


def test_an_unknown_strategy_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    events = write(tmp_path / "events.csv", [event(1, "a", "x", 1_600_000_000)])
    catalog = write(tmp_path / "catalog.csv", [{"item_id": "x", "title": "thing"}])
    words = ["evaluate", str(events), "--catalog", str(catalog), "--data-dir", str(tmp_path), "--quiet"]
    assert run([*words, "--strategy", "magic"]) == 2
    assert "magic" in capsys.readouterr().err


def test_strategies_are_compared_in_a_folder_of_json_markdown_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALLUVIUM_MODEL__TEXT_ENCODER", "hash")
    monkeypatch.setenv("ALLUVIUM_LEARNING__ROUND_INTERACTIONS", "150")
    monkeypatch.setenv("ALLUVIUM_LEARNING__EPOCHS", "1")
    monkeypatch.setenv("ALLUVIUM_LEARNING__FIRST_EPOCHS", "1")
    monkeypatch.setenv("ALLUVIUM_LEARNING__METRICS_WINDOW", "100")
    monkeypatch.setenv("ALLUVIUM_GATE__WINDOW", "20")
    rng = random.Random(1)
    rows = [event(n, f"u{rng.randrange(9)}", f"i{rng.randrange(20)}", 1_600_000_000 + 60 * n) for n in range(350)]
    events = write(tmp_path / "events.csv", rows)
    catalog = write(tmp_path / "catalog.csv", [{"item_id": f"i{n}", "title": f"thing {n}"} for n in range(20)])
    words = ["evaluate", str(events), "--catalog", str(catalog), "--data-dir", str(tmp_path / "data"), "--quiet"]
    assert run([*words, "--strategy", "naive", "--strategy", "none", "--out", str(tmp_path / "out")]) == 0
    report = json.loads((tmp_path / "out" / "evaluation.json").read_text())
    assert list(report["strategies"]) == ["naive", "none"]
    hits = [
        (point["interactions"], point["count"])
        for point in report["strategies"]["none"]["curve"]
        if (point["expert"], point["metric"]) == ("mixture", "hit_rate_10")
    ]
    assert hits == [(100, 100), (200, 100), (300, 100), (350, 50)]
    page = (tmp_path / "out" / "evaluation.md").read_text()
    value = report["strategies"]["naive"]["metrics"]["ndcg_10"]
    assert f"{value['value']:.4f} [{value['low']:.4f}, {value['high']:.4f}]" in page
    pytest.importorskip("matplotlib", reason="the plots extra is not installed")
    for name in ("quality.png", "forgetting.png", "cost.png"):
        assert (tmp_path / "out" / name).read_bytes().startswith(b"\x89PNG")
        assert f"![{name}]({name})" in page
