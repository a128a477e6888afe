"""Feast's public calls and the fast path must see and leave the same rows."""

import datetime as dt
import random
import uuid

import pandas as pd
import psycopg
import pytest
from feast.infra.utils.postgres.postgres_config import ConnectionType
from psycopg import sql

from feature_store.apply import apply, close_store, drop, is_applied, open_store
from feature_store.decay import HALF_LIFE_NAMES, HALF_LIVES_MS, at
from feature_store.event_types import EVENT_TYPES
from feature_store.flush import ItemFeatures, PartitionFlush, UserFeatures
from feature_store.repo.definitions import ITEM_ACTIVITY, USER_ACTIVITY, USER_AFFINITY, USER_HISTORY
from streams.events import Interaction

USER_VIEWS = (USER_ACTIVITY, USER_HISTORY, USER_AFFINITY)
PACKED = {
    USER_ACTIVITY: ["decayed", "counts"],
    USER_HISTORY: ["items", "moments"],
    USER_AFFINITY: ["names", "weights"],
}


@pytest.fixture(scope="module")
def url(postgres_url, tmp_path_factory):
    name = f"contract_{uuid.uuid4().hex[:8]}"
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(name)))
    url = postgres_url.rsplit("/", 1)[0] + f"/{name}"
    apply(postgres_url=url, history_dir=tmp_path_factory.mktemp("history"))
    return url


@pytest.fixture(scope="module")
def store(url):
    store = open_store(postgres_url=url)
    yield store
    close_store(store)


@pytest.fixture(scope="module")
def written(url):
    """Users and items written by the fast path, and their states."""
    rng = random.Random(7)
    interactions = [
        Interaction(
            event_id=f"e{offset}",
            user_id=f"user {rng.randrange(12)}",
            item_id=f"item {rng.randrange(30)}",
            event_type=rng.choice((*EVENT_TYPES, "wishlist")),
            event_time_ms=1_700_000_000_000 + offset * 60_000,
            appended_at_ms=0,
            partition=0,
            offset=offset,
        )
        for offset in range(600)
    ]
    users = UserFeatures(
        postgres_url=url,
        cluster_id="contract",
        allowed_lateness_ms=0,
        describe=lambda item_id: ("Shoes" if item_id < "item 2" else None, f"Brand of {item_id}"),
    )
    items = ItemFeatures(postgres_url=url, cluster_id="contract")
    with users, items:
        for features, topic in ((users, "clickstream.events"), (items, "interactions.by_item")):
            features.open(topic, 0)
            features.load(0, [one.user_id if features is users else one.item_id for one in interactions])
        for one in interactions:
            assert users.apply(0, one.user_id, one.item_id, one.event_type, one.event_time_ms) == "applied"
            items.apply(0, one.item_id, one.event_type, one.event_time_ms)
        users.flush(PartitionFlush(topic="clickstream.events", partition=0, next_offset=600, applied=interactions))
        items.flush(
            PartitionFlush(
                topic="interactions.by_item", partition=0, next_offset=600, applied=interactions, sources={0: 599}
            )
        )
        yield (
            {user_id: users.state(0, user_id) for user_id in sorted({one.user_id for one in interactions})},
            {item_id: items.state(0, item_id) for item_id in sorted({one.item_id for one in interactions})},
        )


def online(store, features, key, ids):
    return store.get_online_features(features=features, entity_rows=[{key: one} for one in ids]).to_dict()


def test_feast_reads_every_packed_feature_that_the_fast_path_wrote(store, written):
    users, _ = written
    references = [f"{view}:{feature}" for view, features in PACKED.items() for feature in features]
    found = online(store, references, "user_id", users)
    assert found["user_id"] == list(users)
    for index, state in enumerate(users.values()):
        assert found["decayed"][index] == list(state.decayed)
        assert found["counts"][index] == list(state.counts)
        assert found["items"][index] == state.items
        assert found["moments"][index] == list(state.moments)
        assert found["names"][index] == list(state.affinity)
        assert found["weights"][index] == [number for entry in state.affinity.values() for number in entry]


def test_on_demand_views_name_what_is_packed(store, written):
    users, items = written
    for service, key, states in (("user_features", "user_id", users), ("item_features", "item_id", items)):
        found = online(store, store.get_feature_service(service), key, states)
        for index, state in enumerate(states.values()):
            assert found["last_event_ms"][index] == state.last_event_ms
            for code, name in enumerate(EVENT_TYPES):
                assert found[f"{name}_count"][index] == state.count_of(name)
                for half, (half_life, half_life_ms) in enumerate(zip(HALF_LIFE_NAMES, HALF_LIVES_MS, strict=True)):
                    value, last_ms = state.decayed[4 * code + half], state.decayed[4 * code + 3]
                    expected = at(value, last_ms, state.last_event_ms, half_life_ms)
                    assert found[f"{name}_{half_life}"][index] == pytest.approx(expected, rel=1e-12)
    found = online(store, store.get_feature_service("user_features"), "user_id", users)
    for index, state in enumerate(users.values()):
        history = zip(found["item_ids"][index], found["times_ms"][index], found["event_types"][index], strict=True)
        assert list(history) == state.history()


def test_rates_are_smoothed_and_lie_between_zero_and_one(store, written):
    _, items = written
    found = online(store, ["item_counters:ctr", "item_counters:cvr", "item_counters:click_14d"], "item_id", items)
    for index, state in enumerate(items.values()):
        clicks = found["click_14d"][index]
        shown = at(state.decayed[20 + 2], state.decayed[20 + 3], state.last_event_ms, HALF_LIVES_MS[2])
        assert found["ctr"][index] == pytest.approx((clicks + 1.0) / (max(shown, clicks) + 20.0))
        assert 0.0 < found["cvr"][index] < 1.0


def test_whoever_was_never_seen_has_zeros_and_an_empty_history(store):
    found = online(store, store.get_feature_service("user_features"), "user_id", ["nobody"])
    assert (found["purchase_count"], found["purchase_14d"], found["item_ids"]) == ([0], [0.0], [[]])
    found = online(store, store.get_feature_service("item_features"), "item_id", ["nothing"])
    assert (found["ctr"], found["cvr"]) == ([pytest.approx(0.05)], [pytest.approx(0.02)])


def test_the_fast_path_reads_what_feasts_public_write_left(store, url, written):
    users, _ = written
    state = next(iter(users.values()))
    now = dt.datetime.now(dt.UTC)
    frames = {
        USER_ACTIVITY: {"decayed": [list(state.decayed)], "counts": [list(state.counts)]},
        USER_HISTORY: {"items": [state.items], "moments": [list(state.moments)]},
        USER_AFFINITY: {
            "names": [list(state.affinity)],
            "weights": [[number for entry in state.affinity.values() for number in entry]],
        },
    }
    for view, columns in frames.items():
        frame = pd.DataFrame({"user_id": ["pushed"], "event_timestamp": [now], "created": [now], **columns})
        store.push(f"{view}_push", frame)
    with UserFeatures(postgres_url=url, cluster_id="contract", allowed_lateness_ms=0) as features:
        read = features.read(["pushed"])["pushed"]
    for name in ("counts", "decayed", "items", "moments", "affinity"):
        assert getattr(read, name) == getattr(state, name), name


def test_a_row_of_both_paths_is_the_same_row(store, url, written):
    users, _ = written
    user_id, state = next(iter(users.items()))
    moment = dt.datetime.fromtimestamp(state.last_event_ms / 1000, dt.UTC)
    frame = pd.DataFrame(
        {
            "user_id": ["twin"],
            "event_timestamp": [moment],
            "created": [moment],
            "decayed": [list(state.decayed)],
            "counts": [list(state.counts)],
        }
    )
    store.push(f"{USER_ACTIVITY}_push", frame)
    with UserFeatures(postgres_url=url, cluster_id="contract", allowed_lateness_ms=0) as features:
        keys = [features._tables.codec.key_of(name) for name in (user_id, "twin")]
    with psycopg.connect(url) as connection:
        rows = [
            connection.execute(
                "SELECT feature_name, value, value_text, vector_value, event_ts FROM alluvium_user_activity "
                "WHERE entity_key = %s ORDER BY feature_name",
                (key,),
            ).fetchall()
            for key in keys
        ]
    assert rows[0] == rows[1]
    assert [row[0] for row in rows[0]] == ["counts", "decayed"]


def test_a_public_write_is_seen_as_foreign_and_not_overwritten(store, url):
    one = Interaction(
        event_id="e",
        user_id="shared",
        item_id="i",
        event_type="view",
        event_time_ms=1_700_000_000_000,
        appended_at_ms=0,
        partition=1,
        offset=0,
    )
    with UserFeatures(postgres_url=url, cluster_id="contract", allowed_lateness_ms=10**12) as features:
        features.open("clickstream.events", 1)
        for turn in (1, 2):
            features.load(1, ["shared"])
            features.apply(1, "shared", "i", "view", one.event_time_ms)
            delta = PartitionFlush(topic="clickstream.events", partition=1, next_offset=turn, applied=[one])
            if turn == 2:
                counts = list(features.read(["shared"])["shared"].counts)
                counts[0] = 41
                moment = dt.datetime.now(dt.UTC)
                activity = {"decayed": [[0.0] * 32], "counts": [counts]}
                store.push(
                    f"{USER_ACTIVITY}_push",
                    pd.DataFrame({"user_id": ["shared"], "event_timestamp": [moment], "created": [moment], **activity}),
                )
            outcome = features.flush(delta)
        assert outcome.foreign == 1
        assert features.read(["shared"])["shared"].count_of("view") == 42


def test_an_error_gives_its_connection_back_clean(store, written):
    users, _ = written
    online_store, config = store._get_provider().online_store, store.config
    limit = config.online_store.max_conn
    for _ in range(2 * limit):
        with pytest.raises(psycopg.errors.UndefinedTable), online_store._get_conn(config) as connection:
            connection.execute("SELECT * FROM no_such_table")
    assert online_store._conn_pool.get_stats()["pool_available"] >= 1
    assert online(store, ["user_activity:counts"], "user_id", users)["counts"][0] is not None


def test_a_connection_that_broke_is_replaced(store, url, written):
    users, _ = written
    online(store, ["user_activity:counts"], "user_id", users)
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE pid <> pg_backend_pid() AND datname = current_database() AND query LIKE '%user_activity%'"
        )
    for _ in range(3):
        try:
            found = online(store, ["user_activity:counts"], "user_id", users)
            break
        except psycopg.OperationalError:
            continue
    assert found["counts"][0] is not None


async def test_asynchronous_reads_see_the_same_and_give_their_connections_back(url, written):
    users, _ = written
    store = open_store(postgres_url=url)
    references = [f"{view}:{feature}" for view, features in PACKED.items() for feature in features]
    rows = [{"user_id": user_id} for user_id in users]
    try:
        found = (await store.get_online_features_async(features=references, entity_rows=rows)).to_dict()
        assert found == online(store, references, "user_id", users)
        online_store, config = store._get_provider().online_store, store.config
        for _ in range(2 * config.online_store.max_conn):
            with pytest.raises(psycopg.errors.UndefinedTable):
                async with online_store._get_conn_async(config) as connection:
                    await connection.execute("SELECT * FROM no_such_table")
        assert (await store.get_online_features_async(features=references, entity_rows=rows)).to_dict() == found
    finally:
        await store.close()
        close_store(store)


@pytest.mark.parametrize("kind", ["singleton", "pool"])
def test_a_store_of_either_kind_of_connection_recovers_after_an_error(url, written, kind):
    users, _ = written
    store = open_store(postgres_url=url)
    store.config.online_store.conn_type = ConnectionType(kind)
    try:
        online_store = store._get_provider().online_store
        for harm in ("SELECT * FROM no_such_table", "SELECT pg_terminate_backend(pg_backend_pid())"):
            with pytest.raises(psycopg.Error), online_store._get_conn(store.config) as connection:
                connection.execute(harm)
            found = online(store, ["user_activity:counts"], "user_id", users)
            assert found["counts"][0] == list(next(iter(users.values())).counts)
    finally:
        close_store(store)


def test_applying_again_changes_nothing_and_dropping_leaves_no_table(postgres_url, tmp_path):
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE contract_drop")
    url = postgres_url.rsplit("/", 1)[0] + "/contract_drop"
    assert not is_applied(postgres_url=url)
    first = apply(postgres_url=url, history_dir=tmp_path)
    assert apply(postgres_url=url, history_dir=tmp_path) == first
    assert is_applied(postgres_url=url)
    assert {*USER_VIEWS, ITEM_ACTIVITY, "user_counters", "item_counters", "user_features"} <= set(first)
    drop(postgres_url=url)
    assert not is_applied(postgres_url=url)
    with psycopg.connect(url) as connection:
        left = connection.execute("SELECT tablename FROM pg_tables WHERE tablename LIKE 'alluvium%'").fetchall()
    assert left == []
