"""The gate: a candidate serves only if it has not become worse, on the newest interactions or on old ones."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.errors import InvalidModelConfigError

NEWEST, FROZEN = "newest", "frozen"
_TOP = 10


@dataclass(frozen=True, slots=True, kw_only=True)
class GateConfig:
    """How much worse is too much.

    The figure that decides is NDCG@10. A fall is forgiven up to `max_regression` of the incumbent's, plus `noise`
    standard errors of the paired difference, so that an equally good model is not refused by chance on a small window.

    Args:
        max_regression: Forgiven fall on the newest window, relative to the incumbent, in [0, 1].
        max_forgetting: The same on frozen history.
        noise: Forgiven standard errors of the paired difference; at least 0.
        popularity_floor: A first release must reach this share of what popularity alone reaches; at least 0.
        min_targets: With fewer targets in both windows together there is no evidence: a first release is accepted and
            says so, a later one is refused.
    """

    max_regression: float = 0.05
    max_forgetting: float = 0.10
    noise: float = 1.0
    popularity_floor: float = 0.5
    min_targets: int = 50

    def __post_init__(self) -> None:
        """Refuse settings that would let everything or nothing through."""
        for name in ("max_regression", "max_forgetting"):
            if not 0 <= getattr(self, name) <= 1:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="in [0, 1]")
        for name in ("noise", "popularity_floor", "min_targets"):
            if not getattr(self, name) >= 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 0")


@dataclass(frozen=True, slots=True)
class Ranks:
    """Where one scorer put the true next items of one window.

    Args:
        ranks: Place of each target among all items, 1 is best; ties count against it, int [W].
        finite: Whether every score was a finite number.
    """

    ranks: npt.NDArray[np.int64]
    finite: bool = True

    def __len__(self) -> int:
        """Targets in the window."""
        return len(self.ranks)

    def gains(self) -> npt.NDArray[np.float64]:
        """Return NDCG@10 per target, [W].

        >>> Ranks(np.array([1, 3, 11])).gains().tolist()
        [1.0, 0.5, 0.0]
        """
        return np.where(self.ranks <= _TOP, 1 / np.log2(self.ranks + 1.0), 0.0)

    def metrics(self) -> dict[str, float]:
        """Return the window's mean hit rate, NDCG and reciprocal rank; empty for an empty window."""
        if not len(self):
            return {}
        return {
            "hit_rate_10": float(np.mean(self.ranks <= _TOP)),
            "ndcg_10": float(np.mean(self.gains())),
            "mrr": float(np.mean(1 / self.ranks)),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the gate decided and from what.

    Args:
        passed: Whether the candidate may serve.
        reasons: Sentences; what failed, or why it passed.
        evidence: Every figure that was looked at, JSON-able.
    """

    passed: bool
    reasons: tuple[str, ...]
    evidence: dict[str, Any]

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON-able values."""
        return {"passed": self.passed, "reasons": list(self.reasons), "evidence": self.evidence}


def judge(
    candidate: Mapping[str, Ranks],
    incumbent: Mapping[str, Ranks] | None,
    *,
    popularity: Mapping[str, Ranks],
    config: GateConfig,
) -> Verdict:
    """Compare a candidate with the incumbent, or a first candidate with popularity.

    Args:
        candidate: Its ranks by window, `newest` and `frozen`.
        incumbent: The same targets ranked by the incumbent; None for a first release.
        popularity: The same targets ranked by popularity alone.
        config: The thresholds.

    >>> good, bad = {"newest": Ranks(np.full(100, 2))}, {"newest": Ranks(np.full(100, 500))}
    >>> judge(bad, good, popularity=good, config=GateConfig()).reasons
    ('newest: ndcg_10 0.0000 against 0.6309 of the incumbent; at least 0.5994 needed',)
    >>> judge(good, bad, popularity=bad, config=GateConfig()).passed
    True
    """
    rival_name = "popularity" if incumbent is None else "incumbent"
    rivals = popularity if incumbent is None else incumbent
    evidence: dict[str, Any] = {"rival": rival_name, "targets": {name: len(ranks) for name, ranks in candidate.items()}}
    for name, ranks in (("candidate", candidate), ("incumbent", incumbent or {}), ("popularity", popularity)):
        evidence[name] = {window: ranked.metrics() for window, ranked in ranks.items() if len(ranked)}
    if broken := [window for window, ranked in candidate.items() if not ranked.finite]:
        return Verdict(
            passed=False, reasons=tuple(f"{window}: scores are not finite" for window in broken), evidence=evidence
        )
    targets = sum(map(len, candidate.values()))
    if targets < config.min_targets:
        reason = f"too little evidence: {targets} targets, {config.min_targets} needed"
        return Verdict(passed=incumbent is None, reasons=(reason,), evidence=evidence)
    forgiven = {NEWEST: config.max_regression, FROZEN: config.max_forgetting}
    failures, evidence["needed"] = [], {}
    for window, ranked in candidate.items():
        if not len(ranked):
            continue
        share = config.popularity_floor if incumbent is None else 1 - forgiven[window]
        reached, rival = float(np.mean(ranked.gains())), float(np.mean(rivals[window].gains()))
        difference = ranked.gains() - rivals[window].gains()
        needed = share * rival - config.noise * float(np.std(difference)) / math.sqrt(len(difference))
        evidence["needed"][window] = needed
        if reached < needed or reached == 0 < rival:
            failures.append(
                f"{window}: ndcg_10 {reached:.4f} against {rival:.4f} of the {rival_name}; at least {needed:.4f} needed"
            )
    if failures:
        return Verdict(passed=False, reasons=tuple(failures), evidence=evidence)
    return Verdict(passed=True, reasons=(f"no regression against the {rival_name}",), evidence=evidence)
