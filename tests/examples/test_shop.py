import json
from pathlib import Path

import numpy as np
import pytest

from examples.shop.run import main


@pytest.mark.slow
def test_a_market_that_starts_from_the_store_is_ahead_of_one_from_scratch(tmp_path: Path) -> None:
    main(["--toy", "--seeds", "1", "--out", str(tmp_path)])

    curve = json.loads((tmp_path / "shop.json").read_text())["Germany"]
    assert curve["events"][0] == [0]
    assert curve["scratch"][0] == []  # who starts from scratch knows nothing before the first purchase
    assert np.mean(curve["reuse"][-1]) > np.mean(curve["scratch"][-1])
    assert (tmp_path / "shop.png").stat().st_size > 5_000
