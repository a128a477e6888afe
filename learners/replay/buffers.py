"""What keeps interactions to learn from again: the verbs that every buffer has, and buffers other than the default."""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from learners.replay.pending import cut, to_arrays

Indexes = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]


class Stored(NamedTuple):
    """One interaction as a buffer holds it."""

    user_id: str
    history: list[int]
    item_index: int
    time_ms: int


class ReplayBuffer(Protocol):
    """The verbs of a buffer; see `learners.replay.reservoirs.StratifiedReservoir` for what each does."""

    policy: str

    def __len__(self) -> int: ...
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
    ) -> None: ...
    def sample(self, rows: int) -> Indexes: ...
    def draw(self, rows: int, *, before: float = float("inf")) -> dict[str, npt.NDArray[Any]]: ...
    def forget(self, user_id: str, *, until_ms: int) -> int: ...
    def user_ids(self) -> set[str]: ...
    def get_state(self) -> dict[str, Any]: ...
    def set_state(self, state: dict[str, Any]) -> None: ...


class Archive:
    """The newest interactions in their order, or all of them: no sample.

    Args:
        length: L, history length of the model.
        most: Interactions kept; None keeps everything, and memory grows with the log.
        rng: Source of every random choice.

    >>> archive = Archive(length=3, most=None, rng=np.random.default_rng(0))
    >>> for arrival, item in enumerate([5, 6, 7], start=1):
    ...     archive.add("ann", [], item, time_ms=arrival, band=0, arrival=arrival)
    >>> archive.rows(before=3)[0].tolist()  # the third is held out
    [[0, 0, 5, 6]]
    """

    policy = "archive"

    def __init__(self, *, length: int, most: int | None, rng: np.random.Generator) -> None:
        self.length = length
        self.seen = np.zeros(1, np.int64)
        self._rng = rng
        self._held: deque[tuple[str, int, int, int]] = deque(maxlen=most)  # user, item, time, arrival

    def __len__(self) -> int:
        return len(self._held)

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
        """Keep one interaction, whose number in the stream is `arrival`; histories follow from what is kept."""
        del history, band, logits
        self.seen[0] += 1
        self._held.append((user_id, item_index, time_ms, arrival))

    def rows(self, *, before: float = float("inf")) -> tuple[Indexes, npt.NDArray[np.bool_]]:
        """Return everything that came before a number in the stream, every interaction a target once, as rows.

        Returns:
            tokens int32 [M, L+1], left-padded; which of `tokens[:, 1:]` are to be learned, bool [M, L].
        """
        sequences: dict[str, list[int]] = {}
        for user_id, item_index, _, arrival in self._held:
            if arrival < before:
                sequences.setdefault(user_id, []).append(item_index)
        rows = (row for items in sequences.values() for row in cut([], items, length=self.length))
        return to_arrays(rows, length=self.length)

    def sample(self, rows: int, *, before: float = float("inf")) -> Indexes:
        """Return interactions with their histories, left-padded, item last, int32 [<= rows, L+1]; none twice."""
        drawable = [place for place, held in enumerate(self._held) if held[3] < before]
        chosen = set(self._rng.choice(drawable, size=min(rows, len(drawable)), replace=False).tolist())
        held = enumerate(_with_histories(self._held, length=self.length))
        kept = [([*each.history, each.item_index], 1) for place, each in held if place in chosen]
        return to_arrays(kept, length=self.length)[0]

    def draw(self, rows: int, *, before: float = float("inf")) -> dict[str, npt.NDArray[Any]]:
        """Return a sample of what came before a number in the stream, under the name `tokens`."""
        return {"tokens": self.sample(rows, before=before)}

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remove a person's interactions up to and including a time; returns how many went."""
        before = len(self)
        kept = [held for held in self._held if held[0] != user_id or held[2] > until_ms]
        self._held = deque(kept, maxlen=self._held.maxlen)
        return before - len(self)

    def user_ids(self) -> set[str]:
        """Return everybody who is held."""
        return {user_id for user_id, *_ in self._held}

    def get_state(self) -> dict[str, Any]:
        """Return everything but the random state, which the owner of the generator keeps."""
        users, *numbers = zip(*self._held, strict=True) if self._held else ([], [], [], [])
        held = np.array(numbers, np.int64).reshape(3, -1)
        return {"policy": self.policy, "seen": self.seen.copy(), "users": list(users), "held": held}

    def set_state(self, state: dict[str, Any]) -> None:
        """Become what `get_state` described."""
        self.seen = np.array(state["seen"])
        numbers = np.array(state["held"]).tolist()
        self._held = deque(zip(state["users"], *numbers, strict=True), maxlen=self._held.maxlen)


def stored_in(state: Mapping[str, Any], *, length: int) -> Iterator[Stored]:
    """Yield, oldest first, what any buffer's `get_state` holds, so that another buffer can take it over.

    Args:
        state: From `get_state`.
        length: L, history length of the model.

    >>> archive = Archive(length=3, most=None, rng=np.random.default_rng(0))
    >>> for arrival, item in enumerate([5, 6], start=1):
    ...     archive.add("ann", [], item, time_ms=arrival, band=0, arrival=arrival)
    >>> [(each.history, each.item_index) for each in stored_in(archive.get_state(), length=3)]
    [([], 5), ([5], 6)]
    """
    if "tokens" not in state:
        yield from _with_histories(zip(state["users"], *np.array(state["held"]).tolist(), strict=True), length=length)
        return
    for place in np.argsort(state["times_ms"], kind="stable").tolist():
        *history, item_index = (token for token in state["tokens"][place].tolist() if token)
        yield Stored(state["users"][place], history, item_index, int(state["times_ms"][place]))


def _with_histories(held: Iterable[tuple[str, int, int, int]], *, length: int) -> Iterator[Stored]:
    sequences: dict[str, deque[int]] = {}
    for user_id, item_index, time_ms, _ in held:
        history = sequences.setdefault(user_id, deque(maxlen=length))
        yield Stored(user_id, list(history), item_index, time_ms)
        history.append(item_index)
