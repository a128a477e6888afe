import random
import time
from collections import Counter, deque

import psycopg
import pytest

from feature_store import decay
from feature_store.errors import NotLoadedError, NotOpenError, StaleLedgerError
from feature_store.event_types import EVENT_TYPES
from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.report import ledger_report
from feature_store.users import UserState

TOPIC = "clickstream.events"
HOUR_MS = 3_600_000


@pytest.fixture
def users_of(features_url):
    opened = []

    def make(**settings):
        opened.append(
            UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=HOUR_MS, **settings)
        )
        return opened[-1]

    yield make
    for features in opened:
        features.close_all()


def run(features, events, *, partition=0, next_offset, **extra):
    features.load(partition, [event.user_id for event in events])
    applied = [
        one
        for one in events
        if features.apply(partition, one.user_id, one.item_id, one.event_type, one.event_time_ms) == "applied"
    ]
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


def log_of(event, *, seed, size=3_000, users=40):
    """A partition's records: event_ids repeat, times jump back a little and sometimes a lot."""
    rng = random.Random(seed)
    now_ms, records = 1_700_000_000_000, []
    for offset in range(size):
        if records and rng.random() < 0.05:
            records.append(records[-rng.randrange(1, min(len(records), 400) + 1)])
            continue
        now_ms += rng.randrange(120_000)
        back_ms = rng.choice((0, 0, 0, 1, HOUR_MS // 2, HOUR_MS, HOUR_MS + 1, 5 * HOUR_MS))
        records.append(
            event(
                user_id=f"u{min(int(rng.expovariate(0.1)), users)}",
                item_id=f"i{rng.randrange(50)}",
                event_type=rng.choice((*EVENT_TYPES, "wishlist")),
                event_time_ms=now_ms - back_ms,
                event_id=f"e{offset}",
            )
        )
    return records


def recount(records, *, window):
    """What must have become of the records, by the definition and with none of the code under test."""
    recent, by_user, last, counts = deque(maxlen=window), {}, {}, Counter()
    for record in records:
        counts["received"] += 1
        if record.event_id in recent:
            counts["duplicate"] += 1
            continue
        recent.append(record.event_id)
        if record.event_time_ms < last.get(record.user_id, -(10**15)) - HOUR_MS:
            counts["late"] += 1
            continue
        last[record.user_id] = max(last.get(record.user_id, -(10**15)), record.event_time_ms)
        by_user.setdefault(record.user_id, []).append(record)
        counts["applied"] += 1
    return by_user, counts


def consume(features, records, *, rng, crash_after=None, batch=200):
    """Consume as a worker does; at `crash_after` flushes stop right before or right after the commit."""
    ledger = features.open(TOPIC, 0)
    flushes = 0
    while (begin := ledger.next_offset or 0) < len(records):
        taken = records[begin : begin + rng.randrange(1, batch)]
        counts, ids, applied = Counter(received=len(taken)), [], []
        features.load(0, [record.user_id for record in taken])
        for record in taken:
            if not ledger.admit(record.event_id):
                counts["duplicate"] += 1
                continue
            ids.append(record.event_id)
            outcome = features.apply(0, record.user_id, record.item_id, record.event_type, record.event_time_ms)
            counts[outcome] += 1
            if outcome == "applied":
                applied.append(record)
        if crash_after == flushes and rng.random() < 0.5:
            return False
        features.flush(
            PartitionFlush(
                topic=TOPIC,
                partition=0,
                next_offset=begin + len(taken),
                counts=counts,
                event_ids=ids,
                applied=applied,
                first_offset=begin,
            )
        )
        if crash_after == flushes:
            return False
        flushes += 1
    return True


@pytest.mark.parametrize("cache_users", [1, 7, 1000])
def test_after_any_crash_every_state_is_a_plain_recount_of_the_log(users_of, features_url, event, cache_users):
    records, rng = log_of(event, seed=cache_users), random.Random(cache_users)
    for _ in range(6):
        if consume(
            users_of(cache_users=cache_users, dedupe_window=300), records, rng=rng, crash_after=rng.randrange(6)
        ):
            break
    features = users_of(cache_users=cache_users, dedupe_window=300)
    assert consume(features, records, rng=rng)
    by_user, counts = recount(records, window=300)
    states = features.read(list(by_user))
    for user_id, applied in by_user.items():
        state = states[user_id]
        for event_type in EVENT_TYPES[:-1]:
            assert state.count_of(event_type) == sum(1 for one in applied if one.event_type == event_type)
        assert state.last_event_ms == max(one.event_time_ms for one in applied)
        acted = sorted(
            (one for one in applied if one.event_type not in {"search", "impression"}),
            key=lambda one: one.event_time_ms,
        )
        assert [(item_id, time_ms) for item_id, time_ms, _ in state.history()] == [
            (one.item_id, one.event_time_ms) for one in acted[-50:]
        ]
        views = [one.event_time_ms for one in applied if one.event_type == "view"]
        for index, half_life_ms in enumerate(decay.HALF_LIVES_MS):
            expected = sum(2.0 ** ((time_ms - max(views)) / half_life_ms) for time_ms in views)
            assert state.decayed[index] == pytest.approx(expected, rel=1e-9)
    report = ledger_report(features_url, "test")[TOPIC]
    assert report["next_offset"] == {0: len(records)}
    assert {name: report["counts"][name] for name in counts} == counts
    assert counts["duplicate"] > 50
    assert counts["late"] > 50


def test_a_paused_owner_cannot_overwrite_its_successor(users_of, event):
    paused, successor = users_of(), users_of()
    paused.open(TOPIC, 0)
    successor.open(TOPIC, 0)
    run(successor, [event(user_id="u", item_id="new")], next_offset=1)
    with pytest.raises(StaleLedgerError, match="another owner"):
        run(paused, [event(user_id="u", item_id="old"), event(user_id="v", item_id="old")], next_offset=2)
    states = successor.read(["u", "v"])
    assert states["u"].items == ["new"]
    assert states["v"].events == 0


def test_a_user_written_from_two_partitions_loses_nothing_and_is_counted(users_of, features_url, event):
    here, there = users_of(), users_of()
    here.open(TOPIC, 0)
    there.open(TOPIC, 1)
    for turn in range(3):
        for features, partition in ((here, 0), (there, 1)):
            one = event(user_id="u", item_id=f"{partition}.{turn}", event_time_ms=2 * turn + partition)
            run(
                features,
                [one, event(user_id=f"own{partition}", item_id="x")],
                partition=partition,
                next_offset=turn + 1,
            )
    state = here.read(["u"])["u"]
    assert state.items == ["0.0", "1.0", "0.1", "1.1", "0.2", "1.2"]
    assert state.count_of("view") == 6
    assert ledger_report(features_url)[TOPIC]["counts"]["foreign"] == 4  # each but the first of each


def test_a_foreign_event_that_is_late_after_all_is_counted_as_late(users_of, features_url, event):
    here, there = users_of(), users_of()
    here.open(TOPIC, 0)
    there.open(TOPIC, 1)
    here.load(0, ["u"])
    run(there, [event(user_id="u", item_id="new", event_time_ms=10 * HOUR_MS)], partition=1, next_offset=1)
    outcome = run(here, [event(user_id="u", item_id="old", event_time_ms=0)], next_offset=1)
    assert (outcome.foreign, outcome.late) == (1, 1)
    assert here.state(0, "u").items == ["new"]
    counts = ledger_report(features_url)[TOPIC]["counts"]
    assert (counts["received"], counts["applied"], counts["late"]) == (2, 1, 1)


def test_events_applied_between_prepare_and_settle_belong_to_the_next_flush(users_of, event):
    features, foreign = users_of(), users_of()
    features.open(TOPIC, 0)
    foreign.open(TOPIC, 1)
    features.load(0, ["u"])
    first, second = (event(user_id="u", item_id=name, event_time_ms=at) for at, name in enumerate(("first", "second")))
    features.apply(0, "u", "first", "view", 0)
    one = features.prepare(PartitionFlush(topic=TOPIC, partition=0, next_offset=1, applied=[first]))
    features.apply(0, "u", "second", "view", 1)
    two = features.prepare(PartitionFlush(topic=TOPIC, partition=0, next_offset=2, applied=[second]))
    run(foreign, [event(user_id="u", item_id="foreign", event_time_ms=5)], partition=1, next_offset=1)
    features.write(one)
    assert features.read(["u"])["u"].items == ["first", "foreign"]
    features.settle(one)
    features.write(two)
    features.settle(two)
    assert features.read(["u"])["u"].items == ["first", "second", "foreign"]
    assert features.state(0, "u").items == ["first", "second", "foreign"]


def test_an_empty_flush_moves_the_ledger_alone(users_of, event):
    features = users_of()
    features.open(TOPIC, 0)
    outcome = features.flush(
        PartitionFlush(topic=TOPIC, partition=0, next_offset=9, counts={"received": 9, "rejected": 9})
    )
    assert outcome.entities == 0
    assert users_of().open(TOPIC, 0).next_offset == 9


def test_someone_who_was_only_shown_things_has_no_history_row(users_of, event):
    features = users_of()
    features.open(TOPIC, 0)
    run(features, [event(user_id="u", item_id="i", event_type="impression", event_time_ms=1)], next_offset=1)
    run(features, [event(user_id="u", item_id="j", event_type="impression", event_time_ms=2)], next_offset=2)
    state = users_of().read(["u"])["u"]
    assert (state.items, state.count_of("impression")) == ([], 2)


def test_a_state_must_be_loaded_and_its_partition_open(users_of, event):
    features = users_of()
    with pytest.raises(NotOpenError):
        features.apply(0, "u", "i", "view", 0)
    features.open(TOPIC, 0)
    with pytest.raises(NotLoadedError, match="'u'"):
        features.apply(0, "u", "i", "view", 0)
    with pytest.raises(NotLoadedError):
        features.flush(
            PartitionFlush(topic=TOPIC, partition=0, next_offset=1, applied=[event(user_id="u", item_id="i")])
        )


def test_another_clusters_ledger_says_nothing_about_this_ones_offsets(users_of, features_url, event):
    features = users_of()
    features.open(TOPIC, 0)
    run(features, [event(user_id="u", item_id="i")], next_offset=7)
    with UserFeatures(postgres_url=features_url, cluster_id="other", allowed_lateness_ms=0) as other:
        assert other.open(TOPIC, 0).next_offset is None
    assert set(ledger_report(features_url, "nowhere")) == set()
    assert ledger_report(features_url)[TOPIC]["counts"]["received"] == 1


def test_extreme_times_long_names_and_any_unicode_survive(users_of, event):
    events = [
        event(user_id="用户 ' \" \\ %s", item_id="🛒" * 256, event_time_ms=253_402_300_799_999),
        event(user_id="x" * 256, item_id="\ud7ff", event_time_ms=-62_135_596_800_000),
    ]
    features = users_of()
    features.open(TOPIC, 0)
    run(features, events, next_offset=2)
    states = users_of().read([one.user_id for one in events])
    for one in events:
        assert states[one.user_id].history() == [(one.item_id, one.event_time_ms, "view")]


def test_freshness_is_measured_from_broker_append_to_the_write(users_of, features_url, event):
    features = users_of()
    features.open(TOPIC, 0)
    now_ms = time.time_ns() // 1_000_000
    run(features, [event(user_id="u", item_id="i")], next_offset=1, appended_at_ms=[now_ms - 5_000] * 99 + [now_ms])
    figures = ledger_report(features_url)[TOPIC]["freshness_ms"]
    assert figures["events"] == 100
    assert 5_000 <= figures["p50"] <= 8_000


def test_what_a_ledger_stores_of_event_ids_stays_within_the_window(users_of, features_url, event):
    features = users_of(dedupe_window=100)
    features.open(TOPIC, 0)
    for number in range(20):
        ids = [f"{number}.{index}" for index in range(30)]
        features.flush(PartitionFlush(topic=TOPIC, partition=0, next_offset=number, event_ids=ids))
    with psycopg.connect(features_url) as connection:
        (stored,) = connection.execute("SELECT sum(event_count) FROM alluvium_ledger_events").fetchone()
    assert 100 <= stored < 100 + 2 * 30
    reopened = users_of(dedupe_window=100).open(TOPIC, 0)
    kept = [f"{number}.{index}" for number in range(20) for index in range(30)][-100:]
    assert all(reopened.seen(event_id) for event_id in kept)
    assert not reopened.seen("16.19")
