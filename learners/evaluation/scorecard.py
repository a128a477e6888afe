"""Every judgement of an evaluation, written down as it was made, and the figures that follow from it."""

from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from learners.evaluation.bootstrap import Ratio
from learners.quality.examiner import NEW_ITEM_INTERACTIONS, Seen
from learners.quality.metrics import MISSED, TOP, rank_of
from learners.ranking.ranker import Judgement, top_of

Floats = npt.NDArray[np.float64]

DAY_MS = 86_400_000
CASE_EVERY = 5  # one interaction in so many is kept with its history, to be ranked again by every release
_RESPONSES = {"click", "cart", "purchase"}


class Case(NamedTuple):
    """One moment to be ranked again.

    Args:
        interaction: Its number, from 1.
        history: Item indexes before it, oldest first.
        target: The item that followed.
    """

    interaction: int
    history: npt.NDArray[np.int32]
    target: int


@dataclass(slots=True)
class Scorecard:
    """A witness of an evaluation; see `learners.evaluation.prequential.evaluate`.

    What serves is the mixture, and its ten first items are what a person is shown.
    """

    cases: list[Case] = field(default_factory=list)
    shown: set[int] = field(default_factory=set)
    items: int = 0  # N, padding included
    _codes: dict[str, int] = field(default_factory=dict)
    _users: list[int] = field(default_factory=list)
    _targets: list[int] = field(default_factory=list)
    _types: list[str] = field(default_factory=list)
    _times_ms: list[int] = field(default_factory=list)
    _ranks: list[int] = field(default_factory=list)
    _rivals: list[int] = field(default_factory=list)  # items that could have been ranked instead
    _new: list[bool] = field(default_factory=list)
    _novelty: list[float] = field(default_factory=list)
    _counts: Floats = field(default_factory=lambda: np.zeros(0))  # interactions with each item so far

    def __call__(self, seen: Seen, judgement: Judgement) -> None:
        """Take one judgement, before anything learns from its outcome."""
        interaction, target = seen.interaction, seen.item_index
        self.items = max(self.items, seen.items, target + 1)
        if self.items > len(self._counts):
            self._counts = np.concatenate([self._counts, np.zeros(2 * self.items - len(self._counts))])
        top = top_of(judgement.logits, TOP)
        self.shown.update(top.tolist())
        self._users.append(self._codes.setdefault(interaction.user_id, len(self._codes)))
        self._targets.append(target)
        self._types.append(interaction.event_type)
        self._times_ms.append(interaction.event_time_ms)
        self._ranks.append(rank_of(judgement.logits[1:], target - 1) if seen.rankable else MISSED)
        self._rivals.append(max(1, seen.items - 2))
        self._new.append(bool(self._counts[target] < NEW_ITEM_INTERACTIONS))
        share = (self._counts[top] + 1) / (self._counts.sum() + seen.items - 1)
        self._novelty.append(float(-np.log2(share).mean()))
        self._counts[target] += 1
        if len(self._users) % CASE_EVERY == 0:
            self.cases.append(Case(len(self._users), seen.past.items.astype(np.int32), target))

    @property
    def coverage(self) -> float:
        """Share of the catalogue that anybody was ever shown."""
        return len(self.shown) / max(1, self.items - 1)

    def ratios(self) -> dict[str, Ratio]:
        """Return every figure that is a mean over interactions, as each user's share of it.

        `auc` is the share of other items ranked below the one that followed. `new_item_recall_10` is the hit rate on
        items with fewer than ten interactions so far. `ctr` is the share of views of an item that was shown, and `cvr`
        of clicks on one, that a click, cart or purchase (for `cvr`: a purchase) of it by the same person follows within
        a day; they are left out where the log has no such events.
        """
        ranks = np.array(self._ranks, np.float64)
        hit, all_of_them = (ranks <= TOP).astype(float), np.ones(len(ranks))
        seen = ranks != MISSED
        new = np.array(self._new, float)
        means = {
            "hit_rate_10": hit,
            "recall_10": hit,  # one item follows each moment: recall is the hit rate, precision a tenth of it
            "precision_10": hit / TOP,
            "f1_10": 2 * hit / (TOP + 1),
            "accuracy": (ranks == 1).astype(float),
            "ndcg_10": hit / np.log2(ranks + 1),
            "mrr": seen / ranks,
            "auc": seen * (1 - (ranks - 1) / np.array(self._rivals, float)).clip(0, 1),
            "novelty": np.array(self._novelty),
        }
        found = {name: self._by_user(values, all_of_them) for name, values in means.items()}
        found["new_item_recall_10"] = self._by_user(hit * new, new)
        for name, start, answers in (("ctr", "view", _RESPONSES), ("cvr", "click", {"purchase"})):
            exposed = hit * np.array([kind == start for kind in self._types], float)
            if start in self._types and not answers.isdisjoint(self._types):
                found[name] = self._by_user(exposed * self._answered(answers), exposed)
        return found

    def _answered(self, answers: set[str]) -> Floats:
        """Return whether each interaction is followed by such an event with the same person and item within a day."""
        followed, next_ms = np.zeros(len(self._users)), dict[tuple[int, int], int]()
        for place in range(len(self._users) - 1, -1, -1):
            pair, time_ms = (self._users[place], self._targets[place]), self._times_ms[place]
            if pair in next_ms and next_ms[pair] - time_ms <= DAY_MS:
                followed[place] = 1.0
            if self._types[place] in answers:
                next_ms[pair] = time_ms
        return followed

    def _by_user(self, top: Floats, bottom: Floats) -> Ratio:
        users, people = np.array(self._users, np.int64), len(self._codes)
        sums = (np.bincount(users, weights=values, minlength=people).astype(np.float64) for values in (top, bottom))
        return Ratio(*sums)
