import itertools

from feature_store.event_types import EVENT_TYPES
from feature_store.items import ItemState


def test_the_order_of_events_changes_nothing_but_rounding():
    sequence = [("view", 5_000), ("purchase", 1_000), ("view", 9_000), ("gift", 2_000)]
    states = []
    for order in itertools.permutations(sequence):
        item = ItemState()
        for event_type, time_ms in order:
            item.apply(event_type, time_ms)
        states.append(item)
    assert len({tuple(state.counts) for state in states}) == 1
    assert len({tuple(round(value, 9) for value in state.decayed) for state in states}) == 1
    assert [states[0].count_of(name) for name in EVENT_TYPES] == [2, 0, 0, 1, 0, 0, 0, 1]
    assert states[0].last_event_ms == 9_000
