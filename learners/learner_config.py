"""Settings of the learner, each part's own beside each other."""

from dataclasses import dataclass, field

from learners.model import ModelConfig
from learners.quality.drift import DriftConfig
from learners.quality.shadow import ShadowConfig
from learners.ranking.ranker import RankerConfig
from learners.rounds.gate import GateConfig
from learners.rounds.material import RoundConfig
from learners.rounds.triggers import TriggerConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerConfig:
    """Settings of the learner.

    Args:
        ranker: Fast memory and the mixture.
        trigger: When a round is due.
        drift: The detectors.
        shadow: The predecessor after a swap.
        model: Shape of the shared model.
        training: How a round trains.
        gate: How a round is judged.
        history_length: Interactions of any type kept per person.
        max_users: People whose history is kept.
        replay_capacity: Interactions in the replay buffer.
        replay_rows: Replayed histories per round ...
        replay_from: ... of at least so many new interactions; a smaller one replays fewer in proportion, so that what
            is new is not drowned.
        newest_window: Newest interactions held out for the gate.
        frozen_cases: Cases of earlier windows kept to measure forgetting.
        most_pending: Interactions waiting for a round at most.
        metrics_window: Interactions per reported figure.
        most_people: People named in a round's input, for exemplars and user embeddings; 0: nobody.
    """

    ranker: RankerConfig = field(default_factory=RankerConfig)
    trigger: TriggerConfig = field(default_factory=TriggerConfig)
    drift: DriftConfig = field(default_factory=DriftConfig)
    shadow: ShadowConfig = field(default_factory=ShadowConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    training: RoundConfig = field(default_factory=RoundConfig)
    gate: GateConfig = field(default_factory=GateConfig)
    history_length: int = 50
    max_users: int = 200_000
    replay_capacity: int = 50_000
    replay_rows: int = 384
    replay_from: int = 4_000
    newest_window: int = 1_000
    frozen_cases: int = 1_000
    most_pending: int = 100_000
    metrics_window: int = 1_000
    most_people: int = 0
