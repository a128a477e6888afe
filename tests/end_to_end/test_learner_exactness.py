"""The learner process, killed at any moment: each interaction is learned once, each round is released once."""

import asyncio
import contextlib
import json
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import psutil
import pytest

from learners.items.encoder import HashEncoder
from learners.releases.registry import Registry
from learners.releases.release import load_release, read_pointer
from streams.events import CatalogItem, ExpertUpdate, Metric, Release
from streams.learning.config import LearnerProcessConfig
from streams.learning.feeds import live_keys
from streams.learning.item_vectors import ITEM_VECTORS, decode_item_vector
from streams.learning.round_records import read_rounds
from streams.topics import CATALOG_ITEMS, EXPERTS_UPDATES, MODELS_RELEASES, QUALITY_METRICS, USERS_ERASURES
from tests.brokers import EmbeddedBroker, LocalKafka, RealBroker
from tests.learner_driver import MOMENTS, TEXT_WIDTH
from tests.learner_runs import LearnerRun, Shop, interactions, targets

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]


@contextlib.contextmanager
def running(run: LearnerRun, **options: Any) -> Iterator[LearnerRun]:
    run.start(**options)
    try:
        yield run
    finally:
        if run.process is not None and run.process.poll() is None:
            run.kill()


def settled(progress: dict[str, Any]) -> bool:
    return not progress["round_running"] and not progress["rounds_pending"] and not progress["announcements_waiting"]


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Where two states differ, to the bit."""
    if isinstance(one, dict):
        if one.keys() != other.keys():
            return [f"{path}: {sorted(one.keys() ^ other.keys())}"]
        return [found for key in one for found in differences(one[key], other[key], f"{path}/{key}")]
    if isinstance(one, list | tuple) and len(one) == len(other):
        return [
            found for n, pair in enumerate(zip(one, other, strict=True)) for found in differences(*pair, f"{path}/{n}")
        ]
    if isinstance(one, np.ndarray):
        return [] if np.array_equal(one, other) else [path]
    return [] if json.dumps(one) == json.dumps(other) else [path]


def test_a_learner_killed_twice_is_in_the_very_state_of_one_that_never_was(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made, rng = Shop(embedded_kafka, partitions=1), interactions(2_500, partitions=1), random.Random(5)
    killed = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "killed", checkpoint_interval_s=0.2)
    for start in (0, 900):
        with running(killed):
            killed.until(lambda now: now["waits_for"] is None)
            shop.happen(made[start : start + 900])
            killed.until(lambda now, least=start: now["interactions"] > least)
            time.sleep(0.5 * rng.random())
            killed.kill()
    with running(killed):
        shop.happen(made[1_700:])  # a redelivery repeats the last hundred
        killed.until(lambda now: now["interactions"] == len(made) and now["lag_interactions"] == 0)
        assert killed.stop() == 0
    calm = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "calm")
    with running(calm):
        calm.until(lambda now: now["interactions"] == len(made) and now["lag_interactions"] == 0)
        assert calm.stop() == 0
    (state, position), (expected, calm_position) = killed.checkpoint(), calm.checkpoint()
    assert expected["interactions"] == targets(made)
    assert differences(state, expected) == []
    assert (position.offsets, position.sources) == (calm_position.offsets, calm_position.sources)
    assert position.counts["observed"] == calm_position.counts["observed"] == len(made)
    assert position.counts["repeated"] == 100


def test_with_rounds_and_partitions_every_interaction_is_still_counted_once_everywhere(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=3), interactions(5_000, partitions=3)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=1_000)
    shop.happen(made[:3_000])
    for passed in (0, 1):
        with running(run):
            run.until(lambda now, least=passed: now["round_running"] and now["rounds"]["passed"] >= least)
            time.sleep(1.0)  # in the middle of the round, or thereabouts
            run.kill()
    with running(run):
        shop.happen(made[3_000:])
        run.until(lambda now: now["interactions"] == len(made) and now["rounds"]["passed"] >= 3 and settled(now))
        assert run.stop() == 0
    state, position = run.checkpoint()
    assert position.counts["observed"] == len(made)
    assert state["interactions"] == state["examiner"]["quality"]["interactions"] == targets(made)
    assert int(state["replay"]["seen"].sum()) == targets(made)
    assert state["examiner"]["quality"]["sums"]["mixture"][3] == targets(made)
    rounds = read_rounds(database_url)
    assert [found["number"] for found in rounds] == list(range(1, len(rounds) + 1))
    assert {found["outcome"] for found in rounds} == {"passed"}
    assert all(found["verdict"]["evidence"] for found in rounds)
    versions = [release.version for release in shop.read(MODELS_RELEASES, Release)]
    assert sorted(set(versions)) == [found["version"] for found in rounds]
    figures = shop.read(QUALITY_METRICS, Metric)
    windows = {
        each.metric_id: each.interactions for each in figures if (each.metric, each.expert) == ("mrr", "mixture")
    }
    assert sorted(windows.values()) == list(range(100, targets(made) + 1, 100))


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_learner_killed_in_a_release_leaves_the_incumbent_and_the_next_start_finishes_what_it_began(
    moment: str, embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_300, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=400)
    registry = Registry(postgres_url=database_url, root=run.data_dir / "models")
    shop.happen(made[:600])
    with running(run):
        run.until(lambda now: now["rounds"]["passed"] == 1 and settled(now))
        assert run.stop() == 0
    with running(run, kill_at=moment):
        shop.happen(made[600:])
        run.until_killed()
    pointer, current = read_pointer(registry.root), registry.current()
    assert pointer is not None
    assert current is not None
    for version in {pointer.version, current.version}:  # whatever serves now, or after a repair, is whole
        row = registry.show(version)
        assert load_release(row.uri, sha256=row.sha256).version == version
    with running(run):
        run.until(lambda now: now["rounds"]["passed"] == 2 and settled(now) and now["interactions"] == len(made))
        assert run.stop() == 0
    rows = registry.list()
    orphaned = moment == "version directory written"  # the number of a directory without a row is never given again
    versions = [1, 3 if orphaned else 2]
    assert [(row.version, row.sequence, row.kind) for row in rows] == [
        (version, sequence, "release") for sequence, version in enumerate(versions, start=1)
    ]
    assert all(row.published for row in rows)
    assert registry.repair().pointer_moved is False
    assert [int(path.name) for path in registry.repair().orphans] == ([2] if orphaned else [])
    assert {release.sequence for release in shop.read(MODELS_RELEASES, Release)} == {1, 2}
    assert [found["outcome"] for found in read_rounds(database_url)] == ["passed", "passed"]
    state, position = run.checkpoint()
    assert (position.pending, position.sequence, state["model_version"]) == (None, 2, versions[1])
    assert state["interactions"] == targets(made)
    assert list((run.data_dir / "rounds").iterdir()) == []


def test_a_trainer_that_is_killed_costs_its_round_and_nothing_else(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_700, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=500)
    shop.happen(made[:700])
    with running(run):
        run.until(lambda now: now["round_running"])
        give_up_at = time.monotonic() + 30
        while (trainer := run.trainer()) is None:
            assert time.monotonic() < give_up_at
            time.sleep(0.02)
        trainer.kill()
        failed = run.until(lambda now: now["rounds"]["failed"] == 1)
        assert failed["model_version"] == 0
        shop.happen(made[700:])
        run.until(lambda now: now["rounds"]["passed"] == 1 and now["interactions"] == len(made) and settled(now))
        assert run.stop() == 0
    [first, second] = read_rounds(database_url)
    assert (first["outcome"], second["outcome"]) == ("failed", "passed")
    assert "ended without a result" in first["error"]
    assert second["training"]["rows"] > 0


def test_a_round_dies_with_a_killed_learner(embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path) -> None:
    shop = Shop(embedded_kafka, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=300)
    shop.happen(interactions(500, partitions=1))
    with running(run):
        run.until(lambda now: now["round_running"])
        while (trainer := run.trainer()) is None:
            time.sleep(0.02)
        run.kill()
    with contextlib.suppress(psutil.NoSuchProcess):
        trainer.wait(10)
    assert not trainer.is_running()


def test_a_refused_candidate_never_serves_and_its_verdict_is_kept(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(700, partitions=1)
    run = LearnerRun(
        shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=500, popularity_floor=100.0
    )
    shop.happen(made)
    with running(run):
        run.until(lambda now: now["rounds"]["refused"] == 1 and settled(now))
        assert run.stop() == 0
    [refused] = read_rounds(database_url)
    assert refused["outcome"] == "refused"
    assert "of the popularity" in refused["verdict"]["reasons"][0]
    assert refused["verdict"]["evidence"]["candidate"]["newest"]["ndcg_10"] >= 0
    assert shop.read(MODELS_RELEASES, Release) == []
    assert run.checkpoint()[0]["model_version"] == 0


def test_a_release_is_taken_back_by_the_learner_itself_and_by_people(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_800, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=400, bad_version=2)
    registry = Registry(postgres_url=database_url, root=run.data_dir / "models")
    shop.happen(made[:600])
    with running(run):
        run.until(lambda now: now["rounds"]["passed"] == 1 and settled(now))
        shop.happen(made[600:1_200])
        run.until(lambda now: now["rollbacks"] == 1)
        run.kill()  # it remembers that it went back
    with running(run):
        back = run.until(lambda now: now["sequence"] == 3 and settled(now) and now["interactions"] == 1_200)
        assert (back["model_version"], back["rollbacks"]) == (1, 1)
        shop.happen(made[1_200:])
        run.until(lambda now: now["rounds"]["passed"] == 3 and settled(now))
        registry.rollback(to_version=1, reason={"who": "a person"})
        run.until(lambda now: now["sequence"] == 5)
        assert run.stop() == 0
    rows = [(row.sequence, row.kind, row.version) for row in registry.list()]
    assert rows == [(1, "release", 1), (2, "release", 2), (3, "rollback", 1), (4, "release", 3), (5, "rollback", 1)]
    assert {each.sequence for each in shop.read(MODELS_RELEASES, Release)} == {1, 2, 3, 4, 5}
    state, position = run.checkpoint()
    assert (position.sequence, position.counts["rollbacks"], state["model_version"]) == (5, 2, 1)
    assert registry.list()[2].verdict["rollback"]["reason"] == "the test says so"


def test_a_forgotten_person_is_gone_from_the_checkpoint_and_does_not_come_back(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_000, partitions=1)
    gone = [each for each in made if each.user_id == "u7"]
    asked = json.dumps({"user_id": "u7", "requested_at": _moment(made[799].event_time_ms)}).encode()
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data")
    shop.happen(made[:600])
    with running(run):
        run.until(lambda now: now["interactions"] == 600)
        wait_until(lambda: held(run, "u7"))
        shop.publish(USERS_ERASURES, {0: [("u7", asked)]})
        wait_until(lambda: not held(run, "u7"))
        shop.happen(made[600:800])
        run.until(lambda now: now["interactions"] == 800)
        run.kill()
    with running(run):
        run.until(lambda now: now["interactions"] == 800 and now["lag_interactions"] == 0)
        assert run.stop() == 0
    assert not held(run, "u7")
    counts = run.checkpoint()[1].counts
    assert counts["erased"] == sum(600 <= made.index(each) < 800 for each in gone)
    assert counts["observed"] + counts["erased"] == 800


def wait_until(reached: Callable[[], object], *, timeout_s: float = 60.0) -> None:
    give_up_at = time.monotonic() + timeout_s
    while not reached():
        assert time.monotonic() < give_up_at
        time.sleep(0.2)


def _moment(time_ms: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time_ms / 1000))


def held(run: LearnerRun, user_id: str) -> bool:
    """Whether any file of the newest checkpoint names this person, other than as forgotten."""
    state, _ = run.checkpoint()
    state["forgotten"] = {}
    return f'"{user_id}"' in json.dumps(state, default=lambda array: array.tolist())


def test_workers_are_told_of_what_experts_learned_before_any_checkpoint_or_round(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(400, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", checkpoint_interval_s=3_600.0)
    items = {f"item/{each.item_id}" for each in made if each.event_type != "return"}

    def told() -> bool:
        updates = shop.read(EXPERTS_UPDATES, ExpertUpdate)
        newest = max((each.interactions for each in updates), default=0)
        return items <= {f"{each.expert}/{each.key}" for each in updates} and newest == targets(made)

    with running(run):
        run.until(lambda now: now["waits_for"] is None)
        shop.happen(made)
        wait_until(told)
        assert run.checkpoint()[0]["interactions"] == 0  # the one of its start
        assert LearnerProcessConfig().updates_interval_s <= 1.0  # how soon, on a machine that has the time
        run.kill()


def test_an_item_that_is_newer_than_the_release_reaches_workers_by_its_text(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_000, partitions=1)
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=400)
    shop.happen(made[:500])
    new = CatalogItem(item_id="new", title="thing 3 of kind 0")
    with running(run):
        run.until(lambda now: now["rounds"]["passed"] == 1 and settled(now))
        assert vectors(shop) == {}  # the release knows every item that there is
        shop.publish(CATALOG_ITEMS, {0: [("new", msgspec.json.encode(new))]})
        give_up_at = time.monotonic() + 30
        while not (found := vectors(shop)):
            assert time.monotonic() < give_up_at
            time.sleep(0.2)
        assert found.keys() == {"new"}
        assert np.array_equal(found["new"], HashEncoder(width=TEXT_WIDTH).encode([new.title])[0])
        shop.happen(made[500:])
        run.until(lambda now: now["rounds"]["passed"] == 2 and settled(now) and now["announcements_waiting"] == 0)
        assert run.stop() == 0
    assert b"item_vector/new" not in asyncio.run(live_keys(shop.connection))  # the second release knows it


def vectors(shop: Shop) -> dict[str, Any]:
    """Text vectors that workers have been told, by item_id."""
    updates = shop.read(EXPERTS_UPDATES, ExpertUpdate)
    return {each.key: decode_item_vector(each.payload)[0] for each in updates if each.expert == ITEM_VECTORS}


def test_what_retention_took_before_the_learner_read_it_is_counted(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop, rng = Shop(embedded_kafka, partitions=1), random.Random(3)
    made = [
        msgspec.structs.replace(each, query="".join(map(chr, (rng.randrange(33, 0xD7FF) for _ in range(1_000)))))
        for each in interactions(3_000, partitions=1)
    ]
    for start in range(0, len(made), 500):
        shop.happen(made[start : start + 500])
    run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data")
    with running(run):
        now = run.until(lambda now: now["next_offsets"] == {"0": len(made)})
        assert run.stop() == 0
    by_outcome = now["interactions_by_outcome"]
    assert by_outcome["truncated"] > 0
    assert by_outcome["truncated"] + by_outcome["observed"] == len(made)


def test_a_learner_outlives_its_broker(local_kafka: LocalKafka, database_url: str, tmp_path: Path) -> None:
    broker = RealBroker(local_kafka.bootstrap_servers, local_kafka)
    try:
        shop, made = Shop(broker, partitions=2), interactions(1_600, partitions=2)
        run = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "data")
        shop.happen(made[:800])
        with running(run):
            run.until(lambda now: now["interactions"] > 300)
            local_kafka.kill()
            time.sleep(2)
            local_kafka.restart()
            shop.happen(made[800:])
            run.until(lambda now: now["interactions"] == len(made) and now["announcements_waiting"] == 0)
            assert run.stop() == 0
        state, position = run.checkpoint()
        assert position.counts["observed"] == len(made)
        assert state["interactions"] == targets(made)
        figures = shop.read(QUALITY_METRICS, Metric)
        windows = {each.interactions for each in figures if (each.metric, each.expert) == ("mrr", "mixture")}
        assert sorted(windows) == list(range(100, targets(made) + 1, 100))
    finally:
        janitor = RealBroker(
            local_kafka.bootstrap_servers, local_kafka
        )  # the first one's connection died with the broker
        janitor._created = broker._created
        janitor.close()


def test_a_second_learner_of_the_same_deployment_says_so_and_ends(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop = Shop(embedded_kafka, partitions=1)
    first = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "first")
    second = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "second", lock_wait_s=0.5)
    with running(first):
        first.until(lambda now: now["waits_for"] is None)
        with running(second):
            assert second.process is not None
            assert second.process.wait(60) != 0
            assert "another learner holds this database's learner lock" in second.log()
        assert first.stop() == 0
