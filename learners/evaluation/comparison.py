"""Strategies held against each other on one log: each from the same start, on the same moments, with intervals."""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from learners.evaluation.bootstrap import Interval, Ratio, differences, intervals
from learners.evaluation.prequential import evaluate
from learners.evaluation.scorecard import Scorecard
from learners.evaluation.transfer import transfer
from learners.interactions import Interaction
from learners.items.shelf import Shelf
from learners.learner_config import LearnerConfig
from learners.releases.release import load_release

Report = dict[str, Any]


class Comparison:
    """Evaluate strategies one by one; every further one is compared with the first, person by person.

    Args:
        shelf: The items that are known in advance, and what describes them.
        config: See `LearnerConfig`; its strategy is replaced.
        seed: Source of every random choice, the resamples of intervals included.
        folder: Where releases are written, one directory per strategy.
    """

    def __init__(self, shelf: Shelf, *, config: LearnerConfig, seed: int, folder: Path) -> None:
        self.reports: dict[str, Report] = {}
        self._shelf, self._config = shelf, config
        self._seed, self._folder = seed, folder
        self._first: dict[str, Ratio] | None = None

    def add(
        self, strategy: str, events: Iterable[Interaction], *, progress: Callable[[int], None] = lambda _done: None
    ) -> Report:
        """Evaluate one more strategy.

        Args:
            strategy: A name of `learners.strategies.STRATEGIES`.
            events: The log, from its beginning.
            progress: Called with the interactions done so far, now and then.

        Returns:
            What `evaluate` returns, and: `metrics`, figures with intervals; `against_first`, paired differences from
            the first strategy; `transfer`, the forgetting matrix and what follows from it; `cost`.

        Raises:
            UnknownStrategyError: If there is no such strategy.
        """
        scorecard, folder = Scorecard(), self._folder / strategy
        report = evaluate(
            events,
            self._shelf,
            config=self._config,
            seed=self._seed,
            strategy=strategy,
            folder=folder,
            progress=progress,
            witness=scorecard,
        )
        ratios = scorecard.ratios() if report["interactions"] else {}
        report["metrics"] = _plain(intervals(ratios, seed=self._seed))
        report["metrics"]["coverage"] = {"value": scorecard.coverage}
        report["against_first"] = None if self._first is None else _plain(self._against(ratios))
        self._first = self._first or ratios
        interactions = report["interactions"]
        known = transfer(_releases(report, folder), scorecard.cases, interactions=interactions, seed=self._seed)
        report["transfer"] = None if known is None else _without_nan(known.as_dict())
        report["cost"] = _cost(report)
        self.reports[strategy] = report
        return report

    def _against(self, ratios: dict[str, Ratio]) -> dict[str, Interval]:
        return differences(ratios, self._first or {}, seed=self._seed)


def _releases(report: Report, folder: Path) -> list[tuple[int, Callable[[], Any]]]:
    passed = (gate for gate in report["gates"] if gate.get("outcome") == "passed")
    return [
        (gate["interactions"], partial(load_release, folder / f"round-{gate['round']:04d}" / "candidate"))
        for gate in passed
    ]


def _cost(report: Report) -> dict[str, float]:
    """Return CPU seconds of all rounds, whatever came of them, and their optimizer steps."""
    steps = sum(int(gate.get("training", {}).get("steps", 0)) for gate in report["gates"])
    return {"round_cpu_s": round(sum(gate["cpu_s"] for gate in report["gates"]), 3), "steps": steps}


def _plain(figures: Mapping[str, Interval]) -> dict[str, Any]:
    plain: dict[str, Any] = _without_nan({name: asdict(figure) for name, figure in figures.items()})
    return plain


def _without_nan(value: Any) -> Any:
    """Return None for what is not a number: JSON has no word for it.

    >>> _without_nan({"a": [1.0, float("nan")]})
    {'a': [1.0, None]}
    """
    if isinstance(value, dict):
        return {key: _without_nan(part) for key, part in value.items()}
    if isinstance(value, list):
        return [_without_nan(part) for part in value]
    return None if isinstance(value, float) and math.isnan(value) else value
