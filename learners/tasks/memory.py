"""What a task remembers of its examples: a uniform sample of all that came, each class with a share of its own."""

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from learners.tasks.examples import Example


class ExampleMemory:
    """Reservoirs, one a class; rare classes are kept whole while frequent ones are sampled.

    Args:
        capacity: Most examples held; at least one a stratum.
        strata: Classes that share it; 1 where labels are numbers.

    >>> memory = ExampleMemory(capacity=4, strata=2)
    >>> memory.add([Example(("tea",), label=float(number == 7)) for number in range(50)], np.random.default_rng(0))
    >>> len(memory), sum(example.label for example in memory.examples())
    (3, 1.0)

    Source: Vitter, "Random Sampling with a Reservoir", ACM TOMS 11(1), 1985, Algorithm R.
    """

    def __init__(self, *, capacity: int, strata: int = 1) -> None:
        self.capacity, self._strata = capacity, strata
        self._seen = [0] * strata
        self._held: list[list[Example]] = [[] for _ in range(strata)]

    def __len__(self) -> int:
        return sum(map(len, self._held))

    def add(self, examples: Iterable[Example], rng: np.random.Generator) -> None:
        """Take examples in."""
        most = max(self.capacity // self._strata, 1)
        for example in examples:
            stratum = int(example.label or 0) if self._strata > 1 else 0
            held = self._held[stratum]
            self._seen[stratum] += 1
            if len(held) < most:
                held.append(example)
            elif (place := int(rng.integers(self._seen[stratum]))) < most:
                held[place] = example

    def examples(self) -> list[Example]:
        """Return all that is held."""
        return [example for held in self._held for example in held]

    def sample(self, most: int, rng: np.random.Generator) -> list[Example]:
        """Return up to `most` different examples, each with the same chance."""
        held = self.examples()
        if len(held) <= most:
            return held
        return [held[place] for place in rng.choice(len(held), size=most, replace=False)]

    def forget(self, user_id: str, *, until_ms: int) -> int:
        """Remove a person's examples up to and including a time; returns how many went."""
        before = len(self)
        self._held = [[each for each in held if not each.forgotten(user_id, until_ms)] for held in self._held]
        return before - len(self)

    def get_state(self) -> dict[str, Any]:
        """Return JSON-able values."""
        return {"seen": list(self._seen), "held": [[example.as_row() for example in held] for held in self._held]}

    def set_state(self, state: Mapping[str, Any]) -> None:
        """Become what `get_state` described."""
        self._seen = [int(seen) for seen in state["seen"]]
        self._held = [[Example.from_row(row) for row in held] for held in state["held"]]
