import json
from pathlib import Path

import pytest

from benchmarks.multitask import VARIANTS, main


@pytest.mark.slow
def test_the_multitask_benchmark_still_runs_at_toy_size(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    main(["--toy", "--report", str(report)])
    found = json.loads(report.read_text())
    assert [shop["seed"] for shop in found["shops"]] == [0, 1]
    assert set(found["mean"]) == set(VARIANTS)
    assert found["truth"]["cvr_auc_all"] > 0.7  # the planted chances tell buyers from others; nobody learns them here
    for gain in found["cvr_auc_gain"].values():
        assert gain["low"] <= gain["mean"] <= gain["high"]
    for head in ("click", "cart", "purchase", "click_and_purchase", "buyer"):
        assert 0 <= found["ece"][head]["vs_truth"] <= 1
        assert found["ece"][head]["judged"] > 0
