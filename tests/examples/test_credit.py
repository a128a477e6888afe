import json
from pathlib import Path

import numpy as np
import pytest

from examples.credit.loans import NUMBERS, loans
from examples.credit.run import WAYS, main


def test_the_truth_of_the_generator_is_what_its_labels_say() -> None:
    made = loans(20_000, seed=0)

    risk, default = np.array([[loan["true_risk"], loan["default"]] for loan in made]).T
    for low, high in ((0.0, 0.1), (0.1, 0.3), (0.3, 0.6), (0.6, 1.0)):
        inside = (risk >= low) & (risk < high)
        assert default[inside].mean() == pytest.approx(risk[inside].mean(), abs=0.03)
    assert sum(loan["fraud"] == "fraud" for loan in made) == 300
    missing = np.mean([[loan[name] is None for name in NUMBERS] for loan in made])
    assert missing == pytest.approx(0.03, abs=0.003)


def test_equal_seeds_make_equal_applications() -> None:
    assert loans(50, seed=3) == loans(50, seed=3)
    assert loans(50, seed=3) != loans(50, seed=4)


def test_fraud_is_found_better_than_by_chance_and_less_so_after_it_moved(tmp_path: Path) -> None:
    main(["--toy", "--seeds", "1", "--out", str(tmp_path)])

    found = json.loads((tmp_path / "credit.json").read_text())
    assert set(found) == set(WAYS)
    assert found["plain"][0]["pr_auc"] > 0.15  # ten times chance
    for way in WAYS:
        recall = found[way][0]["recall"]
        assert recall[-1] <= recall[0]
    assert found["plain"][0]["risk_rmse"] < 0.2
    assert (tmp_path / "credit.png").stat().st_size > 5_000
