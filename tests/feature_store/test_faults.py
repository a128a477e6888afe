import threading
import time

import psycopg
import pytest

from feature_store.errors import FeatureSettingError, NotAppliedError, StoreUnavailableError
from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.report import ledger_report

TOPIC = "clickstream.events"


@pytest.fixture
def features(features_url):
    with UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=0) as users:
        users.open(TOPIC, 0)
        yield users


def delta_of(features, event, *, users, next_offset):
    events = [event(user_id=f"u{number}", item_id="i", event_time_ms=next_offset) for number in range(users)]
    features.load(0, [one.user_id for one in events])
    for one in events:
        features.apply(0, one.user_id, one.item_id, one.event_type, one.event_time_ms)
    return PartitionFlush(
        topic=TOPIC, partition=0, next_offset=next_offset, counts={"received": users, "applied": users}, applied=events
    )


def kill_backends(url):
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'alluvium-features' AND datname = current_database()"
        )


def counts_of(url):
    return ledger_report(url)[TOPIC]["counts"]["applied"]


def test_a_lost_connection_is_said_with_a_remedy_and_the_flush_can_be_repeated(features, features_url, event):
    features.flush(delta_of(features, event, users=3, next_offset=1))
    delta = delta_of(features, event, users=3, next_offset=2)
    kill_backends(features_url)
    with pytest.raises(StoreUnavailableError, match="unavailable") as caught:
        features.flush(delta)
    assert caught.value.retry_after_s > 0
    assert counts_of(features_url) == 3
    features.flush(delta)
    assert counts_of(features_url) == 6
    assert features.read(["u0"])["u0"].count_of("view") == 2


def test_a_backend_killed_at_every_step_of_the_transaction_leaves_nothing_half_written(
    features, features_url, event, monkeypatch
):
    features.flush(delta_of(features, event, users=5, next_offset=1))
    steps = [
        (features._ledgers, "lock"),
        (features._ledgers, "erasures_since"),
        (features._tables, "write"),
        (features._ledgers, "append_events"),
        (features._ledgers, "write"),
    ]
    for turn, (owner, name) in enumerate(steps, start=2):
        delta = delta_of(features, event, users=5, next_offset=turn)
        delta.event_ids = [f"e{turn}"]
        true = getattr(owner, name)

        def kill_after(*args, _true=true, **kwargs):
            result = _true(*args, **kwargs)
            kill_backends(features_url)
            return result

        with monkeypatch.context() as patch:
            patch.setattr(owner, name, kill_after)
            with pytest.raises(StoreUnavailableError):
                features.flush(delta)
        states = features.read(["u0", "u4"])
        assert [states[user_id].count_of("view") for user_id in states] == [turn - 1, turn - 1], name
        assert counts_of(features_url) == 5 * (turn - 1)
        features.flush(delta)
        assert counts_of(features_url) == 5 * turn


def test_a_commit_whose_answer_was_lost_is_not_applied_twice(features, features_url, event, monkeypatch):
    features.flush(delta_of(features, event, users=3, next_offset=1))
    delta = delta_of(features, event, users=3, next_offset=2)
    true = features._transaction.write

    def lose_the_answer(connection, prepared):
        true(connection, prepared)
        raise psycopg.OperationalError("server closed the connection unexpectedly")

    for state in (features.state(0, f"u{number}") for number in range(3)):
        assert state.stamp is not None
    before = {number: features.state(0, f"u{number}").stamp for number in range(3)}
    ledger = features.ledger(0)
    with monkeypatch.context() as patch:
        patch.setattr(features._transaction, "write", lose_the_answer)
        with pytest.raises(StoreUnavailableError):
            features.flush(delta)
    # what the process would know, had the answer not come
    ledger.next_offset, ledger.counts["applied"] = 1, 3
    for number, stamp in before.items():
        features.state(0, f"u{number}").stamp = stamp
    outcome = features.flush(delta)
    assert outcome.repeated
    assert counts_of(features_url) == 6
    assert features.ledger(0).counts["applied"] == 6
    outcome = features.flush(delta_of(features, event, users=3, next_offset=3))
    assert outcome.foreign == 0
    assert features.read(["u1"])["u1"].count_of("view") == 3


def test_postgres_that_is_not_there_is_unavailable():
    users = UserFeatures(postgres_url="postgresql://nobody@127.0.0.1:1/none", cluster_id="test", allowed_lateness_ms=0)
    with pytest.raises(StoreUnavailableError, match="try again in 1 s"):
        users.open(TOPIC, 0)


def test_a_database_without_the_features_says_what_to_run(database_url):
    users = UserFeatures(postgres_url=database_url, cluster_id="test", allowed_lateness_ms=0)
    with pytest.raises(NotAppliedError, match="features apply"):
        users.open(TOPIC, 0)
    users.close_all()
    with pytest.raises(NotAppliedError):
        ledger_report(database_url)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("allowed_lateness_ms", -1),
        ("history_length", 0),
        ("cache_users", 0),
        ("dedupe_window", 0),
        ("project", "No-No"),
    ],
)
def test_a_setting_out_of_bounds_is_refused_by_name(setting, value):
    settings = {"allowed_lateness_ms": 0, setting: value}
    with pytest.raises(FeatureSettingError, match=str(value)):
        UserFeatures(postgres_url="", cluster_id="test", **settings)


def test_two_writers_of_the_same_people_in_parallel_neither_deadlock_nor_lose_an_event(features_url, event):
    def work(partition):
        with UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=10**9) as users:
            users.open(TOPIC, partition)
            for turn in range(1, 11):
                events = [
                    event(user_id=f"u{number}", item_id=f"{partition}.{turn}", event_time_ms=turn)
                    for number in range(20)
                ]
                users.load(partition, [one.user_id for one in events])
                for one in events:
                    users.apply(partition, one.user_id, one.item_id, one.event_type, one.event_time_ms)
                delta = PartitionFlush(topic=TOPIC, partition=partition, next_offset=turn, applied=events)
                while True:
                    try:
                        users.flush(delta)
                        break
                    except StoreUnavailableError as error:
                        time.sleep(error.retry_after_s)

    threads = [threading.Thread(target=work, args=(partition,)) for partition in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=0) as users:
        states = users.read([f"u{number}" for number in range(20)])
    assert {state.count_of("view") for state in states.values()} == {20}


def test_a_stopped_owner_in_mid_transaction_does_not_hold_its_successor_up_for_good(features, features_url, event):
    (timeout,) = features._connection.execute("SHOW idle_in_transaction_session_timeout").fetchone()
    assert timeout == "10s"
    (timeout,) = features._connection.execute("SHOW lock_timeout").fetchone()
    assert timeout == "30s"
