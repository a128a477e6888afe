"""Quality on a real shop's log: the mixture must beat every single expert, ranked over the whole catalogue."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import torch

from learners.evaluation.prequential import evaluate
from learners.interactions import Observation
from learners.items.encoder import open_encoder
from learners.items.shelf import Describers, shelf_of

LOG = Path(__file__).parents[3] / "shared" / "data" / "online_retail"


def observations(count: int) -> Iterator[Observation]:
    """The first events of the log."""
    table = pq.read_table(LOG / "events.parquet").slice(0, count)
    times = table["event_time"].cast("timestamp[ms, tz=UTC]").cast("int64").to_pylist()
    names = ("user_id", "item_id", "event_type", "price")
    for *fields, time_ms in zip(*(table[name].to_pylist() for name in names), times, strict=True):
        yield Observation(**dict(zip(names, fields, strict=True)), event_time_ms=time_ms)


@pytest.mark.benchmark
@pytest.mark.timeout(1_800)
@pytest.mark.skipif(not LOG.is_dir(), reason="there is no ../shared/data/online_retail")
def test_the_mixture_beats_every_single_expert(tmp_path: Path) -> None:
    torch.set_num_threads(1)
    items = pq.read_table(LOG / "catalog.parquet").to_pylist()
    encoder = open_encoder("minilm", cache=tmp_path / "text_vectors.sqlite")
    shelf = shelf_of(items, Describers(texts=encoder))
    report = evaluate(observations(30_000), shelf, folder=tmp_path)
    hit_rates = {expert: figures["hit_rate_10"] for expert, figures in report["quality"].items()}
    print(hit_rates)
    assert report["releases"] >= 3
    assert hit_rates["fast_memory"] > 0.22
    assert hit_rates.pop("mixture") > 1.02 * max(hit_rates.values())
