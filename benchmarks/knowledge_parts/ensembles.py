"""The seed models asked together, with weights that follow what people do, or stay as they were."""

import numpy as np

from learners.knowledge.distillation import AdaptiveWeights
from learners.knowledge.opinions import Opinions, gains


def through_change(start: AdaptiveWeights, before: Opinions, after: Opinions) -> dict[str, dict[str, float]]:
    """Return NDCG@10 before and after a shop changes, with the weights as they were and with adaptive ones.

    Args:
        start: Weights chosen on validation, before.
        before: Opinions on what happened until the shop changed.
        after: Opinions on what happened from then on.
    """
    fixed, moving = list(start.values), AdaptiveWeights(len(start.values))
    moving.set_state(start.get_state())
    found: dict[str, dict[str, float]] = {"fixed": {}, "adaptive": {}}
    for name, opinions in (("before", before), ("after", after)):
        followed = []
        for event, losses in enumerate(opinions.losses()):
            followed += gains(opinions.mixed(moving.values, event), opinions.true[event : event + 1])
            moving.update(losses)
        found["adaptive"][name] = float(np.mean(followed))
        found["fixed"][name] = float(np.mean(gains(opinions.mixed(fixed), opinions.true)))
    return found
