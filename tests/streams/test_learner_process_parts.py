"""The parts of the learner process that need neither Kafka nor Postgres."""

import random
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from streams.events import ExpertUpdate, Interaction
from streams.learning.checkpoint import POSITION, STATE, Checkpoints
from streams.learning.errors import UnknownCheckpointError
from streams.learning.expert_updates import ExpertLog
from streams.learning.position import PendingRound, Position, Tracker


def interaction(partition: int, offset: int, *, user_id: str = "ada", event_time_ms: int = 1_000) -> Interaction:
    return Interaction(
        event_id=f"{partition}-{offset}",
        user_id=user_id,
        item_id="mug",
        event_type="view",
        event_time_ms=event_time_ms,
        appended_at_ms=event_time_ms,
        partition=partition,
        offset=offset,
    )


def test_whatever_is_sent_again_is_admitted_once() -> None:
    tracker = Tracker(Position(lineage="a", cluster_id="k"))
    stream = [interaction(partition, offset) for offset in range(50) for partition in range(3)]
    again = [interaction(partition, offset) for offset in range(20, 60) for partition in range(3)]
    admitted = [seen for seen in [*stream, *again, *stream] if tracker.admit(seen)]
    assert [seen.event_id for seen in admitted] == [seen.event_id for seen in stream] + [
        f"{partition}-{offset}" for offset in range(50, 60) for partition in range(3)
    ]
    assert tracker.counts == {"observed": 180, "repeated": 150 + 90}


def test_what_a_forgotten_person_did_before_asking_is_counted_as_erased_and_what_came_after_is_learned() -> None:
    tracker = Tracker(Position(lineage="a", cluster_id="k", erasures={"ada": 1_000}))
    assert not tracker.admit(interaction(0, 0, event_time_ms=1_000))
    assert tracker.admit(interaction(0, 1, event_time_ms=1_001))
    assert tracker.admit(interaction(0, 2, user_id="bob", event_time_ms=5))
    assert tracker.counts == {"erased": 1, "observed": 2}


def test_another_cluster_means_offsets_from_the_start() -> None:
    tracker = Tracker(Position(lineage="a", cluster_id="old", offsets={"t": {0: 9}}, sources={0: 8}))
    assert not tracker.follow("old")
    assert tracker.follow("new")
    assert tracker.snapshot().offsets == {}
    assert tracker.admit(interaction(0, 0))


def test_a_snapshot_does_not_change_with_its_tracker() -> None:
    tracker = Tracker(Position(lineage="a", cluster_id="k"))
    tracker.admit(interaction(0, 0))
    tracker.advance("t", 0, 1)
    before = tracker.snapshot()
    tracker.admit(interaction(0, 1))
    tracker.advance("t", 0, 2)
    tracker.erasures.request("ada", 5)
    assert before == Position(
        lineage="a", cluster_id="k", offsets={"t": {0: 1}}, sources={0: 0}, counts={"observed": 1}
    )


def write(text: str) -> Callable[[Path], None]:
    def save(folder: Path) -> None:
        folder.mkdir()
        (folder / "state").write_text(text)

    return save


def test_a_checkpoint_gives_back_state_and_position_and_replaces_the_one_before(tmp_path: Path) -> None:
    pending = PendingRound(number=3, key="a-3", trigger={"kind": "count"}, triggered_at_ms=7, interactions=8_000)
    position = Position(lineage="a", cluster_id="k", offsets={"t": {0: 1, 11: 2}}, sources={0: 5}, pending=pending)
    checkpoints = Checkpoints(tmp_path)
    assert checkpoints.newest() is None
    checkpoints.commit(checkpoints.stage(write("one")), Position(lineage="a", cluster_id="k"))
    assert checkpoints.commit(checkpoints.stage(write("two")), position) > 0
    state, found = Checkpoints(tmp_path).newest() or pytest.fail("no checkpoint")
    assert (state / "state").read_text() == "two"
    assert found == position
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]


def test_a_kill_before_the_commit_leaves_the_checkpoint_before(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.commit(checkpoints.stage(write("one")), Position(lineage="a", cluster_id="k"))
    checkpoints.stage(write("half"))  # and then kill -9
    state, _ = Checkpoints(tmp_path).newest() or pytest.fail("no checkpoint")
    assert (state / "state").read_text() == "one"
    assert [path.name for path in tmp_path.iterdir()] == ["00000001"]


def test_a_kill_between_commit_and_removal_uses_the_newer_and_later_removes_both(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.commit(checkpoints.stage(write("one")), Position(lineage="a", cluster_id="k"))
    older = tmp_path / "00000000"
    (older / STATE).mkdir(parents=True)
    (older / POSITION).write_bytes(msgspec.json.encode(Position(lineage="older", cluster_id="k")))
    found = checkpoints.newest()
    assert found is not None
    assert found[1].lineage == "a"
    checkpoints.commit(checkpoints.stage(write("two")), found[1])
    assert [path.name for path in tmp_path.iterdir()] == ["00000002"]


def test_a_checkpoint_of_another_format_is_refused_by_name(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path)
    checkpoints.commit(checkpoints.stage(write("one")), Position(lineage="a", cluster_id="k", format=99))
    with pytest.raises(UnknownCheckpointError, match="format 99; expected 1"):
        checkpoints.newest()


def test_an_update_on_the_wire_says_how_far_the_learner_was() -> None:
    [(key, value)] = ExpertLog().write([("covisitation", "mug", b'{"cup":0.5}')], interactions=7, now_ms=9)
    assert key == b"covisitation/mug"
    assert value is not None
    update = msgspec.json.decode(value, type=ExpertUpdate)
    assert (update.expert, update.key, update.interactions, update.updated_at_ms) == ("covisitation", "mug", 7, 9)
    assert msgspec.json.decode(update.payload) == {"cup": 0.5}


def test_a_removed_key_becomes_a_tombstone_once_and_an_unknown_one_nothing() -> None:
    updates = ExpertLog()
    updates.write([("e", "a", b"1")], interactions=0, now_ms=0)
    assert updates.write([("e", "a", None), ("e", "b", None)], interactions=0, now_ms=0) == [(b"e/a", None)]
    assert updates.write([("e", "a", None)], interactions=0, now_ms=0) == []
    assert len(updates) == 0


def test_the_last_bytes_of_the_topic_hold_the_newest_value_of_every_key() -> None:
    """What the embedded broker keeps, however long the learner has run and however uneven the keys are."""
    kept_bytes, rng = 5_000, random.Random(4)
    updates = ExpertLog(refresh_after_bytes=3_000)
    topic: list[tuple[bytes, bytes | None]] = []
    truth: dict[bytes, bytes] = {}
    for step in range(3_000):
        key = min(int(rng.expovariate(0.3)), 9)  # some keys change all the time, some hardly ever
        payload = None if rng.random() < 0.05 else msgspec.json.encode({"step": step})
        for wire_key, value in updates.write([("e", str(key), payload)], interactions=step, now_ms=step):
            topic.append((wire_key, value))
            if value is None:
                truth.pop(wire_key, None)
            else:
                truth[wire_key] = value
        if step % 50 == 0:
            assert replayed(topic, kept_bytes) == truth
    assert updates.written_bytes < 3 * sum(len(value or b"") for _, value in topic)
    assert len(topic) < 3_000 * 2.5


def replayed(topic: list[tuple[bytes, bytes | None]], kept_bytes: int) -> dict[bytes, bytes]:
    size, first = 0, len(topic)
    while first and size + len(topic[first - 1][0]) + len(topic[first - 1][1] or b"") <= kept_bytes:
        first -= 1
        size += len(topic[first][0]) + len(topic[first][1] or b"")
    live: dict[bytes, bytes] = {}
    for key, value in topic[first:]:
        if value is None:
            live.pop(key, None)
        else:
            live[key] = value
    return live


def test_more_keys_than_fit_do_not_flood_the_topic() -> None:
    updates = ExpertLog(refresh_after_bytes=1_000)
    updates.write([("e", str(key), msgspec.json.encode("x" * 60)) for key in range(100)], interactions=0, now_ms=0)
    before = updates.records
    for step in range(100):
        updates.write([("e", "busy", b"%d" % step)], interactions=step, now_ms=step)
    assert updates.records - before < 100 * 5


def test_keys_that_an_earlier_learner_left_are_removed() -> None:
    updates = ExpertLog()
    updates.write([("e", "mine", b"1")], interactions=0, now_ms=0)
    assert updates.forget_strangers([b"e/mine", b"e/theirs"]) == [(b"e/theirs", None)]
