import json
from pathlib import Path

import pytest
import torch

from benchmarks.train import LADDER, OURS, PLAIN, REAL_ONLY, main


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
    assert max(found["longer_losses"].values()) - min(found["longer_losses"].values()) < 0.5
    assert found["matrix_limit_gflops"] > 0
    assert found["ours_share_of_limit"] > 0
    assert found["gpu"]["run"] is torch.cuda.is_available()
