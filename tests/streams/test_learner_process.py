"""The learner process's parts with the Kafka, Postgres and disk they stand on."""

import asyncio
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psycopg
import pytest

from learners.errors import RoundFailedError
from learners.items.catalog import Catalog
from learners.items.encoder import HashEncoder
from learners.model import ModelConfig
from learners.rounds.material import RoundConfig, RoundInput
from streams.batches import RecordBatch
from streams.clients import KafkaConnection
from streams.errors import UnknownTopicError
from streams.events import CatalogItem, Erasure
from streams.learning.announcements import Announcer
from streams.learning.encoding import Encoding
from streams.learning.errors import DatabaseUnavailableError, LearnerBusyError, LockLostError
from streams.learning.feeds import Feed, first_offsets, live_keys
from streams.learning.inbox import Inbox
from streams.learning.knowledge import apply_catalogue, read_erasures
from streams.learning.lock import DeploymentLock
from streams.learning.position import PendingRound
from streams.learning.round_records import RoundRecords, read_rounds
from streams.learning.rounds import Rounds
from streams.publisher import Publisher
from streams.topics import EXPERTS_UPDATES
from tests.brokers import Broker, EmbeddedBroker
from tests.reading import all_batches

NOWHERE = "postgresql://nobody@127.0.0.1:1/nothing"
PENDING = PendingRound(number=1, key="a-1", trigger={"kind": "count"}, triggered_at_ms=5, interactions=8_000)


def batch(*records: tuple[bytes | None, bytes | None], topic: str = "t") -> RecordBatch:
    keys, values = zip(*records, strict=True)
    count = len(records)
    return RecordBatch(
        topic=topic,
        partition=0,
        offsets=list(range(count)),
        keys=list(keys),
        values=list(values),
        timestamps_ms=[0] * count,
    )


# ---- the lock


def test_one_learner_holds_the_lock_until_its_connection_ends(database_url: str) -> None:
    first, second = DeploymentLock(database_url), DeploymentLock(database_url)
    first.acquire(wait_s=0)
    first.check()
    with pytest.raises(LearnerBusyError, match="expected one learner per deployment"):
        second.acquire(wait_s=0.3)
    first.release()
    second.acquire(wait_s=30)
    second.release()


def test_a_lock_whose_connection_was_cut_is_lost(database_url: str) -> None:
    lock = DeploymentLock(database_url)
    lock.acquire(wait_s=0)
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'alluvium-learner-lock'"
        )
    with pytest.raises(LockLostError):
        lock.check()
    lock.release()
    with pytest.raises(LockLostError, match="never taken"):
        lock.check()


def test_a_database_that_does_not_answer_says_when_to_try_again() -> None:
    with pytest.raises(DatabaseUnavailableError) as raised:
        DeploymentLock(NOWHERE).acquire(wait_s=0)
    assert raised.value.retry_after_s > 0
    with pytest.raises(DatabaseUnavailableError):
        RoundRecords(NOWHERE).prepare()


# ---- records of rounds


def test_every_round_is_kept_with_its_evidence_and_noting_it_again_replaces_what_was_known(database_url: str) -> None:
    assert read_rounds(database_url) == []
    records = RoundRecords(database_url)
    records.prepare()
    records.prepare()
    records.note(PENDING, "running")
    records.note(PENDING, "refused", verdict={"evidence": {"loss": float("nan")}}, finished_at_ms=9)
    [found] = read_rounds(database_url)
    assert (found["key"], found["outcome"], found["trigger"]) == ("a-1", "refused", {"kind": "count"})
    assert (found["verdict"], found["version"], found["finished_at_ms"]) == ({"evidence": {"loss": None}}, None, 9)


# ---- rounds


def small_round() -> RoundInput:
    config = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=8, spare_rows=4)
    rows = 40
    tokens = np.tile(np.array([0, 1, 2, 3, 4], np.int32), (rows, 1))
    return RoundInput(
        tokens=tokens,
        loss_mask=tokens[:, 1:] > 0,
        weight=np.ones(rows, np.float32),
        replayed=np.zeros(rows, np.bool_),
        newest_histories=tokens[:, 1:],
        newest_targets=np.full(rows, 5, np.int32),
        frozen_histories=tokens[:0, 1:],
        frozen_targets=np.zeros(0, np.int32),
        item_ids=["", *"abcde"],
        text_vectors=np.zeros((6, 8), np.float32),
        active=np.array([False] + [True] * 5),
        model=config,
        training=RoundConfig(first_epochs=1, device="cpu"),
    )


def rounds_in(folder: Path, *, timeout_s: float = 60) -> Rounds:
    return Rounds(folder, timeout_s=timeout_s, heartbeat_timeout_s=60)


def test_a_round_that_was_finished_before_a_kill_is_taken_up_and_not_run_again(tmp_path: Path) -> None:
    rounds = rounds_in(tmp_path)
    rounds.prepare(PENDING, small_round())
    rounds.begin(PENDING)
    assert rounds.running
    expected = rounds.result(PENDING)
    assert not rounds.running
    successor = rounds_in(tmp_path)
    successor.begin(PENDING)
    assert successor.finished
    assert successor.pid is None
    assert successor.result(PENDING) == expected
    successor.tidy(keep=None)
    assert list(tmp_path.iterdir()) == []


def test_a_round_that_is_killed_again_and_again_is_given_up(tmp_path: Path) -> None:
    rounds = rounds_in(tmp_path, timeout_s=0.0)
    rounds.prepare(PENDING, small_round())
    for _ in range(3):
        rounds.begin(PENDING)
        rounds.abandon()
    with pytest.raises(RoundFailedError, match="begun 3 times and never ended"):
        rounds.begin(PENDING)


def test_a_round_whose_input_is_gone_fails_and_one_without_a_child_has_no_steps(tmp_path: Path) -> None:
    rounds = rounds_in(tmp_path)
    assert rounds.steps() == (0, 0)
    with pytest.raises(RoundFailedError, match="input is gone"):
        rounds.begin(PENDING)
    with pytest.raises(RoundFailedError, match="result is unreadable"):
        rounds.result(PENDING)


# ---- what the learner must know


def test_the_catalogue_lists_replaces_and_delists_and_counts_what_it_cannot_read() -> None:
    catalog = Catalog()
    mug, cup = (msgspec.json.encode(CatalogItem(item_id=name, title=f"A {name}")) for name in ("mug", "cup"))
    listed, unreadable = apply_catalogue(
        catalog, batch((b"mug", mug), (b"cup", cup), (b"mug", None), (b"x", b"{"), (b"\xff", None))
    )
    assert listed == [1, 2]
    assert unreadable == 2
    assert catalog.active.tolist() == [False, False, True]


def test_erasures_are_read_and_tombstones_among_them_are_counted_as_unreadable() -> None:
    asked = msgspec.json.decode(b'{"user_id":"ada","requested_at":"2026-01-31T12:00:00Z"}', type=Erasure)
    requests, unreadable = read_erasures(batch((b"ada", msgspec.json.encode(asked)), (b"bob", None)))
    assert requests == [("ada", 1_769_860_800_000)]
    assert unreadable == 1


async def test_texts_are_encoded_in_the_background_and_then_taken_in() -> None:
    encoder, seen = HashEncoder(width=8), []

    async def encoded() -> None:
        seen.append("taken in")

    encoding = Encoding(encoder, encoded=encoded)
    assert encoding.idle.is_set()
    running = asyncio.create_task(encoding.run())
    encoding.add([f"text {n}" for n in range(200)])
    assert not encoding.idle.is_set()
    await asyncio.wait_for(encoding.idle.wait(), 30)
    assert seen == ["taken in"]
    assert encoding.waiting == 0
    running.cancel()
    await asyncio.wait({running})


# ---- the inbox


async def test_the_inbox_takes_no_more_than_it_can_hold_and_knows_when_all_is_handled() -> None:
    inbox = Inbox(capacity=3)
    await inbox.put(batch((None, b"1"), (None, b"2")))
    await inbox.put(batch((None, b"3"), (None, b"4")))
    full = asyncio.create_task(inbox.put(batch((None, b"5"))))
    await asyncio.sleep(0.01)
    assert not full.done()
    assert inbox.records == 4
    first = await inbox.take(wait_s=30)
    assert first is not None
    assert first.values == [b"1", b"2"]
    await asyncio.wait_for(full, 30)
    empty = asyncio.create_task(inbox.drained())
    for expected in ([b"3", b"4"], [b"5"]):
        taken = await inbox.take(wait_s=30)
        assert taken is not None
        assert taken.values == expected
    assert not empty.done()  # the last one is still being handled
    assert await inbox.take(wait_s=0.01) is None
    await asyncio.wait_for(empty, 30)


# ---- Kafka


async def read_all(connection: KafkaConnection, topic: str) -> list[tuple[bytes | None, bytes | None]]:
    batches = await all_batches(connection, topic)
    return [pair for batch in batches for pair in zip(batch.keys, batch.values, strict=True)]


async def test_announcements_arrive_in_order_and_flush_means_acknowledged(kafka: Broker) -> None:
    topic = kafka.topic("announcements", partitions=1)
    connection = KafkaConnection(bootstrap_servers=kafka.bootstrap_servers)
    announcer = Announcer(connection=connection, capacity=100)
    running = asyncio.create_task(announcer.run())
    expected: list[Any] = []
    for start in range(0, 500, 50):
        records = [(b"key", b"%d" % number) for number in range(start, start + 50)]
        expected += records
        await asyncio.wait_for(announcer.put(topic, records), 20)
    await asyncio.wait_for(announcer.flush(), 20)
    assert (announcer.waiting, announcer.delivered) == (0, 500)
    assert await read_all(connection, topic) == expected
    running.cancel()
    await asyncio.wait({running})


async def test_a_feed_hands_out_everything_and_then_says_so(embedded_kafka: EmbeddedBroker) -> None:
    topic = embedded_kafka.topic("feed", partitions=3)
    connection = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
    async with Publisher(connection=connection) as publisher:
        await publisher.send_runs(
            topic, {partition: [(None, b"%d" % number) for number in range(100)] for partition in range(3)}
        )
    inbox = Inbox()
    start = await first_offsets(connection, topic, {1: 90})
    assert start == {(topic, 0): 0, (topic, 1): 90, (topic, 2): 0}
    feed = Feed(connection=connection, topics=[topic], inbox=inbox, start=start)
    running = asyncio.create_task(feed.run())
    taken = 0
    while not feed.caught_up.is_set():
        run = await inbox.take(wait_s=0.05)
        taken += 0 if run is None else len(run)
    while (run := await inbox.take(wait_s=0)) is not None:
        taken += len(run)
    assert taken == 210
    async with asyncio.timeout(30):
        while feed.lag != 0:
            await asyncio.sleep(0.05)
    running.cancel()
    await asyncio.wait({running})
    with pytest.raises(UnknownTopicError):
        await first_offsets(connection, "no-such-topic", {})


async def test_live_keys_are_those_with_a_value(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topics({EXPERTS_UPDATES: 1})
    connection = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
    assert await live_keys(connection) == set()
    async with Publisher(connection=connection) as publisher:
        await publisher.send_keyed(EXPERTS_UPDATES, [(b"a", b"1"), (b"b", b"1"), (b"a", None), (b"c", b"2")])
    assert await live_keys(connection) == {b"b", b"c"}
