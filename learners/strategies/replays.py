"""Experience replay, told apart by what is kept and what is drawn: labels only, no word from the incumbent."""

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from learners.replay.buffers import ReplayBuffer
from learners.replay.reservoirs import BiasedReservoir, StratifiedReservoir
from learners.strategies.herding import herd
from learners.strategies.strategy import Indexes, Mask, Material, Strategy

if TYPE_CHECKING:
    from learners.releases.release import LoadedRelease
    from learners.rounds.material import RoundInput


@dataclass(frozen=True, kw_only=True)
class StratifiedReplay(Strategy):
    """Replay a uniform sample within each stratum (user hash x popularity of the item): the default's buffer.

    Source: Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, one per stratum.
    """

    replays: ClassVar[bool] = True


@dataclass(frozen=True, kw_only=True)
class ReservoirReplay(Strategy):
    """Replay a uniform sample of everything ever seen.

    Source: Chaudhry et al., "On Tiny Episodic Memories in Continual Learning", 2019, "ER-Reservoir".
    """

    replays: ClassVar[bool] = True

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return one reservoir."""
        return StratifiedReservoir(capacity=capacity, length=length, rng=rng, user_groups=1, bands=1)


@dataclass(frozen=True, kw_only=True)
class RecencyReplay(Strategy):
    """Replay a sample in which an interaction's chance falls exponentially with its age.

    Args:
        interactions: Age, in interactions, at which the chance has fallen to 1/e: places of the buffer; at least 1.

    Source: Aggarwal, "On Biased Reservoir Sampling in the Presence of Stream Evolution", VLDB 2006, algorithm 2.1.
    """

    replays: ClassVar[bool] = True
    interactions: int = 5_000

    def buffer(self, *, capacity: int, length: int, rng: np.random.Generator) -> ReplayBuffer:
        """Return a biased reservoir of so many places, or of the capacity where that is less."""
        return BiasedReservoir(capacity=min(capacity, self.interactions), length=length, rng=rng)


@dataclass(frozen=True, kw_only=True)
class HerdingReplay(Strategy):
    """Replay exemplars: of each item, as many moments as it is frequent, and those that are most like its mean.

    The paper picks among all old exemplars and the period just learned; here the candidates are a sample of the
    buffer, and the model that places them is the incumbent, which is the same one: the last to have been trained.

    Args:
        candidates: Rows drawn from the buffer for each one that is kept; at least 1.

    Source: Mi et al., "ADER", RecSys 2020, section 3.2 and algorithm 1; herding: Welling, ICML 2009.
    """

    replays: ClassVar[bool] = True
    candidates: int = 4

    def material(
        self, tokens: Indexes, mask: Mask, buffer: ReplayBuffer, *, rows: int, before: float = float("inf")
    ) -> Material:
        """Return what is new and the candidates."""
        return super().material(tokens, mask, buffer, rows=rows * self.candidates, before=before)

    def choose(self, round_input: "RoundInput", incumbent: "LoadedRelease | None") -> "RoundInput":
        """Return the new rows and the exemplars among the candidates."""
        places = np.flatnonzero(round_input.replayed)
        if incumbent is None or not len(places):
            return round_input
        tokens = round_input.tokens[places]
        exemplars = herd(
            incumbent.encode_users(list(tokens[:, :-1])),
            tokens[:, -1],
            count=-(-len(places) // self.candidates),
            rng=np.random.default_rng(round_input.seed),
        )
        kept = np.concatenate([np.flatnonzero(~round_input.replayed), places[exemplars]])
        per_row = {name: getattr(round_input, name)[kept] for name in ("tokens", "loss_mask", "weight", "replayed")}
        return replace(round_input, **per_row, extras={name: rows[kept] for name, rows in round_input.extras.items()})
