"""Figures from judgements whose answers are known."""

from types import SimpleNamespace
from typing import cast

import numpy as np
import pytest

from learners.evaluation.bootstrap import Ratio
from learners.evaluation.scorecard import CASE_EVERY, DAY_MS, Scorecard
from learners.histories import Past
from learners.interactions import Observation
from learners.quality.examiner import Seen
from learners.quality.metrics import MISSED
from learners.ranking.ranker import Judgement

ITEMS = 31  # padding included
NOBODY = Past(np.zeros(0, np.int32), np.zeros(0, np.int64))


def judge(
    card: Scorecard, rank: int, *, user: str = "ann", kind: str = "purchase", time_ms: int = 0, item: int = 1
) -> None:
    """One judgement that puts the item that follows at a rank."""
    logits = np.full(ITEMS, -10.0, np.float32)
    others = [index for index in range(1, ITEMS) if index != item]
    logits[others] = -np.arange(1, ITEMS - 1)
    logits[item] = 0.5 - rank
    observed = Observation(user_id=user, item_id=str(item), event_type=kind, event_time_ms=time_ms)
    seen = Seen(observed, item, rank != MISSED, NOBODY, ITEMS)
    card(seen, cast("Judgement", SimpleNamespace(logits=logits)))


def value(ratio: Ratio) -> float:
    return float(ratio.top.sum() / ratio.bottom.sum())


def figures(card: Scorecard) -> dict[str, float]:
    return {name: value(ratio) for name, ratio in card.ratios().items()}


def test_ranks_become_figures() -> None:
    card = Scorecard()
    for rank in (1, 3, 15, 30):
        judge(card, rank)
    found = figures(card)
    assert found["hit_rate_10"] == found["recall_10"] == 0.5
    assert found["precision_10"] == pytest.approx(0.05)
    assert found["f1_10"] == pytest.approx(2 * 0.1 * 1 / 1.1 * 0.5)
    assert found["accuracy"] == 0.25
    assert found["ndcg_10"] == pytest.approx((1 + 0.5) / 4)
    assert found["mrr"] == pytest.approx((1 + 1 / 3 + 1 / 15 + 1 / 30) / 4)
    assert found["auc"] == pytest.approx(np.mean([1, 27 / 29, 15 / 29, 0]))
    assert not {"ctr", "cvr"} & set(found)


def test_what_could_not_be_ranked_counts_as_missed() -> None:
    card = Scorecard()
    judge(card, MISSED)
    found = figures(card)
    assert (found["hit_rate_10"], found["mrr"], found["auc"]) == (0, 0, 0)


def test_an_item_is_new_for_its_first_ten_interactions() -> None:
    card = Scorecard()
    for number in range(15):
        judge(card, 1 if number < 5 else 20)
    assert card.ratios()["new_item_recall_10"].bottom.sum() == 10
    assert figures(card)["new_item_recall_10"] == 0.5


def test_what_many_have_is_less_of_a_novelty_and_what_is_shown_is_covered() -> None:
    card = Scorecard()
    judge(card, 1)
    before = figures(card)["novelty"]
    for _ in range(50):
        judge(card, 1)
    novelty = card.ratios()["novelty"]
    assert novelty.top.sum() / novelty.bottom.sum() != before
    assert card.coverage == 10 / 30
    assert before == pytest.approx(np.log2(30))


def test_views_and_clicks_on_what_was_shown_are_followed_up_within_a_day() -> None:
    card = Scorecard()
    judge(card, 1, kind="view", item=1, time_ms=0)  # shown, clicked an hour later
    judge(card, 1, kind="click", item=1, time_ms=3_600_000)  # shown, bought two days later: too late
    judge(card, 1, kind="view", item=2, time_ms=3_600_000)  # shown, and nothing follows
    judge(card, 20, kind="view", item=3, time_ms=3_600_000)  # not shown
    judge(card, 1, kind="purchase", item=3, time_ms=3_600_001)
    judge(card, 1, kind="click", item=4, time_ms=3_600_001)  # shown and bought
    judge(card, 1, kind="purchase", item=4, time_ms=3_700_000)
    judge(card, 1, user="bob", kind="purchase", item=2, time_ms=3_700_000)  # somebody else
    judge(card, 1, kind="purchase", item=1, time_ms=3_600_000 + 2 * DAY_MS)
    found = figures(card)
    assert found["ctr"] == 0.5
    assert found["cvr"] == 0.5


def test_figures_are_kept_by_person() -> None:
    card = Scorecard()
    for user, rank in (("ann", 1), ("bob", 20), ("ann", 1)):
        judge(card, rank, user=user)
    hit = card.ratios()["hit_rate_10"]
    assert (hit.top.tolist(), hit.bottom.tolist()) == ([2, 0], [2, 1])


def test_every_fifth_moment_is_kept_to_be_ranked_again() -> None:
    card = Scorecard()
    for _ in range(3 * CASE_EVERY + 1):
        judge(card, 1, item=7)
    assert [(case.interaction, case.target) for case in card.cases] == [(5, 7), (10, 7), (15, 7)]
