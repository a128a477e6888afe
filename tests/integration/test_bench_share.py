import json
from pathlib import Path

import pytest

from benchmarks.share import ALL, BEST, main
from infra.cli.runs import benchmark_names


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_share_benchmark_still_runs_at_toy_size_and_every_method_has_its_row(tmp_path: Path) -> None:
    assert "share" in benchmark_names()
    report, tables, state = tmp_path / "report.json", tmp_path / "tables.md", tmp_path / "state"
    main(["--toy", "--seeds", "1", "--state", str(state), "--report", str(report), "--markdown", str(tables)])

    found = json.loads(report.read_text())
    assert set(found["methods"]) == {
        BEST,
        ALL,
        "uniform average",
        "greedy soup",
        "Fisher-weighted average",
        "average, trained and averaged again",
        "composition of LoRA adapters",
        "composition of all changes",
        "weighted distillation",
        "logits ensemble, equal weights",
        "logits ensemble, weights by feedback",
    }
    for row in found["methods"].values():
        assert len(row["shops"]) == 4
        assert all(0 <= value <= 1 for shop in row["shops"] for value in shop)
    assert found["methods"][ALL]["of_all_data"] == 1
    run = found["runs"][0]
    assert run["methods"][BEST] == [max(single[shop] for single in run["singles"]) for shop in range(4)]
    assert all(sum(weights) == pytest.approx(1) for weights in run["weights"])
    assert len({tuple(weights) for weights in run["weights"]}) == 4  # each shop's feedback speaks for itself
    assert "| uniform average |" in tables.read_text()
