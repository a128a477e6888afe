"""The gate of a task: a candidate serves only if it has not become worse on held-out examples, new or old."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from learners.rounds.gate import FROZEN, NEWEST, GateConfig, Verdict
from learners.tasks.examples import Example
from learners.tasks.metrics import gains_by_group, measure
from learners.tasks.task import Task

Floats = npt.NDArray[np.floating[Any]]
GATE = GateConfig(min_targets=8)
_COMPARED = frozenset({"ranking", "contrastive"})  # losses whose answers mean nothing but their order


def gains(task: Task, predicted: Floats, examples: Sequence[Example], *, spread: float, weights: Floats) -> Floats:
    """Return how well each held-out example was answered; more is better, [n], or one number a left text.

    `classify`: the right class's chance, times the class's weight where the loss weighs classes. `score` and `pair`:
    minus the squared error in standard deviations of the label; NDCG@10 by left text where the loss only compares.

    Args:
        task: The declaration.
        predicted: What the model says.
        examples: Labelled.
        spread: Standard deviation of the label.
        weights: Of the classes.
    """
    labels = labels_of(examples)
    if task.kind == "classify":
        classes = labels.astype(int)
        right: Floats = predicted[np.arange(len(labels)), classes].astype(np.float64)
        if task.loss != "cross_entropy":
            right = right * weights[classes] / weights[classes].mean()
        return right
    if task.loss in _COMPARED:
        return np.array(gains_by_group(predicted, labels, groups_of(examples)))
    return -(((predicted.astype(np.float64) - labels) / spread) ** 2)


def judge_task(
    candidate: Mapping[str, Floats],
    rival: Mapping[str, Floats],
    *,
    first: bool,
    finite: bool,
    config: GateConfig = GATE,
) -> Verdict:
    """Compare a candidate with the incumbent, or a first candidate with the best constant answer.

    Args:
        candidate: Its gains by window, `newest` and `frozen`.
        rival: Those of the incumbent, or of the constant answer.
        first: Whether there is no incumbent.
        finite: Whether every answer of the candidate was a finite number.
        config: The thresholds.

    >>> judge_task({"newest": np.full(9, 0.2)}, {"newest": np.full(9, 0.9)}, first=False, finite=True).reasons
    ('newest: gain 0.2000 against 0.9000 of the incumbent; at least 0.8550 needed',)
    """
    name = "constant answer" if first else "incumbent"
    counts = {window: len(found) for window, found in candidate.items()}
    evidence: dict[str, Any] = {"rival": name, "targets": counts, "gains": {}}
    if not finite:
        return Verdict(passed=False, reasons=("answers are not finite",), evidence=evidence)
    if sum(counts.values()) < config.min_targets:
        reason = f"too little evidence: {sum(counts.values())} targets, {config.min_targets} needed"
        return Verdict(passed=first, reasons=(reason,), evidence=evidence)
    failures = []
    for window, found in candidate.items():
        if not len(found):
            continue
        reached, against = float(found.mean()), float(rival[window].mean())
        forgiven = {NEWEST: config.max_regression, FROZEN: config.max_forgetting}[window]
        noise = config.noise * float(np.std(found - rival[window])) / math.sqrt(len(found))
        needed = against - noise - (0.0 if first else forgiven * abs(against))
        evidence["gains"][window] = {"candidate": reached, "rival": against, "needed": needed}
        if reached < needed:
            failures.append(
                f"{window}: gain {reached:.4f} against {against:.4f} of the {name}; at least {needed:.4f} needed"
            )
    if failures:
        return Verdict(passed=False, reasons=tuple(failures), evidence=evidence)
    return Verdict(passed=True, reasons=(f"no regression against the {name}",), evidence=evidence)


def constant_answer(task: Task, learned: Sequence[Example], count: int) -> Floats:
    """Return what somebody would say who knows nothing but the labels, [n, C] or [n]."""
    labels = labels_of(learned)
    if task.kind != "classify":
        return np.full(count, labels.mean())
    shares = np.bincount(labels.astype(int), minlength=len(task.classes)) / len(labels)
    return np.tile(shares, (count, 1))


def metrics_of(task: Task, predicted: Floats, examples: Sequence[Example]) -> dict[str, float]:
    """Return the kind's metrics of what was predicted."""
    lefts = [example.texts[0] for example in examples] if task.kind == "pair" else ()
    return measure(task.kind, predicted, labels_of(examples), lefts, classes=len(task.classes))


def labels_of(examples: Sequence[Example]) -> npt.NDArray[np.float64]:
    """Return the labels, [n]."""
    return np.array([example.label for example in examples], dtype=np.float64)


def groups_of(examples: Sequence[Example]) -> npt.NDArray[np.int64]:
    """Return which left text each pair has, as numbers, [n]."""
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(example.texts[0], len(numbers)) for example in examples], dtype=np.int64)
