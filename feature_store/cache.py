"""States held in memory by the owner of their partition, the least recently loaded dropped first."""

from collections import OrderedDict
from collections.abc import Iterable
from typing import Generic

from feature_store.rows import State


class StateCache(Generic[State]):
    """One partition's states.

    What the batch at hand needs is never dropped, nor is a state with events that are not flushed yet, so the cache
    can grow past its capacity for a while.

    Args:
        capacity: Most states kept; at least 1.
    """

    def __init__(self, *, capacity: int) -> None:
        self.capacity = capacity
        self.states: OrderedDict[str, State] = OrderedDict()
        self._needed: dict[str, None] = {}

    def missing(self, entity_ids: Iterable[str]) -> list[str]:
        """Give those of `entity_ids` that must be loaded, each once; the others count as used just now."""
        states = self.states
        self._needed = dict.fromkeys(entity_ids)
        absent = []
        for entity_id in self._needed:
            if entity_id in states:
                states.move_to_end(entity_id)
            else:
                absent.append(entity_id)
        return absent

    def put(self, loaded: dict[str, State]) -> None:
        """Take in loaded states, and drop the ones beyond the capacity that were not used for longest."""
        states = self.states
        for entity_id, state in loaded.items():
            states.setdefault(entity_id, state)
        surplus = len(states) - self.capacity
        if surplus <= 0:
            return
        droppable: list[str] = []
        for entity_id, state in states.items():
            if len(droppable) == surplus:
                break
            if entity_id not in self._needed and state.events == state.flushed:
                droppable.append(entity_id)
        for entity_id in droppable:
            del states[entity_id]
