"""`implicit`'s alternating least squares, run by the Python of the peers' virtual environment.

PYTHON -m benchmarks.prequential_parts.implicit_child LOG.npz OUTCOME.npz '{"factors": 64, ...}'
"""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.prequential_parts.fallback import Refitted, counts_matrix
from benchmarks.prequential_parts.log import Log
from benchmarks.prequential_parts.protocol import run
from benchmarks.prequential_parts.records import save_outcome


class ImplicitAls(Refitted):
    """Refitted every 14 days; in between, a person's factors are computed anew from the history of the moment.

    Args:
        items: N, padding included.
        factors: Numbers in a factor.
        regularization: Weight of the factors' norms.
        alpha: Weight of what was taken over what was not.
        iterations: Of the solver.
        seed: Source of the first factors.

    Source: Hu, Koren & Volinsky, "Collaborative Filtering for Implicit Feedback Datasets", ICDM 2008.
    """

    def __init__(
        self, items: int, *, factors: int, regularization: float, alpha: float, iterations: int = 15, seed: int = 0
    ) -> None:
        super().__init__(items)
        from implicit.als import AlternatingLeastSquares  # noqa: PLC0415 - only the peers' environment has it

        self._solver: Callable[..., Any] = AlternatingLeastSquares
        self._given = {
            "factors": factors,
            "regularization": regularization,
            "alpha": alpha,
            "iterations": iterations,
            "num_threads": 1,
            "random_state": seed,
        }
        self.model: Any = None

    def fit(self, past: Log) -> None:
        """Factorise how often each person took each item."""
        order = np.argsort(past.users, kind="stable")
        people = np.split(past.items[order], np.flatnonzero(np.diff(past.users[order])) + 1)
        self.model = self._solver(**self._given)
        self.model.fit(counts_matrix(people, self.fitted), show_progress=False)

    def predict(self, users: list[int], histories: list[npt.NDArray[np.int32]]) -> npt.NDArray[np.float32]:
        """Fold the histories in and multiply."""
        factors = self.model.recalculate_user(np.arange(len(users)), counts_matrix(histories, self.fitted))
        scores: npt.NDArray[np.float32] = np.atleast_2d(factors) @ self.model.item_factors.T
        return scores


def main() -> None:
    """Run the peer over a log."""
    log_file, outcome_file, settings = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
    log = Log.load(log_file)
    save_outcome(outcome_file, run(ImplicitAls(log.catalogue, **settings), log))


if __name__ == "__main__":
    main()
