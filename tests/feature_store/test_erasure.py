import psycopg
import pytest

from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.report import ledger_report

TOPIC = "clickstream.events"
DAY_MS = 24 * 3_600_000


@pytest.fixture
def users_of(features_url):
    opened = []

    def make(**settings):
        opened.append(
            UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=10 * DAY_MS, **settings)
        )
        return opened[-1]

    yield make
    for features in opened:
        features.close_all()


def flush_of(features, events, *, next_offset, partition=0, erasures=()):
    features.load(partition, [one.user_id for one in events])
    counts = {"received": len(events), "applied": 0, "late": 0, "erased": 0}
    applied = []
    for one in events:
        outcome = features.apply(partition, one.user_id, one.item_id, one.event_type, one.event_time_ms)
        counts[outcome] += 1
        if outcome == "applied":
            applied.append(one)
    return PartitionFlush(
        topic=TOPIC, partition=partition, next_offset=next_offset, counts=counts, applied=applied, erasures=erasures
    )


def rows_of(url):
    with psycopg.connect(url) as connection:
        views = ("user_activity", "user_history", "user_affinity")
        return {view: connection.execute(f"SELECT count(*) FROM alluvium_{view}").fetchone()[0] for view in views}


def test_an_erased_person_has_no_row_in_any_view_and_others_keep_theirs(users_of, features_url, event):
    features = users_of(describe=lambda _: ("Shoes", "Acme"))
    features.open(TOPIC, 0)
    events = [event(user_id=user_id, item_id="i", event_time_ms=DAY_MS) for user_id in ("gone", "kept")]
    features.flush(flush_of(features, events, next_offset=2))
    assert rows_of(features_url) == {"user_activity": 4, "user_history": 4, "user_affinity": 4}
    assert features.erase("gone", 2 * DAY_MS, TOPIC, 0)
    assert rows_of(features_url) == {"user_activity": 2, "user_history": 2, "user_affinity": 2}
    assert features.state(0, "gone").events == 0
    assert features.state(0, "kept").events == 1


def test_events_up_to_the_request_count_as_erased_also_after_a_restart(users_of, event):
    features = users_of()
    features.open(TOPIC, 0)
    features.erase("u", 2 * DAY_MS, TOPIC, 0)
    events = [event(user_id="u", item_id=str(day), event_time_ms=day * DAY_MS) for day in (1, 2, 3)]
    for owner in (features, users_of()):
        owner.open(TOPIC, 0)
        delta = flush_of(owner, events, next_offset=3)
        assert delta.counts == {"received": 3, "applied": 1, "late": 0, "erased": 2}


def test_a_repeated_request_keeps_what_came_after_it(users_of, event):
    features = users_of()
    features.open(TOPIC, 0)
    features.erase("u", DAY_MS, TOPIC, 0)
    features.flush(flush_of(features, [event(user_id="u", item_id="new", event_time_ms=2 * DAY_MS)], next_offset=1))
    assert not features.erase("u", DAY_MS, TOPIC, 0)
    assert features.read(["u"])["u"].items == ["new"]
    assert features.erase("u", 3 * DAY_MS, TOPIC, 0)
    assert features.read(["u"])["u"].items == []


def test_events_in_flight_when_another_process_erases_never_return(users_of, features_url, event):
    features, elsewhere = users_of(), users_of()
    features.open(TOPIC, 0)
    features.flush(flush_of(features, [event(user_id="known", item_id="i", event_time_ms=1)], next_offset=1))
    events = [event(user_id=user_id, item_id="i", event_time_ms=1) for user_id in ("known", "new", "other")]
    delta = flush_of(features, events, next_offset=4)
    assert delta.counts["applied"] == 3
    for user_id in ("known", "new"):
        elsewhere.erase(user_id, DAY_MS, TOPIC, 0)
    outcome = features.flush(delta)
    assert (outcome.erased, outcome.foreign) == (2, 0)
    assert rows_of(features_url)["user_activity"] == 2
    assert features.state(0, "known").events == 0
    counts = ledger_report(features_url)[TOPIC]["counts"]
    assert (counts["received"], counts["applied"], counts["erased"]) == (4, 2, 2)


def test_an_erasure_that_was_learned_of_before_the_person_came_back_still_holds(users_of, features_url, event):
    features, elsewhere = users_of(), users_of()
    features.open(TOPIC, 0)
    features.load(0, ["u"])
    elsewhere.erase("u", DAY_MS, TOPIC, 0)
    features.flush(flush_of(features, [event(user_id="other", item_id="i", event_time_ms=1)], next_offset=1))
    outcome = features.flush(flush_of(features, [event(user_id="u", item_id="i", event_time_ms=1)], next_offset=2))
    assert outcome.erased == 1
    assert rows_of(features_url)["user_activity"] == 2
    outcome = features.flush(
        flush_of(features, [event(user_id="u", item_id="i", event_time_ms=2 * DAY_MS)], next_offset=3)
    )
    assert (outcome.erased, outcome.foreign) == (0, 0)
    assert features.read(["u"])["u"].events == 1


def test_an_erasure_in_the_flush_itself_comes_before_its_events(users_of, features_url, event):
    features = users_of()
    features.open(TOPIC, 0)
    features.flush(flush_of(features, [event(user_id="u", item_id="old", event_time_ms=1)], next_offset=1))
    events = [event(user_id="u", item_id=name, event_time_ms=at) for name, at in (("before", 2), ("after", 2 * DAY_MS))]
    outcome = features.flush(flush_of(features, events, next_offset=3, erasures=[("u", DAY_MS), ("v", DAY_MS)]))
    assert outcome.erased == 1
    assert features.read(["u"])["u"].items == ["after"]
    assert features.state(0, "u").items == ["after"]
    assert features.read(["v"])["v"].erased_until_ms == DAY_MS


def test_erasing_in_mid_batch_is_sorted_out_by_the_next_flush(users_of, event):
    features = users_of()
    features.open(TOPIC, 0)
    delta = flush_of(features, [event(user_id="u", item_id="i", event_time_ms=1)], next_offset=1)
    features.erase("u", DAY_MS, TOPIC, 0)
    assert features.state(0, "u").items == []
    assert features.flush(delta).erased == 1
    assert features.read(["u"])["u"].events == 0


def test_the_owner_forgets_a_person_whom_another_worker_erased_first(users_of, event):
    owner, other = users_of(), users_of()
    owner.open(TOPIC, 0)
    owner.flush(flush_of(owner, [event(user_id="u", item_id="i", event_time_ms=1)], next_offset=1))
    assert other.erase("u", DAY_MS, TOPIC, 0)
    assert owner.state(0, "u").items == ["i"]
    assert not owner.erase("u", DAY_MS, TOPIC, 0)
    assert owner.state(0, "u").items == []
    assert owner.apply(0, "u", "j", "view", 2) == "erased"
