"""The benchmarks of tasks still run at toy size, and go on where they were."""

import json
from pathlib import Path

import pytest

from benchmarks import forgetting, relevance
from benchmarks.task_parts.five_tasks import TASKS
from benchmarks.task_parts.sequences import average_accuracy, backward_transfer
from infra.cli.runs import benchmark_names


def test_the_benchmarks_are_known() -> None:
    assert {"relevance", "forgetting"} <= set(benchmark_names())
    assert "task_parts" not in benchmark_names()


def test_the_relevance_benchmark_still_runs_at_toy_size(tmp_path: Path) -> None:
    report, tables, state = tmp_path / "report.json", tmp_path / "tables.md", tmp_path / "state"
    arguments = ["--toy", "--state", str(state), "--report", str(report), "--markdown", str(tables)]

    relevance.main(arguments)

    found = json.loads(report.read_text())
    methods = found["methods"]
    assert set(methods) > {relevance.BM25, relevance.LORA, relevance.FULL, relevance.SHOP + relevance.FEW}
    for figures in methods.values():
        assert 0.9 < figures["ndcg_10"][0] <= 1  # what is relevant shares words, which every method sees
    assert methods[relevance.LORA]["trained_parameters"][0] < methods[relevance.FULL]["trained_parameters"][0] / 5
    assert methods[relevance.FULL]["rmse"][0] < 0.5  # the label's standard deviation is 0.7
    assert len(found["claims"]) == 3
    assert "| LoRA |" in tables.read_text()

    kept = {path: path.stat().st_mtime_ns for path in state.rglob("*.json")}
    relevance.main(arguments)
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*.json")} == kept
    assert json.loads(report.read_text()) == found

    relevance.main([*arguments, "--method", relevance.LORA])
    assert json.loads(report.read_text())["methods"] == {relevance.LORA: methods[relevance.LORA]}


@pytest.mark.slow
def test_the_forgetting_benchmark_still_runs_at_toy_size(tmp_path: Path) -> None:
    report, tables, picture = tmp_path / "report.json", tmp_path / "tables.md", tmp_path / "plot.png"
    arguments = ["--toy", "--state", str(tmp_path / "state"), "--report", str(report), "--markdown", str(tables)]

    forgetting.main([*arguments, "--plot", str(picture)])

    found = json.loads(report.read_text())
    for figures in found["methods"].values():
        (matrix,) = figures["matrices"]
        assert [len(row) for row in matrix] == [1, 2, 3, 4, 5]
        assert figures["average_accuracy"] == [average_accuracy(matrix)]
        assert figures["backward_transfer"] == [backward_transfer(matrix)]
        assert all(row[-1] > 0.7 for row in matrix)  # each is learned when its turn comes
    transfer = {name: figures["backward_transfer"][0] for name, figures in found["methods"].items()}
    assert transfer[forgetting.STORE] == 0  # what is read back is what was kept
    assert transfer[forgetting.NAIVE] < -0.02
    assert all(found["claims"].values())
    assert all(f"after {task}" in tables.read_text() for task in TASKS)
    assert picture.stat().st_size > 1000
