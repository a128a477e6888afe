import json
from pathlib import Path

import pytest

from benchmarks.prequential import main
from infra.cli.runs import benchmark_names


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_prequential_benchmark_still_runs_at_toy_size_and_goes_on_where_it_was(tmp_path: Path) -> None:
    assert "prequential" in benchmark_names()
    assert "prequential_parts" not in benchmark_names()
    report, tables, state = tmp_path / "report.json", tmp_path / "tables.md", tmp_path / "state"
    arguments = ["--toy", "--state", str(state), "--report", str(report), "--markdown", str(tables)]
    main(arguments)
    first = json.loads(report.read_text())
    found = first["data"]["toy"]
    assert set(found["contenders"]) >= {
        "popularity",
        "item_knn",
        "river_biased_mf",
        "river_fm",
        "default",
        "retraining",
    }
    for contender in found["contenders"].values():
        for figures in contender["experts"].values():
            assert (
                0 <= figures["hit_rate_10"]["low"] <= figures["hit_rate_10"]["value"] <= figures["hit_rate_10"]["high"]
            )
    assert found["contenders"]["retraining"]["facts"][0]["rounds"] >= 2
    assert found["contenders"]["default"]["train_s"][0] > 0
    assert set(found["contenders"]["default"]["experts"]) == {"served", "shared_model", "fast_memory"}
    assert found["default_minus"]["popularity"]["hit_rate_10"]["value"] > 0  # people have tastes, popularity does not
    assert "| default |" in tables.read_text()
    kept = {path.name: path.stat().st_mtime_ns for path in state.iterdir()}
    main(arguments)
    assert {path.name: path.stat().st_mtime_ns for path in state.iterdir()} == kept
    assert json.loads(report.read_text()) == first
