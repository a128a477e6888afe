"""The examiner: every prediction against its outcome, for metrics, detectors and the predecessor in the shadow."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from learners.fast_memory import COMPONENTS
from learners.histories import Past
from learners.interactions import Interaction
from learners.mixture.pool import log_softmax
from learners.quality.drift import DriftConfig
from learners.quality.metrics import MISSED, PrequentialMetrics, gains_of, rank_of
from learners.quality.shadow import PairedShadow, Rollback, ShadowConfig
from learners.quality.watch import Watch
from learners.ranking.ranker import Judgement, top_of
from learners.ranking.shared_expert import SharedExpert

Floats = npt.NDArray[np.float32]

_TOP = 10
NEW_ITEM_INTERACTIONS = 10  # an item is new until so many interactions with it were seen


class Seen(NamedTuple):
    """One target interaction and all that was known before it.

    Args:
        interaction: What happened.
        item_index: To which item.
        rankable: Whether the item could have been ranked: listed, and not delisted.
        past: The history before it.
        items: N before it, padding included.
    """

    interaction: Interaction
    item_index: int
    rankable: bool
    past: Past
    items: int


Witness = Callable[[Seen, Judgement], None]


class Examiner:
    """Measure every judgement before its outcome is learned.

    Args:
        metrics_window: Interactions per reported figure.
        drift: The detectors.
        shadow: How long a predecessor goes on scoring, and when it should come back.
    """

    def __init__(self, *, metrics_window: int, drift: DriftConfig, shadow: ShadowConfig) -> None:
        self.quality = PrequentialMetrics(window=metrics_window)
        self.watch = Watch(drift)
        self.predecessor: SharedExpert | None = None
        self.shadow: PairedShadow | None = None
        self.witness: Witness | None = None  # told of every judgement and its outcome; no part of the state
        self._shadow_config = shadow
        self._met: npt.NDArray[np.int32] = np.zeros(0, np.int32)  # interactions with each item so far

    def compare_with(self, predecessor: SharedExpert | None) -> None:
        """Let a predecessor score in the shadow from now on; None ends a comparison."""
        self.predecessor = self.shadow = None
        if predecessor is not None and self._shadow_config.interactions:
            self.predecessor = predecessor
            self.shadow = PairedShadow(predecessor=predecessor.version, config=self._shadow_config)

    def rollback(self) -> Rollback | None:
        """Return why the predecessor should serve again, or None."""
        return None if self.shadow is None else self.shadow.verdict()

    def examine(
        self,
        seen: Seen,
        judgement: Judgement,
        barred: npt.NDArray[np.int64],
        *,
        model_version: int,
        new_item: bool,
        shadow_logits: Floats | None,
    ) -> list[str]:
        """Add one interaction; returns the figures that drifted.

        Args:
            seen: The interaction.
            judgement: What was said before it was known.
            barred: Item indexes that could not be ranked.
            model_version: Of the release that scored.
            new_item: Whether nobody ever turned to the item before.
            shadow_logits: The predecessor's row of `SharedExpert.logits`, where there is a predecessor.
        """
        if self.witness is not None:
            self.witness(seen, judgement)
        interaction, past = seen.interaction, seen.past
        ranks = self._ranks(seen, judgement, recent=self._meet(seen) < NEW_ITEM_INTERACTIONS)
        likely = log_softmax(judgement.logits)[seen.item_index] if seen.rankable else -np.log(seen.items)
        gains = self.quality.add(
            ranks,
            shown=top_of(judgement.logits, _TOP).tolist(),
            items=seen.items,
            model_version=model_version,
            event_time_ms=interaction.event_time_ms,
            losses=_losses(seen, judgement, -float(likely)),
        )
        scored = self.quality.interactions
        fallen = self.watch.quality(gains, -float(likely), event_time_ms=interaction.event_time_ms, interactions=scored)
        changed = self.watch.features(
            interaction,
            gap_ms=interaction.event_time_ms - int(past.times_ms[-1]) if len(past.items) else None,
            new_item=new_item,
            history_length=len(past.items),
            interactions=scored,
        )
        if self.shadow is not None and self.predecessor is not None and shadow_logits is not None and seen.rankable:
            if fallen is not None:
                self.shadow.alarm()
            row = self.predecessor.log_probabilities(shadow_logits, items=seen.items, barred=barred)
            rival = gains_of(rank_of(row, seen.item_index))
            self.shadow.add(successor=gains["shared_model"][1], predecessor=rival[1])
            if self.shadow.over and self.shadow.verdict() is None:
                self.compare_with(None)
        return [alarm.metric for alarm in (fallen, changed) if alarm is not None]

    def _meet(self, seen: Seen) -> int:
        """Count one more interaction with the item; returns how many there were before."""
        if seen.item_index >= len(self._met):
            self._met = np.concatenate([self._met, np.zeros(max(1_024, seen.items), np.int32)])
        before = int(self._met[seen.item_index])
        self._met[seen.item_index] += 1
        return before

    @staticmethod
    def _ranks(seen: Seen, judgement: Judgement, *, recent: bool) -> dict[str, int]:
        """Return the target's place by every expert; once more under a name of its own where the item is new."""
        opinion = judgement.opinion
        scores = {"mixture": judgement.logits, "fast_memory": opinion.log_probabilities}
        if judgement.shared is not None:
            scores["shared_model"] = judgement.shared
        scores |= {name: opinion.features[feature] for name, feature in COMPONENTS.items()}
        ranks = dict.fromkeys(scores, MISSED)
        if seen.rankable:
            ranks = {name: rank_of(its_scores[1:], seen.item_index - 1) for name, its_scores in scores.items()}
        if "shared_model" in ranks:  # scored from its first release on: compare on the same interactions
            ranks |= {f"{name}_since_release": ranks[name] for name in ("mixture", "fast_memory")}
        if recent:
            whole = ("mixture", "fast_memory", "shared_model")
            ranks |= {f"{name}_on_new_items": ranks[name] for name in whole if name in ranks}
        return ranks

    def get_state(self) -> dict[str, Any]:
        """Return everything; of the predecessor only its version, 0 for none."""
        return {
            "quality": self.quality.get_state(),
            "met": self._met.copy(),
            "watch": self.watch.get_state(),
            "predecessor": 0 if self.shadow is None else self.shadow.predecessor,
            "shadow": None if self.shadow is None else self.shadow.get_state(),
        }

    def set_state(self, state: dict[str, Any], predecessor: SharedExpert | None) -> None:
        """Become what `get_state` described.

        Args:
            state: From `get_state`.
            predecessor: The release of the version in `state`; None if it is gone, which ends the comparison.
        """
        self.quality.set_state(state["quality"])
        self._met = np.array(state["met"], np.int32)
        self.watch.set_state(state["watch"])
        self.compare_with(predecessor)
        if self.shadow is not None:
            self.shadow.set_state(state["shadow"])


def _losses(seen: Seen, judgement: Judgement, mixture: float) -> dict[str, float] | None:
    """Return the log loss of the mixture and of what it mixes, or None where there was nothing to mix."""
    if judgement.shared is None or not seen.rankable:
        return None
    return {
        "mixture": mixture,
        "fast_memory": -float(judgement.opinion.log_probabilities[seen.item_index]),
        "shared_model": -float(judgement.shared[seen.item_index]),
    }
