"""Replay buffers: stored interactions to learn from again."""

from collections.abc import Sequence
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

Indexes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]

POPULARITY_BANDS = (0.5, 0.8, 0.95)  # shares of the catalogue, least popular first, that bound the bands


class StratifiedReservoir:
    """A uniform sample of everything ever added, within each stratum: user hash x popularity of the item.

    Every stratum owns the same share of the places and runs Algorithm R on them, so rare items and all users stay
    represented, and each stratum's sample is uniform over time: old seasons stay.

    Args:
        capacity: Most interactions held at once; at least one per stratum.
        length: L, history kept with each interaction.
        user_groups: Number of user hash groups.
        bands: Number of popularity bands; with 1 group and 1 band, one uniform sample of everything.
        rng: Source of every random choice.

    Raises:
        ValueError: If `capacity` is below the number of strata.

    Source: Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, Algorithm R, one per stratum.

    >>> buffer = StratifiedReservoir(capacity=32, length=3, rng=np.random.default_rng(0))
    >>> buffer.add("ann", [4, 5], 6, time_ms=10, band=0)
    >>> buffer.sample(1)[0].tolist()
    [0, 4, 5, 6]
    >>> buffer.forget("ann", until_ms=10), len(buffer)
    (1, 0)
    """

    def __init__(
        self,
        *,
        capacity: int,
        length: int,
        rng: np.random.Generator,
        user_groups: int = 8,
        bands: int = len(POPULARITY_BANDS) + 1,
    ) -> None:
        strata = user_groups * bands
        self.policy = "stratified" if strata > 1 else "reservoir"
        if capacity < strata:
            message = f"replay capacity is {capacity}; expected at least {strata}, one per stratum"
            raise ValueError(message)
        self.capacity, self.length, self.user_groups, self.bands = capacity, length, user_groups, bands
        self.seen = np.zeros(strata, np.int64)
        self.admitted = 0
        self._room = capacity // strata
        self._held = np.zeros(strata, np.int64)
        self._rng = rng
        self._tokens: Indexes = np.zeros((strata, self._room, length + 1), np.int32)
        self._times_ms = np.zeros((strata, self._room), np.int64)
        self._arrivals = np.zeros((strata, self._room), np.int64)
        self._users: list[list[str]] = [[] for _ in range(strata)]

    def __len__(self) -> int:
        return int(self._held.sum())

    def add(
        self,
        user_id: str,
        history: Sequence[int],
        item_index: int,
        *,
        time_ms: int,
        band: int,
        arrival: int = 0,
        logits: Floats | None = None,
    ) -> None:
        """Offer one interaction; it is kept or not.

        Args:
            user_id: Whose.
            history: Item indexes before it, oldest first; the last L are kept.
            item_index: The item.
            time_ms: When.
            band: Popularity band of the item, 0 (rare) to `len(POPULARITY_BANDS)`.
            arrival: Its number in the stream, by which a draw leaves out what is held out; 0: before everything.
            logits: The shared model's score of every item, [>= N], None without a model; for buffers that keep them.
        """
        stratum = crc32(user_id.encode()) % self.user_groups * self.bands + min(band, self.bands - 1)
        self.seen[stratum] += 1
        place = self._place(stratum)
        if place is None:
            return
        if place == self._held[stratum]:
            self._held[stratum] += 1
            self._users[stratum].append(user_id)
        self.admitted += 1
        self._keep_outputs(stratum, place, logits)
        kept = history[-self.length :]
        row = self._tokens[stratum, place]
        row[: self.length - len(kept)] = 0
        row[self.length - len(kept) : self.length] = kept
        row[self.length] = item_index
        self._times_ms[stratum, place], self._arrivals[stratum, place] = time_ms, arrival
        self._users[stratum][place] = user_id

    def _place(self, stratum: int) -> int | None:
        """Return where a stratum keeps the interaction it was just offered, or None if it does not."""
        held = int(self._held[stratum])
        if held < self._room:
            return held
        place = int(self._rng.integers(self.seen[stratum]))
        return place if place < self._room else None

    def _keep_outputs(self, stratum: int, place: int, logits: Floats | None) -> None:
        """Keep what the model said of an interaction: this buffer does not."""

    def sample(self, rows: int) -> Indexes:
        """Return interactions with their histories, left-padded, item last, int32 [<= rows, L+1]; none twice."""
        tokens: Indexes = self.draw(rows)["tokens"]
        return tokens

    def draw(self, rows: int, *, before: float = float("inf")) -> dict[str, npt.NDArray[Any]]:
        """Return a sample under the name `tokens`, and beside it, by name, what else is kept with each interaction.

        Args:
            rows: Most interactions drawn.
            before: Only what came before this number in the stream is drawn: a gate's window stays out of its round.
        """
        strata, places = self._all_places()
        drawable = self._arrivals[strata, places] < before
        strata, places = strata[drawable], places[drawable]
        chosen = self._rng.choice(len(strata), size=min(rows, len(strata)), replace=False)
        return {name: values[strata[chosen], places[chosen]] for name, values in self._sampled().items()}

    def _sampled(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays [strata, room, ...] that a sample is drawn from."""
        return {"tokens": self._tokens}

    def _stored(self) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays [strata, room, ...] that are moved and saved together."""
        return {**self._sampled(), "times_ms": self._times_ms, "arrivals": self._arrivals}

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remove a person's interactions up to and including a time; returns how many went."""
        first = crc32(user_id.encode()) % self.user_groups * self.bands
        gone = 0
        for stratum in range(first, first + self.bands):
            users = self._users[stratum]
            for place in range(len(users) - 1, -1, -1):
                if users[place] == user_id and self._times_ms[stratum, place] <= until_ms:
                    last = len(users) - 1  # the last one takes its place
                    users[place] = users[last]
                    for values in self._stored().values():
                        values[stratum, place] = values[stratum, last]
                        values[stratum, last] = 0
                    users.pop()
                    self._held[stratum] -= 1
                    gone += 1
        return gone

    def user_ids(self) -> set[str]:
        """Return everybody who is held."""
        return {user_id for users in self._users for user_id in users}

    def _all_places(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        strata = np.repeat(np.arange(len(self._held)), self._held)
        places = np.concatenate([np.arange(held) for held in self._held])
        return strata, places

    def get_state(self) -> dict[str, Any]:
        """Return everything but the random state, which the owner of the generator keeps."""
        strata, places = self._all_places()
        return {
            "seen": self.seen.copy(),
            "held": self._held.copy(),
            "admitted": self.admitted,
            **{name: values[strata, places] for name, values in self._stored().items()},
            "users": [user_id for users in self._users for user_id in users],
            "policy": self.policy,
        }

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.seen, self._held = np.array(state["seen"]), np.array(state["held"])
        self.admitted = state["admitted"]
        strata, places = self._all_places()
        for name, values in self._stored().items():
            values[:] = 0
            values[strata, places] = state.get(name, 0)  # states once had no arrivals: all of that is long past
        self._users, end = [], 0
        for held in self._held.tolist():
            start, end = end, end + held
            self._users.append(state["users"][start:end])


class BiasedReservoir(StratifiedReservoir):
    """A sample in which an interaction's chance falls with its age as exp(-age / capacity).

    Every interaction is kept; it takes a random other's place with a chance that is the share of places in use.

    Args:
        capacity: Most interactions held at once; at least 1.
        length: L, history kept with each interaction.
        rng: Source of every random choice.

    Source: Aggarwal, "On Biased Reservoir Sampling in the Presence of Stream Evolution", VLDB 2006, algorithm 2.1.
    """

    def __init__(self, *, capacity: int, length: int, rng: np.random.Generator) -> None:
        super().__init__(capacity=capacity, length=length, rng=rng, user_groups=1, bands=1)
        self.policy = "biased"

    def _place(self, stratum: int) -> int | None:
        held = int(self._held[stratum])
        return int(self._rng.integers(held)) if self._rng.random() < held / self._room else held


class OutputReservoir(StratifiedReservoir):
    """A uniform sample of everything, and with each interaction the model's best scores when it came.

    Args:
        capacity: Most interactions held at once; at least 1.
        length: L, history kept with each interaction.
        outputs: K, scores kept with each.
        rng: Source of every random choice.

    A sample carries `taught_items`, int32 [n, K], and `taught_scores`, float32 [n, K]; item 0 where there is no score.

    Source: Buzzega et al., "Dark Experience for General Continual Learning", NeurIPS 2020, algorithm 2.
    """

    def __init__(self, *, capacity: int, length: int, outputs: int, rng: np.random.Generator) -> None:
        super().__init__(capacity=capacity, length=length, rng=rng, user_groups=1, bands=1)
        self.policy, self.outputs = "outputs", outputs
        self._items: Indexes = np.zeros((1, self._room, outputs), np.int32)
        self._scores: Floats = np.zeros((1, self._room, outputs), np.float32)

    def _keep_outputs(self, stratum: int, place: int, logits: Floats | None) -> None:
        self._items[stratum, place] = self._scores[stratum, place] = 0
        if logits is not None and len(logits) > self.outputs:
            best = np.argpartition(-logits[1:], self.outputs - 1)[: self.outputs] + 1
            self._items[stratum, place], self._scores[stratum, place] = best, logits[best]

    def _sampled(self) -> dict[str, npt.NDArray[Any]]:
        return {"tokens": self._tokens, "taught_items": self._items, "taught_scores": self._scores}


def popularity_band(count: float, bounds: npt.NDArray[np.floating[Any]]) -> int:
    """Return the band of an item from its count and the counts that bound the bands.

    >>> popularity_band(3, np.array([1.0, 5.0, 50.0]))
    1
    """
    return int(np.searchsorted(bounds, count, side="left"))
