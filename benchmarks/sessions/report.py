"""The figures of all finished updates as one report."""

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from typing import Any

from benchmarks.sessions.examination import WHO
from benchmarks.sessions.metrics import NAMES
from benchmarks.sessions.published import Published

Figures = dict[str, Any]

MEASURES = (*NAMES, "new_item_recall_20")
CHOSEN_ON = "updates 1 to 4 of DIGINETICA; how much is replayed also by a look at update 5; nothing on updates 6 to 16"


def build(
    seeds: dict[int, list[Figures]], retrained: list[Figures], published: Sequence[Published], *, settings: Figures
) -> Figures:
    """Return the report.

    Args:
        seeds: The updates of each seed, those that are finished.
        retrained: Full retraining's updates, of the first seed.
        published: Curves to stand beside ours.
        settings: What the run was made with.
    """
    updates = [_update(number, seeds) for number in range(1, max(map(len, seeds.values()), default=0) + 1)]
    whole = {seed: found for seed, found in seeds.items() if len(found) == len(updates)}
    return {
        "mean": {
            name: {measure: _mean(update[name][measure] for update in updates) for measure in MEASURES}
            for name in WHO
            if updates and name in updates[0]
        },
        "updates": updates,
        "seeds": {
            str(seed): {
                "updates": len(found),
                "mean": {name: {m: _mean(one[name][m] for one in found) for m in MEASURES} for name in WHO},
                "forgetting": forgetting(found),
                "train_s": sum(ours_s(one) for one in found),
            }
            for seed, found in seeds.items()
            if found
        },
        "spread": {name: {m: _spread(whole, name, m) for m in NAMES} for name in WHO},
        "train_s": costs(next(iter(seeds.values()), []), retrained),
        "full_retraining": [
            {"update": one["update"], **one["full_retraining"], "training": one["training"]} for one in retrained
        ],
        "published": [asdict(curve) for curve in published],
        "published_mean": {f"{curve.method} {curve.measure}": _mean(curve.values) for curve in published},
        "settings": {"values": settings, "chosen_on": CHOSEN_ON},
    }


def _update(number: int, seeds: dict[int, list[Figures]]) -> Figures:
    found = [updates[number - 1] for updates in seeds.values() if len(updates) >= number]
    kept = ("update", "questions", "sessions", "items", "new_item_questions", "learned_clicks")
    update: Figures = {name: found[0][name] for name in kept} | {"seeds": len(found)}
    for name in WHO:
        update[name] = {measure: _mean(one[name][measure] for one in found) for measure in NAMES}
        new = [one[name]["new_item_recall_20"] for one in found if one["new_item_questions"]]
        update[name]["new_item_recall_20"] = _mean(new) if new else None
    update["train_s"] = _mean(ours_s(one) for one in found)
    return update


def ours_s(update: Figures) -> float:
    """Return what an update cost us: counts, vectors, weights, network, and at the first the rehearsal."""
    return float(sum(update["seconds"].values()))


def costs(ours: list[Figures], retrained: list[Figures]) -> Figures:
    """Return training seconds on the updates that both ran; None where there are none."""
    by_update = {one["update"]: one for one in ours}
    common = [one for one in retrained if one["update"] in by_update]
    if not common:
        return {"updates": [], "ours": None, "full_retraining": None, "ratio": None}
    spent = sum(ours_s(by_update[one["update"]]) for one in common)
    full = sum(one["training"]["seconds"] for one in common)
    return {
        "updates": [one["update"] for one in common],
        "ours": spent,
        "full_retraining": full,
        "ratio": spent / full,
        "network_alone": sum(by_update[one["update"]]["seconds"]["training"] for one in common),
        "each": [
            {
                "update": one["update"],
                "ours": ours_s(by_update[one["update"]]),
                "full_retraining": one["training"]["seconds"],
                "ours_epochs": len((by_update[one["update"]]["training"] or {"losses": []})["losses"]),
                "full_retraining_epochs": len(one["training"]["losses"]),
            }
            for one in common
        ],
    }


def forgetting(updates: list[Figures]) -> Figures:
    """Return how much Recall@20 on the frozen questions of earlier tests was lost, in points.

    For each earlier test: the best Recall@20 that any update since had on its frozen questions, less the newest
    update's, averaged. `since_learned` leaves out the answer given before that period was learned. `backward` is the
    newest update's less that of the test itself: above 0, later learning helped.

    Source: Chaudhry et al., "Riemannian Walk for Incremental Learning", ECCV 2018 (forgetting); Lopez-Paz & Ranzato,
    "Gradient Episodic Memory", NeurIPS 2017 (backward transfer).

    >>> def update(**asked): return {"again": {"mixture": asked}}
    >>> forgetting([update(**{"1": 50.0}), update(**{"1": 60.0, "2": 50.0}), update(**{"1": 58.0})])["mixture"]
    {'forgetting': 2.0, 'backward': 8.0}
    """
    found: Figures = {}
    if len(updates) < 2:
        return found
    newest = updates[-1]["again"]
    for name, now in newest.items():
        tests = [test for test in now if int(test) < len(updates)]
        if not tests:
            continue
        lost, gained = [], []
        for test in tests:
            history = [one["again"][name][test] for one in updates[int(test) - 1 :] if test in one["again"][name]]
            lost.append(max(history) - now[test])
            gained.append(now[test] - history[0])
        found[name] = {"forgetting": _mean(lost), "backward": _mean(gained)}
    return found


def _mean(values: Iterable[float | None]) -> float:
    listed = [value for value in values if value is not None]
    return statistics.fmean(listed) if listed else 0.0


def _spread(seeds: dict[int, list[Figures]], name: str, measure: str) -> Figures:
    """The mean over updates of each seed: lowest and highest."""
    means = [_mean(one[name][measure] for one in found) for found in seeds.values() if found]
    return {"seeds": len(means), "lowest": min(means, default=0.0), "highest": max(means, default=0.0)}
