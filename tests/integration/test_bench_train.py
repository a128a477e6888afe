import json
from pathlib import Path

import pytest
import torch

from benchmarks.train import main
from benchmarks.train_parts.loops import EVEN, LADDER, MIXED, OURS, PLAIN, REAL_ONLY, SAMPLED


@pytest.mark.slow
def test_the_training_benchmark_still_runs_at_toy_size(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    main(["--toy", "--report", str(report)])
    found = json.loads(report.read_text())
    assert {*LADDER, OURS} < set(found["loops"])
    assert found["ratios"][PLAIN] == 1
    assert found["ratios"][OURS] > 1
    # Leaving padding out changes what is computed, not what is learned.
    assert abs(found["loss_above_plain"][REAL_ONLY]) < 1e-3
    assert abs(found["loss_above_plain"][OURS]) < 0.1
    equal = found["equal_loss"]
    assert equal["plain"]["step"] == 4
    assert equal["plain"]["cpu_s"] > 0
    assert set(equal["ours"]) == {MIXED, OURS, EVEN, SAMPLED}
    for name, reached in equal["ours"].items():
        curve = equal["curves"][name]
        assert [look["step"] for look in curve] == [2, 4, 6, 8]
        assert sorted(look["cpu_s"] for look in curve) == [look["cpu_s"] for look in curve]
        assert reached["loss_at_equal_steps"] == curve[1]["loss"]
        assert abs(reached["loss_at_equal_steps"] - equal["plain"]["loss"]) < 0.5
        assert (reached["steps"] is None) == (curve[-1]["loss"] > equal["plain"]["loss"])
    assert found["matrix_limit_gflops"] > 0
    assert found["ours_share_of_limit"] > 0
    assert found["gpu"]["run"] is torch.cuda.is_available()
