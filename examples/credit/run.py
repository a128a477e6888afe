"""Credit risk and fraud: two tasks over one trunk, rare positives, and frauds that try not to look like it.

Applications come from a generator whose truth is known. Risk (will it be paid back?) and fraud (1.5 % are) are learned
together, fraud with plain, weighted and focal loss, and with adversarial training (FGM). Then each fraud in the test
moves its numbers a little to where the model would rather believe it, and whoever still catches it is robust.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from matplotlib.figure import Figure

from examples.common import canvas, leave, options_of, show_table, spread
from examples.credit.loans import NUMBERS, Loan, loans
from learners.tasks.backbones import StateCache
from learners.tasks.examples import Example
from learners.tasks.joint import JointLearner
from learners.tasks.metrics import average_precision
from learners.tasks.model import TaskModel
from learners.tasks.task import Task

HERE = Path(__file__).parent
COUNT = 5_000  # applications to learn from, and as many to judge with
FALSE_ALARMS = 0.01  # share of honest applications that may be stopped
ATTACKS = (0.0, 0.5, 1.0, 1.5)  # how far a fraud moves its numbers, in standard deviations of them, all together
FGM = 0.08  # length of the disturbance while learning, relative to what the head reads
WAYS: Mapping[str, Mapping[str, Any]] = {
    "plain": {},
    "weighted": {"loss": "weighted_cross_entropy"},
    "focal": {"loss": "focal"},
    "plain + FGM": {"adversarial": FGM},
}

Floats = npt.NDArray[np.float32]
Found = dict[str, list[dict[str, Any]]]  # way -> figures of each seed


def main(arguments: list[str] | None = None) -> None:
    """Learn in every way, attack each, print and draw."""
    options = options_of("credit", __doc__, arguments, seeds=3)
    found: Found = {way: [] for way in WAYS}
    for seed in options.seeds:
        count = 1_000 if options.toy else COUNT
        learn, judge = loans(count, seed=2 * seed), loans(count, seed=2 * seed + 1)
        cache = StateCache()
        for way in WAYS:
            learner = JointLearner(tasks_of(way, options), seed=seed, share="trunk", cache=cache)
            outcomes = learner.learn(learn)
            if refused := [outcome.reason for outcome in outcomes.values() if not outcome.released]:
                raise SystemExit(f"{way}, seed {seed}: {refused[0]}")
            fraud, risk = (each.model for each in learner.learners.values())
            found[way].append(figures(fraud, risk, judge))
    header = ("fraud loss", "PR-AUC", *(f"moved {size:g}" for size in ATTACKS), "chance > 0.5", "risk, RMSE")
    rows = [
        [
            way,
            spread([each["pr_auc"] for each in runs]),
            *(spread([each["recall"][place] for each in runs]) for place in range(len(ATTACKS))),
            spread([each["sure"] for each in runs]),
            spread([each["risk_rmse"] for each in runs]),
        ]
        for way, runs in found.items()
    ]
    print(
        f"PR-AUC of frauds (who guesses has 0.015); frauds caught where {FALSE_ALARMS:.0%} of the honest are stopped,"
    )
    print("after they moved; frauds that are said to be likelier than not; error of the risk against the true one")
    show_table(header, rows)
    leave("credit", draw(found), found, options.out)


def tasks_of(way: str, options: argparse.Namespace) -> list[Task]:
    """Return the fraud and the risk task, as one way of learning has them."""
    tasks = [Task.from_toml(HERE / f"{name}.toml") for name in ("fraud", "risk")]
    if options.toy:
        tasks = [replace(task, text_encoder="hash") for task in tasks]
    fraud, risk = tasks
    return [replace(fraud, training=replace(fraud.training, **WAYS[way])), risk]


def figures(fraud: TaskModel, risk: TaskModel, judge: Sequence[Loan]) -> dict[str, Any]:
    """Return what two models reach on applications that nobody learned."""
    positive = np.array([loan["fraud"] == "fraud" for loan in judge])
    truth = np.array([loan["true_risk"] for loan in judge])
    chances, guessed = fraud.scores(checked(fraud, judge)), risk.scores(checked(risk, judge))
    threshold = np.quantile(chances[~positive, 1], 1 - FALSE_ALARMS)
    frauds = [loan for loan, is_one in zip(judge, positive, strict=True) if is_one]
    return {
        "pr_auc": average_precision(chances, positive.astype(float)),
        "recall": [float((moved(fraud, frauds, size) > threshold).mean()) for size in ATTACKS],
        "sure": float((chances[positive, 1] > 0.5).mean()),
        "risk_rmse": float(np.sqrt(np.mean((guessed - truth) ** 2))),
        "risk_curve": by_tenth(guessed, truth),
    }


def checked(model: TaskModel, rows: Sequence[Loan]) -> list[Example]:
    """Return loans as a task's examples; the generator makes none that cannot be used."""
    return [each for each in map(model.task.validate, rows) if isinstance(each, Example)]


def moved(model: TaskModel, frauds: Sequence[Loan], size: float) -> Floats:
    """Return the chance of fraud after each has moved its numbers to where the model believes it more, [n].

    Args:
        model: Of the fraud task; the frauds know it.
        frauds: Applications.
        size: Length of the move, in standard deviations of the numbers; what is missing stays missing.
    """
    features = model.features(checked(model, frauds)).detach().requires_grad_()
    outputs = model.answer(features)
    (uphill,) = torch.autograd.grad((outputs[:, 1] - outputs[:, 0]).sum(), features)
    first, known = features.shape[1] - 2 * len(NUMBERS), features.shape[1] - len(NUMBERS)
    free = torch.zeros_like(features)
    free[:, first:known] = 1 - features[:, known:].detach()
    uphill = uphill * free
    step = size * uphill / uphill.norm(dim=1, keepdim=True).clamp(min=1e-12)
    with torch.no_grad():
        chances: Floats = model.answer(features - step).softmax(dim=-1)[:, 1].numpy()
    return chances


def by_tenth(guessed: Floats, truth: npt.NDArray[np.float64]) -> list[list[float]]:
    """Return mean guess and mean truth of each tenth of the applications, least risk first."""
    parts = np.array_split(np.argsort(guessed), 10)
    return [[float(guessed[part].mean()), float(truth[part].mean())] for part in parts]


def draw(found: Found) -> Figure:
    """Left: recall over how far frauds move. Right: what is said of risk against the truth."""
    figure, (left, right) = canvas(2, width=9, height=3.6)
    for way, runs in found.items():
        values = np.array([each["recall"] for each in runs])
        left.plot(ATTACKS, values.mean(axis=0), "o-" if "FGM" in way else "s--", label=way)
    left.set(xlabel="frauds move by (standard deviations)", ylabel="frauds caught", ylim=(0, 1))
    left.legend(frameon=False, fontsize=9)
    curve = np.mean([each["risk_curve"] for each in found["plain"]], axis=0)
    right.plot([0, 0.8], [0, 0.8], color="0.7", linewidth=1)
    right.plot(curve[:, 0], curve[:, 1], "o-")
    right.set(xlabel="chance of default, as said", ylabel="true chance", title="each tenth of the applications")
    return figure


if __name__ == "__main__":
    main()
