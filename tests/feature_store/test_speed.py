"""What a flush costs: `pytest -m benchmark -s tests/feature_store/test_speed.py` prints it."""

import random
import time
from collections import Counter

import pytest

from feature_store.flush import PartitionFlush, UserFeatures

TOPIC = "clickstream.events"
EVENTS, WARM_UP, FLUSHES = 5_000, 5, 20


@pytest.mark.benchmark
@pytest.mark.parametrize("archived", [False, True])
def test_a_flush_of_5000_events_of_2000_users_costs_little(features_url, tmp_path, event, archived):
    rng, now_ms, spent, touched = random.Random(0), 1_700_000_000_000, Counter(), 0
    folder = tmp_path / "history" if archived else None
    with UserFeatures(
        postgres_url=features_url, cluster_id="test", allowed_lateness_ms=0, history_dir=folder
    ) as features:
        ledger = features.open(TOPIC, 0)
        for turn in range(WARM_UP + FLUSHES):
            batch = []
            for _ in range(EVENTS):
                now_ms += 20
                user_id = f"user-{(rng.randrange(2_300) + 37 * turn) % 7_000:06d}"
                batch.append(event(user_id=user_id, item_id=f"item-{rng.randrange(5_000):05d}", event_time_ms=now_ms))
            ids = [f"event-{turn}-{number}" for number in range(EVENTS)]
            delta = PartitionFlush(
                topic=TOPIC, partition=0, next_offset=(turn + 1) * EVENTS, first_offset=turn * EVENTS, applied=batch
            )
            delta.event_ids, delta.appended_at_ms = ids, [now_ms] * EVENTS
            features.load(0, [one.user_id for one in batch])
            cpu_s = [time.thread_time()]
            for event_id in ids:
                ledger.admit(event_id)
            cpu_s.append(time.thread_time())
            for one in batch:
                features.apply(0, one.user_id, one.item_id, one.event_type, one.event_time_ms)
            cpu_s.append(time.thread_time())
            prepared = features.prepare(delta)
            cpu_s.append(time.thread_time())
            began = time.perf_counter()
            outcome = features.write(prepared)
            wall_s = time.perf_counter() - began
            cpu_s.append(time.thread_time())
            features.settle(prepared)
            if turn >= WARM_UP:
                touched += outcome.entities
                spent["wait"] += wall_s
                for step, before, after in zip(("admit", "apply", "prepare", "write"), cpu_s, cpu_s[1:], strict=False):
                    spent[step] += after - before
    events, rows = FLUSHES * EVENTS, 4 * touched
    print(
        f"\nhistory {'on' if archived else 'off'}: per event admit {spent['admit'] / events * 1e6:.2f} us, "
        f"apply {spent['apply'] / events * 1e6:.2f} us; per user prepare {spent['prepare'] / touched * 1e6:.1f} us, "
        f"write {spent['write'] / touched * 1e6:.1f} us of CPU; "
        f"flush of {touched / FLUSHES:.0f} users waits {spent['wait'] / FLUSHES * 1e3:.0f} ms for Postgres, "
        f"{(spent['wait'] - spent['write']) / rows * 1e6:.1f} us a row"
    )
    assert (spent["prepare"] + spent["write"]) / touched < 100e-6
    assert spent["apply"] / events < 20e-6
