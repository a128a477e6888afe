"""Made-up loan applications whose truth is known: how likely each is to default, and whether it is fraud."""

from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

NUMBERS = ("income", "debt_share", "years_at_bank", "late_payments", "amount", "hour", "device_days", "typing_s")
HONEST = (
    "new kitchen",
    "used car for the way to work",
    "wedding in June",
    "roof repair after the storm",
    "to put three small loans together",
    "course fees for my daughter",
    "dentist",
    "moving to another town",
    "a bicycle with a motor",
    "stock for my flower shop",
)
HASTY = ("urgent", "personal reasons", "need cash today", "private", "investment, very safe", "to help a friend abroad")
FRAUD_RATE = 0.015
MISSING = 0.03  # of all figures

Loan = dict[str, Any]


def loans(count: int, seed: int, *, fraud_rate: float = FRAUD_RATE) -> list[Loan]:
    """Return applications in random order.

    Risk is a logistic curve of debt, delays, tenure, amount against income, and haste. Fraud looks like a good
    customer (high income, no delays) but tends to come at night, from a device that the bank has hardly seen, filled
    in fast, for a large amount, with a vague purpose. None of these alone gives it away: each is common among the
    honest, too.

    Args:
        count: How many.
        seed: Of every draw.
        fraud_rate: Share of frauds.

    Returns:
        `NUMBERS` (some missing: None), `purpose`, the labels `default` (0 or 1) and `fraud` (`honest` or `fraud`), and
        `true_risk`, the chance that `default` was drawn with, which no learner sees.

    >>> sorted(loans(1, seed=0)[0].keys() - set(NUMBERS)), sum(loan["fraud"] == "fraud" for loan in loans(1000, seed=0))
    (['default', 'fraud', 'purpose', 'true_risk'], 15)
    """
    rng = np.random.default_rng(seed)
    fraud = np.zeros(count, dtype=bool)
    fraud[rng.permutation(count)[: round(count * fraud_rate)]] = True
    figures = _figures(rng, fraud)
    hasty = rng.random(count) < np.where(fraud, 0.6, 0.12)
    purposes = [str(rng.choice(HASTY if each else HONEST)) for each in hasty]
    risk = _risk(figures, hasty)
    default = rng.random(count) < risk
    gone = rng.random((count, len(NUMBERS))) < MISSING
    return [
        {name: None if gone[row, place] else round(float(figures[name][row]), 3) for place, name in enumerate(NUMBERS)}
        | {
            "purpose": purposes[row],
            "default": float(default[row]),
            "fraud": "fraud" if fraud[row] else "honest",
            "true_risk": float(risk[row]),
        }
        for row in range(count)
    ]


def _figures(rng: np.random.Generator, fraud: npt.NDArray[np.bool_]) -> dict[str, Floats]:
    count = len(fraud)
    income = np.exp(rng.normal(np.where(fraud, 8.2, 7.9), 0.4, count))
    night = rng.random(count) < np.where(fraud, 0.55, 0.08)
    return {
        "income": income,
        "debt_share": rng.beta(2, 4, count),
        "years_at_bank": rng.gamma(np.where(fraud, 1.0, 2.0), 3.0, count),
        "late_payments": rng.poisson(np.where(fraud, 0.2, 0.8), count).astype(float),
        "amount": np.exp(rng.normal(np.where(fraud, 9.6, 8.9), 0.5, count)),
        "hour": np.where(night, rng.uniform(0, 5, count), rng.normal(14, 4, count).clip(5, 24)),
        "device_days": rng.exponential(np.where(fraud, 20, 300), count),
        "typing_s": np.exp(rng.normal(np.where(fraud, 4.3, 5.3), 0.6, count)),
    }


def _risk(figures: dict[str, Floats], hasty: npt.NDArray[np.bool_]) -> Floats:
    burden = figures["amount"] / (figures["income"] * 12)
    score = (
        -3.2
        + 3.0 * figures["debt_share"]
        + 0.6 * np.minimum(figures["late_payments"], 4)
        - 0.08 * np.minimum(figures["years_at_bank"], 15)
        + 2.0 * np.minimum(burden, 1.5)
        + 0.6 * hasty
    )
    risk: Floats = 1 / (1 + np.exp(-score))
    return risk
