"""The peers of `bench prequential` that have a virtual environment of their own, where it is there."""

import os
from pathlib import Path

import numpy as np
import pytest

from benchmarks.prequential_parts.log import DAY_MS, Log
from benchmarks.prequential_parts.peers import Peers, PeerUnavailableError

VENV = os.environ.get("ALLUVIUM_TEST_PEERS_VENV")
needs_peers = pytest.mark.skipif(VENV is None, reason="ALLUVIUM_TEST_PEERS_VENV names no virtual environment of peers")


def checkerboard(interactions: int) -> Log:
    """Twenty people; the odd ones like odd items, the even ones even items; sixty days."""
    rng = np.random.default_rng(5)
    users = rng.integers(20, size=interactions).astype(np.int32)
    items = (1 + 2 * rng.integers(10, size=interactions) + users % 2).astype(np.int32)
    times_ms = np.linspace(0, 60 * DAY_MS, interactions).astype(np.int64)
    return Log("checkerboard", users, items, times_ms, np.full(interactions, 21, np.int32), once=False)


@needs_peers
@pytest.mark.slow
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("module", "settings"),
    [
        ("implicit_child", {"factors": 8, "regularization": 0.1, "alpha": 10.0}),
        ("recbole_child", {"epochs": 8, "batch": 64, "dropout": 0.1}),
    ],
)
def test_a_peer_learns_a_checkerboard_of_likes(module: str, settings: dict[str, float]) -> None:
    log = checkerboard(1_200)
    outcome = Peers(Path(str(VENV))).run(module, log, settings | {"seed": 0})
    first, second, *_ = log.windows(14 * DAY_MS)
    hits = outcome.ranks["served"] <= 10
    assert 0.35 < hits[: first[1]].mean() < 0.65  # before the first fit: popularity, which knows nobody
    assert hits[second[0] :].mean() > 0.95
    assert outcome.facts == {"refits": 4, "learns_online": False}
    assert outcome.train_s > 0


def test_a_peer_that_cannot_run_says_why(tmp_path: Path) -> None:
    python = tmp_path / "bin" / "python"
    python.parent.mkdir()
    python.write_text("#!/bin/sh\necho no such peer >&2\nexit 3\n")
    python.chmod(0o755)
    with pytest.raises(PeerUnavailableError, match="implicit_child: ended with 3: no such peer"):
        Peers(tmp_path).run("implicit_child", checkerboard(10), {})
