"""A real broker dies and comes back in the middle of a replay, and so does the worker."""

import asyncio
from pathlib import Path

import pytest

from infra.replay.run import Intervention, Run
from streams.topics import all_topics
from tests.brokers import RealBroker
from tests.replays import dirty_log, run_replay, toy_settings

AWAY_S = 2.0


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_replay_survives_the_death_of_its_broker_and_of_its_worker(
    real_kafka: RealBroker, database_url: str, tmp_path: Path
) -> None:
    cluster = real_kafka.cluster
    if cluster is None:
        pytest.skip("the broker of the environment is somebody else's: no test may kill it")
    real_kafka.create_topics(all_topics(partitions=4))
    away: list[float] = []

    async def kill_broker(run: Run) -> None:
        await asyncio.to_thread(cluster.kill)
        await asyncio.sleep(AWAY_S)
        begun_s = asyncio.get_running_loop().time()
        await asyncio.to_thread(cluster.restart)
        away.append(asyncio.get_running_loop().time() - begun_s)

    settings = toy_settings(
        tmp_path / "data",
        kafka={"bootstrap_servers": real_kafka.bootstrap_servers},
        postgres={"url": database_url},
    )
    report = run_replay(
        dirty_log(tmp_path / "events.jsonl", events=3_000),
        settings,
        speed=300,
        worker_kills=1,
        interventions=[Intervention(after_events=1_000, act=kill_broker)],
    )
    assert away
    assert [kill["process"] for kill in report["kills"]] == ["worker-1"]
    assert report["reconcile"]["holds"], [one for one in report["reconcile"]["checks"] if not one["holds"]]
    assert [len(compared["differences"]) for compared in report["recounts"]] == [0, 0]
    assert report["ok"]
