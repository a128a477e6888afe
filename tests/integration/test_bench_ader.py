import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.ader import main
from benchmarks.sessions.errors import OptionError
from benchmarks.sessions.toy import toy_periods


@pytest.fixture
def shop(tmp_path: Path) -> Path:
    """The toy shop as a file that a shop would bring."""
    periods = toy_periods(seed=3)
    columns: dict[str, list[str | int]] = {"period": [], "session_id": [], "item_id": []}
    for period, sessions in enumerate(periods.sessions):
        columns["period"] += [period] * len(sessions.items)
        columns["session_id"] += [f"{period}-{owner}" for owner in sessions.owners().tolist()]
        columns["item_id"] += [f"item {item}" for item in sessions.items.tolist()]
    pq.write_table(pa.table(columns), tmp_path / "shop.parquet")
    return tmp_path / "shop.parquet"


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_command_runs_at_toy_size_and_goes_on_where_it_was(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "infra.cli", "bench", "ader", "--toy", "--device", "cpu",
        "--state", str(tmp_path / "state"), "--retrain-updates", "1,2",
    ]  # fmt: skip
    subprocess.run([*command, "--updates", "2"], check=True, timeout=280)
    report, page = tmp_path / "out" / "report.json", tmp_path / "out" / "page.md"
    files = ["--report", str(report), "--markdown", str(page)]
    done = subprocess.run(
        [*command, "--seeds", "2", "--ablate", *files], check=True, timeout=280, capture_output=True, text=True
    )
    main_part = done.stderr.split("ablation:")[0]
    assert "seed 0 update 2" not in main_part  # it was kept
    found = json.loads(report.read_text())
    assert [one["update"] for one in found["updates"]] == [1, 2, 3]
    for who in ("mixture", "shared_model", "fast_memory"):
        assert set(found["mean"][who]) >= {"recall_20", "mrr_20", "recall_10", "mrr_10"}
        assert all(0 <= one[who]["recall_20"] <= 100 for one in found["updates"])
    assert found["mean"]["mixture"]["mrr_20"] > 95  # walks are easily foretold
    assert found["train_s"]["updates"] == [1, 2]
    assert found["train_s"]["ours"] > 0
    assert found["train_s"]["full_retraining"] > 0
    assert set(found["seeds"]) == {"0", "1"}
    assert {"forgetting", "backward"} == set(found["seeds"]["0"]["forgetting"]["mixture"])
    assert found["ablation"][0]["variant"] == "all"
    assert len(found["ablation"]) == 10
    assert "| **mixture** |" in page.read_text()


@pytest.mark.slow
def test_a_shop_brings_its_own_sessions_and_a_plot_is_drawn(tmp_path: Path, shop: Path) -> None:
    pytest.importorskip("matplotlib", reason="needs the extra plots")
    report, picture = tmp_path / "report.json", tmp_path / "plot.png"
    arguments = ["--sessions", shop, "--updates", "1", "--device", "cpu", "--report", report, "--plot", picture]
    main([str(word) for word in arguments])
    assert json.loads(report.read_text())["published"] == []
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--toy", "--updates", "9"], "--updates is 9; expected a number from 1 to 3"),
        (["--toy", "--updates", "1", "--retrain-updates", "2"], "--retrain-updates is 2"),
        (["--toy", "--seeds", "0"], "--seeds is 0"),
    ],
)
def test_an_option_out_of_range_is_refused(arguments: list[str], words: str) -> None:
    with pytest.raises(OptionError, match=words):
        main(arguments)


def test_a_wrong_file_ends_the_command_with_one_line(tmp_path: Path) -> None:
    pq.write_table(pa.table({"period": [0, 1], "item_id": [1, 2]}), tmp_path / "shop.parquet")
    command = [sys.executable, "-m", "infra.cli", "bench", "ader", "--sessions", str(tmp_path / "shop.parquet")]
    done = subprocess.run(command, check=False, timeout=60, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "no column session_id" in done.stderr
