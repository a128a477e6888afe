import gzip
import json
from pathlib import Path

import pytest

from benchmarks.chinese import DataMissingError, main, read


def test_the_chinese_benchmark_finds_titles_by_their_words(tmp_path: Path) -> None:
    kinds, colours = ("茶杯", "跑步鞋", "防晒霜"), "红橙黄绿青蓝紫黑白灰"
    blocks = []
    for kind in kinds:
        for colour in colours:
            tagged = [f"{colour} B-MISC", *(f"{mark} {'I' if place else 'B'}-HCCX" for place, mark in enumerate(kind))]
            blocks.append("\r\n".join([*tagged, *(f"{mark} O" for mark in f"{kind[0]}类新款")]))
    with gzip.open(tmp_path / "test.txt.gz", "wt", encoding="utf-8", newline="") as file:
        file.write("\r\n\r\n".join(blocks))
    assert read(tmp_path / "test.txt.gz")[0].words == (("MISC", "红"), ("HCCX", "茶杯"))
    report = tmp_path / "report.json"
    main(["--data", str(tmp_path), "--encoders", "hash", "--report", str(report)])
    found = json.loads(report.read_text())["hash"]
    assert found["queries"] == 30
    assert found["hit_1"] > 0.9
    assert found["kind"] > 0.9
    assert found["commonest"] == pytest.approx(1 / 3)


def test_missing_titles_are_missed_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="--data"):
        read(tmp_path / "test.txt.gz")
