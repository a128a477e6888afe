"""Owners that die or stop at any moment, as processes and sessions do."""

import multiprocessing
import random
import threading
import time

import pyarrow.parquet as pq
import pytest

from feature_store.errors import StaleLedgerError, StoreUnavailableError
from feature_store.flush import PartitionFlush, UserFeatures
from feature_store.report import ledger_report

TOPIC = "clickstream.events"
RECORDS = 4_000
USERS = 30


def consume(url, folder, event, flushed):
    """Consume the log from where the ledger is to its end, in batches whose size nobody could repeat."""
    rng = random.Random()
    with UserFeatures(postgres_url=url, cluster_id="test", allowed_lateness_ms=0, history_dir=folder) as features:
        ledger = features.open(TOPIC, 0)
        while (begin := ledger.next_offset or 0) < RECORDS:
            end = min(begin + rng.randrange(1, 60), RECORDS)
            batch = [
                event(user_id=f"u{offset % USERS}", item_id=str(offset), event_time_ms=offset, event_id=f"e{offset}")
                for offset in range(begin, end)
            ]
            features.load(0, [one.user_id for one in batch])
            for one in batch:
                assert ledger.admit(one.event_id)
                assert features.apply(0, one.user_id, one.item_id, "view", one.event_time_ms) == "applied"
            features.flush(
                PartitionFlush(
                    topic=TOPIC,
                    partition=0,
                    first_offset=begin,
                    next_offset=end,
                    counts={"received": len(batch), "applied": len(batch)},
                    event_ids=[one.event_id for one in batch],
                    applied=batch,
                )
            )
            flushed.value += 1


def test_owners_killed_at_random_moments_leave_exact_features_and_a_history_without_gap(features_url, tmp_path, event):
    fork, rng = multiprocessing.get_context("fork"), random.Random(5)
    kills = 0
    while True:
        flushed = fork.Value("i", 0)
        owner = fork.Process(target=consume, args=(features_url, tmp_path / "history", event, flushed))
        owner.start()
        while owner.is_alive() and flushed.value < 10:
            time.sleep(0.001)
        if kills < 5:
            time.sleep(rng.random() * 0.05)
            owner.kill()
        owner.join()
        if owner.exitcode == 0:
            break
        kills += 1
        report = ledger_report(features_url, "test")[TOPIC]
        reached = report["next_offset"][0]
        assert report["counts"]["applied"] == reached
        with UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=0) as features:
            states = features.read([f"u{number}" for number in range(USERS)])
        for number, state in enumerate(states.values()):
            offsets = range(number, reached, USERS)
            assert state.count_of("view") == len(offsets)
            assert state.items == [str(offset) for offset in offsets[-50:]]
            assert state.last_event_ms == offsets[-1]
    assert kills == 5
    assert ledger_report(features_url, "test")[TOPIC]["next_offset"] == {0: RECORDS}
    ranges, counts = [], {}
    for path in (tmp_path / "history" / "user_activity").glob("*.parquet"):
        part = pq.ParquetFile(path).read()
        covers = part.schema.metadata
        ranges.append((int(covers[b"alluvium.first_offset"]), int(covers[b"alluvium.next_offset"])))
        for row in part.to_pylist():
            counts.setdefault(row["user_id"], set()).add(row["counts"][0])
    ranges.sort()
    assert [first for first, _ in ranges] == [0, *(following for _, following in ranges[:-1])]
    assert ranges[-1][1] == RECORDS
    assert max(counts["u0"]) == len(range(0, RECORDS, USERS))


def test_an_owner_stopped_in_mid_transaction_gives_way_and_changes_nothing_when_it_continues(
    features_url, event, monkeypatch
):
    def users():
        return UserFeatures(postgres_url=features_url, cluster_id="test", allowed_lateness_ms=0)

    with users() as stopped, users() as successor:
        stopped.open(TOPIC, 0)
        stopped._connection.execute("SET idle_in_transaction_session_timeout = '1s'")
        stopped.load(0, ["u"])
        stopped.apply(0, "u", "old", "view", 1)
        delta = PartitionFlush(topic=TOPIC, partition=0, next_offset=1, applied=[event(user_id="u", item_id="old")])
        inside, resume, failures = threading.Event(), threading.Event(), []
        true = stopped._ledgers.write

        def stop_here(*args, **kwargs):
            stamp = true(*args, **kwargs)
            inside.set()
            resume.wait()
            return stamp

        def flush():
            try:
                stopped.flush(delta)
            except StoreUnavailableError as error:
                failures.append(error)

        with monkeypatch.context() as patch:
            patch.setattr(stopped._ledgers, "write", stop_here)
            thread = threading.Thread(target=flush)
            thread.start()
            inside.wait()
            assert successor.open(TOPIC, 0).next_offset is None  # after a second: Postgres ended the stopped session
            successor.load(0, ["u"])
            successor.apply(0, "u", "new", "view", 2)
            successor.flush(
                PartitionFlush(topic=TOPIC, partition=0, next_offset=2, applied=[event(user_id="u", item_id="new")])
            )
            resume.set()
            thread.join()
        assert len(failures) == 1
        with pytest.raises(StaleLedgerError):
            stopped.flush(delta)
        assert successor.read(["u"])["u"].items == ["new"]
