import datetime as dt
import json
import shutil

import pandas as pd
import pyarrow.parquet as pq
import pytest

from feature_store.apply import apply, close_store, open_store
from feature_store.errors import StoreUnavailableError
from feature_store.flush import ItemFeatures, PartitionFlush, UserFeatures
from feature_store.journal import batches

TOPIC = "clickstream.events"
HOUR_MS = 3_600_000
START_MS = 1_700_000_000_000


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "history"


@pytest.fixture
def users_of(features_url, folder):
    opened = []

    def make():
        opened.append(
            UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=HOUR_MS, history_dir=folder)
        )
        return opened[-1]

    yield make
    for features in opened:
        features.close_all()


def flush(features, events, *, first, partition=0, erasures=()):
    features.load(partition, [one.user_id for one in events])
    for one in events:
        assert features.apply(partition, one.user_id, one.item_id, one.event_type, one.event_time_ms) == "applied"
    features.flush(
        PartitionFlush(
            topic=TOPIC,
            partition=partition,
            first_offset=first,
            next_offset=first + len(events),
            applied=events,
            erasures=erasures,
        )
    )


def rows_of(folder, view="user_activity"):
    """(user, event time in ms, lifetime views) of every row, in order of time."""
    rows = [
        (row["user_id"], round(row["event_timestamp"].timestamp() * 1000), row.get("counts", [0])[0])
        for path in (folder / view).glob("*.parquet")
        for row in pq.ParquetFile(path).read().to_pylist()
    ]
    return sorted(rows, key=lambda row: row[1:])


def test_each_flush_leaves_a_row_per_user_once_its_journal_is_a_part(users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    for turn in range(3):
        at_ms = START_MS + turn * HOUR_MS
        flush(features, [event(user_id="u", item_id="i", event_time_ms=at_ms)] * 2, first=2 * turn)
    assert rows_of(folder) == []
    features.close(TOPIC, 0)
    assert rows_of(folder) == [("u", START_MS + turn * HOUR_MS, 2 * turn + 2) for turn in range(3)]
    (part,) = (folder / "user_activity").glob("*.parquet")
    metadata = pq.ParquetFile(part).schema_arrow.metadata
    assert (metadata[b"alluvium.first_offset"], metadata[b"alluvium.next_offset"]) == (b"0", b"6")
    assert list((folder / "_journal").glob("*.arrows")) == []


def test_what_a_killed_owner_left_in_its_journal_is_in_the_history_once(users_of, folder, event):
    killed = users_of()
    killed.open(TOPIC, 0)
    flush(killed, [event(user_id="u", item_id="a", event_time_ms=START_MS)], first=0)
    # archived, and killed before the commit: the successor is given these events again
    killed.load(0, ["u"])
    killed.apply(0, "u", "b", "view", START_MS + 1)
    delta = PartitionFlush(
        topic=TOPIC, partition=0, first_offset=1, next_offset=2, applied=[event(user_id="u", item_id="b")]
    )
    killed._history.append(killed.prepare(delta))

    successor = users_of()
    assert successor.open(TOPIC, 0).next_offset == 1
    again = [event(user_id="u", item_id=name, event_time_ms=START_MS + at) for at, name in ((1, "b"), (2, "c"))]
    flush(successor, again, first=1)
    successor.close_all()
    assert rows_of(folder) == [("u", START_MS, 1), ("u", START_MS + 1, 2), ("u", START_MS + 2, 3)]


def test_a_flush_that_the_history_covers_already_is_not_written_twice(users_of, folder, event, monkeypatch):
    features = users_of()
    features.open(TOPIC, 0)
    with monkeypatch.context() as patch:
        patch.setattr(features._ledgers, "write", _gone)
        with pytest.raises(StoreUnavailableError):
            flush(features, [event(user_id="u", item_id="a", event_time_ms=START_MS)], first=0)
    features.close(TOPIC, 0)
    features.open(TOPIC, 0)
    flush(features, [event(user_id="u", item_id="a", event_time_ms=START_MS)], first=0)
    features.close(TOPIC, 0)
    assert rows_of(folder) == [("u", START_MS, 1)]


def _gone(*_args, **_kwargs):
    import psycopg

    raise psycopg.OperationalError("gone")


def test_a_journal_cut_short_gives_every_whole_batch(users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    for turn in range(3):
        flush(features, [event(user_id="u", item_id="a", event_time_ms=START_MS + turn)], first=turn)
    (path,) = (folder / "_journal").glob("*.arrows")
    whole = list(batches(path))
    assert [(first, following) for _, first, following in whole] == [(0, 1), (1, 2), (2, 3)]
    data = path.read_bytes()
    path.write_bytes(data[:-20])
    assert len(list(batches(path))) == 2
    path.write_bytes(b"")
    assert list(batches(path)) == []
    path.write_bytes(data)


def test_an_owner_whose_journal_was_taken_over_begins_another(users_of, folder, event):
    paused, successor = users_of(), users_of()
    paused.open(TOPIC, 0)
    flush(paused, [event(user_id="u", item_id="a", event_time_ms=START_MS)], first=0)
    successor.open(TOPIC, 0)
    flush(paused, [event(user_id="u", item_id="b", event_time_ms=START_MS + 1)], first=1)
    successor.close(TOPIC, 0)
    successor.open(TOPIC, 0)
    successor.close_all()
    assert rows_of(folder) == [("u", START_MS, 1), ("u", START_MS + 1, 2)]


def test_another_cluster_counts_offsets_of_its_own(features_url, users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    flush(features, [event(user_id="u", item_id="a", event_time_ms=START_MS)], first=0)
    features.close_all()
    with UserFeatures(
        postgres_url=features_url, cluster_id="other", allowed_lateness_ms=HOUR_MS, history_dir=folder
    ) as other:
        other.open(TOPIC, 0)
        flush(other, [event(user_id="u", item_id="b", event_time_ms=START_MS + 1)], first=0)
    assert rows_of(folder) == [("u", START_MS, 1), ("u", START_MS + 1, 2)]


def test_erasing_a_person_leaves_no_trace_in_any_part_and_everyone_else_in_theirs(users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    pair = [event(user_id=user_id, item_id="secret", event_time_ms=START_MS) for user_id in ("gone", "kept")]
    flush(features, pair, first=0)
    features._history.roll()
    flush(features, pair, first=2)  # in the journal
    assert features.erase("gone", START_MS + HOUR_MS, TOPIC, 0)
    features._history.settle()
    for view in ("user_activity", "user_history"):
        assert {user_id for user_id, *_ in rows_of(folder, view)} == {"kept"}
        assert len(rows_of(folder, view)) == 2
    flush(features, [event(user_id="gone", item_id="new", event_time_ms=START_MS + 2 * HOUR_MS)], first=4)
    features.erase("gone", START_MS + HOUR_MS, TOPIC, 0)  # delivered again
    features.close_all()
    assert [row for row in rows_of(folder) if row[0] == "gone"] == [("gone", START_MS + 2 * HOUR_MS, 1)]


def test_an_erasure_cut_short_is_taken_up_by_the_next_owner(users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    flush(features, [event(user_id="gone", item_id="i", event_time_ms=START_MS)], first=0)
    features._history.roll()
    parts = {path: path.read_bytes() for path in (folder / "user_activity").glob("*.parquet")}
    features.erase("gone", START_MS, TOPIC, 0)
    features.close_all()
    assert rows_of(folder) == []
    notes = folder / "_journal" / "erasures.json"
    stored = json.loads(notes.read_text())
    stored["gone"]["done"] = False  # as it was just before the rewrite
    notes.write_text(json.dumps(stored))
    for path, data in parts.items():
        path.write_bytes(data)
    assert rows_of(folder) != []
    successor = users_of()
    successor.open(TOPIC, 0)
    successor.close_all()
    assert rows_of(folder) == []


def test_an_erasure_inside_a_flush_reaches_the_history(users_of, folder, event):
    features = users_of()
    features.open(TOPIC, 0)
    flush(features, [event(user_id="gone", item_id="i", event_time_ms=START_MS)], first=0)
    features._history.roll()
    other = [event(user_id="kept", item_id="i", event_time_ms=START_MS)]
    flush(features, other, first=1, erasures=[("gone", START_MS + 1)])
    features.close_all()
    assert rows_of(folder) == [("kept", START_MS, 1)]


def test_feast_joins_the_state_as_it_was_at_the_time_asked_for(database_url, folder, event):
    apply(postgres_url=database_url, history_dir=folder)
    names = {"postgres_url": database_url, "cluster_id": "test", "history_dir": folder}
    days = [START_MS + day * 24 * HOUR_MS for day in range(3)]
    with UserFeatures(allowed_lateness_ms=HOUR_MS, **names) as users, ItemFeatures(**names) as items:
        users.open(TOPIC, 0)
        items.open("interactions.by_item", 0)
        for turn, at_ms in enumerate(days):
            one = event(user_id="u", item_id=f"i{turn}", event_type="purchase", event_time_ms=at_ms)
            flush(users, [one], first=turn)
            items.load(0, ["i"])
            items.apply(0, "i", "view", at_ms)
            items.flush(
                PartitionFlush(
                    topic="interactions.by_item",
                    partition=0,
                    first_offset=turn,
                    next_offset=turn + 1,
                    applied=[event(user_id="u", item_id="i", event_time_ms=at_ms)],
                )
            )
    store = open_store(postgres_url=database_url)
    try:
        asked = pd.DataFrame(
            {
                "user_id": "u",
                "item_id": "i",
                "event_timestamp": [dt.datetime.fromtimestamp(ms / 1000 + 3600, dt.UTC) for ms in days],
            }
        )
        features = ["user_activity:counts", "user_history:items", "item_activity:counts"]
        joined = store.get_historical_features(asked, features, full_feature_names=True).to_df()
    finally:
        close_store(store)
    joined = joined.sort_values("event_timestamp")
    assert [list(items) for items in joined["user_history__items"]] == [["i0"], ["i0", "i1"], ["i0", "i1", "i2"]]
    assert [counts[3] for counts in joined["user_activity__counts"]] == [1, 2, 3]
    assert [counts[0] for counts in joined["item_activity__counts"]] == [1, 2, 3]
    shutil.rmtree(folder)
