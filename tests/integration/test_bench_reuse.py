import json
from pathlib import Path

import pytest

from benchmarks.reuse import main
from infra.cli.runs import benchmark_names


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_reuse_benchmark_still_runs_at_toy_size_and_goes_on_where_it_was(tmp_path: Path) -> None:
    assert "reuse" in benchmark_names()
    assert "knowledge_parts" not in benchmark_names()
    report, tables, state = tmp_path / "report.json", tmp_path / "tables.md", tmp_path / "state"
    arguments = ["--toy", "--seeds", "1", "--state", str(state), "--report", str(report), "--markdown", str(tables)]

    main(arguments)

    found = json.loads(report.read_text())
    assert set(found["markets"]) == {"Germany", "France"}
    for market in found["markets"].values():
        at = {row["events"]: row for row in market["curve"]}
        assert {0, 100, market["learnable"] // 5, market["learnable"]} <= set(at)
        final = at[market["learnable"]]
        assert final["reuse"][0] > final["scratch"][0]  # what follows what is the same in all toy countries
        assert all(len(row["reuse_trial"][0]) == 2 for row in at.values() if row["events"])  # from scratch, the donor
        for row in at.values():
            if row["events"] and not row["wrong_chosen"][0]:
                assert row["wrong"] == row["scratch"]
    assert "| Germany |" in tables.read_text()

    kept = {path: path.stat().st_mtime_ns for path in state.rglob("*.json")}
    main(arguments)
    assert {path: path.stat().st_mtime_ns for path in state.rglob("*.json")} == kept
    assert json.loads(report.read_text()) == found
