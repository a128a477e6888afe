import json
from pathlib import Path

import pytest

from benchmarks.ingest import main


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_the_ingest_benchmark_still_runs_at_toy_size(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    main(["--toy", "--embedded-only", "--report", str(report)])
    found = json.loads(report.read_text())
    assert found["ratios"]["decode_vs_stock_embedded"] > 0
    assert found["ratios"]["pipeline_vs_kafka_streams"] is None
    assert found["runs"]["embedded"]["pipeline_batching"]["events_per_s"] > 0
