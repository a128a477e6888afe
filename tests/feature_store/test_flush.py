import psycopg
import pytest

from feature_store.errors import StaleLedgerError
from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.users import UserState

TOPIC = "clickstream.events"
HOUR_MS = 3_600_000


@pytest.fixture
def users_of(features_url):
    opened = []

    def make(**settings):
        opened.append(UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=HOUR_MS, **settings))
        return opened[-1]

    yield make
    for features in opened:
        features.close_all()


def run(features, events, *, partition=0, next_offset, **extra):
    features.load(partition, [event.user_id for event in events])
    applied = []
    for event in events:
        if features.apply(partition, event.user_id, event.item_id, event.event_type, event.event_time_ms) == "applied":
            applied.append(event)
    delta = PartitionFlush(
        topic=TOPIC,
        partition=partition,
        next_offset=next_offset,
        counts={"received": len(events), "applied": len(applied), "late": len(events) - len(applied)},
        applied=applied,
        **extra,
    )
    return features.flush(delta)


def test_what_was_flushed_is_what_another_process_loads(users_of, event):
    events = [event(user_id="u1", item_id=f"i{n}", event_type="purchase", event_time_ms=n * 1000) for n in range(60)]
    first = users_of()
    assert first.open(TOPIC, 0).next_offset is None
    run(first, events, next_offset=60)
    second = users_of()
    assert second.open(TOPIC, 0).next_offset == 60
    second.load(0, ["u1", "u2"])
    state, plain = second.state(0, "u1"), UserState()
    for one in events:
        plain.apply(one.item_id, one.event_type, one.event_time_ms)
    assert (state.counts, state.items, state.moments) == (plain.counts, plain.items, plain.moments)
    assert state.decayed == plain.decayed
    assert len(state.items) == 50
    assert second.state(0, "u2").events == 0
