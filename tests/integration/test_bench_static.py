import gzip
import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.static import DataMissingError, load, main

QUICK = ["--toy", "--epochs", "4", "--width", "32", "--batch-rows", "16", "--dropout", "0.1", "--learning-rate", "5e-3"]


@pytest.mark.slow
def test_the_static_benchmark_finds_the_next_item_of_a_ring(tmp_path: Path) -> None:
    report = tmp_path / "report.json"
    main([*QUICK, "--report", str(report)])
    found = json.loads(report.read_text())
    assert found["test"]["hr_10"] > 0.95
    assert found["test"]["unseen_ndcg_10"] >= found["test"]["ndcg_10"] > 0.8
    assert found["published"]["HSTU"] == {"hr_10": 0.0859, "ndcg_10": 0.0441}
    assert len(found["epochs"]) == 4
    assert found["best_epoch"] == 1 + int(np.argmax(found["epochs"]))


def test_data_is_read_as_published_and_missed_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="--data"):
        load(tmp_path, width=8)
    with gzip.open(tmp_path / "Beauty.txt.gz", "wt") as file:
        file.write("1 1 2 3\n2 3 1 4 2\n")
    with gzip.open(tmp_path / "Beauty_item2attributes.json.gz", "wt") as file:
        json.dump({"1": [1, 2], "2": [2, 1], "4": [3]}, file)
    data = load(tmp_path, width=8)
    assert [person.tolist() for person in data.people] == [[1, 2, 3], [3, 1, 4, 2]]
    assert data.items == 5
    np.testing.assert_allclose(data.described[1], data.described[2])
    assert not data.described[[0, 3]].any()
    assert not load(tmp_path, width=0).described.any()
