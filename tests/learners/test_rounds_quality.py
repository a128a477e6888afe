"""How good the shared model becomes on a real shop's log, round after round (a benchmark: `pytest -m benchmark`)."""

import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from pyarrow import parquet

from learners.items.catalog import Catalog
from learners.items.encoder import open_encoder
from learners.items.text_vectors import TextVectors
from learners.replay.pending import cut, to_arrays
from learners.rounds.gate import NEWEST
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round

LOG = Path(__file__).parents[3] / "shared" / "data" / "online_retail"
ROUND, ROUNDS, LENGTH = 8_000, 8, 50
NOBODY, NOTHING = np.zeros((0, LENGTH), np.int32), np.zeros(0, np.int32)


class Shop:
    """The log as item indexes, and each purchase's history."""

    def __init__(self, cache: Path) -> None:
        self.catalog = Catalog()
        for item in parquet.read_table(LOG / "catalog.parquet").to_pylist():
            self.catalog.upsert(item["item_id"], title=item["title"] or "")
        vectors = TextVectors(open_encoder("minilm", cache=cache))
        vectors.update(self.catalog)
        self.text = vectors.matrix(self.catalog)
        log = parquet.read_table(LOG / "events.parquet", columns=["user_id", "item_id", "event_type"]).to_pylist()
        bought = [event for event in log if event["event_type"] == "purchase"][: (ROUNDS + 1) * ROUND]
        self.users = [event["user_id"] for event in bought]
        self.items = self.catalog.indexes_of(event["item_id"] for event in bought)
        self.baskets: dict[str, list[int]] = {}
        self.places = []
        for user, item in zip(self.users, self.items.tolist(), strict=True):
            self.places.append(len(self.baskets.setdefault(user, [])))
            self.baskets[user].append(item)

    def rows(self, start: int, stop: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]:
        """What one round learns anew."""
        spans: dict[str, list[int]] = {}
        for event in range(start, stop):
            spans.setdefault(self.users[event], []).append(self.places[event])
        rows = []
        for user, places in spans.items():
            basket, (first, last) = self.baskets[user], (places[0], places[-1] + 1)
            rows += cut(basket[max(0, first - LENGTH) : first], basket[first:last], length=LENGTH)
        return to_arrays(rows, length=LENGTH)

    def window(self, start: int, stop: int) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int32]]:
        """Histories and the purchases that followed them."""
        histories = np.zeros((stop - start, LENGTH), np.int32)
        for row, event in enumerate(range(start, stop)):
            before = self.baskets[self.users[event]][: self.places[event]][-LENGTH:]
            histories[row, LENGTH - len(before) :] = before
        return histories, self.items[start:stop]


@pytest.mark.benchmark
@pytest.mark.timeout(3_600)
@pytest.mark.skipif(not LOG.is_dir(), reason="there is no ../shared/data/online_retail")
def test_every_round_beats_popularity_on_the_purchases_that_follow(tmp_path: Path) -> None:
    shop, incumbent, rng = Shop(tmp_path / "vectors.sqlite"), None, np.random.default_rng(0)
    past: list[tuple[npt.NDArray[np.int32], npt.NDArray[np.bool_]]] = []
    hit_rates, walls_s = [], []
    for number in range(ROUNDS):
        start, stop = number * ROUND, (number + 1) * ROUND
        new_tokens, new_mask = shop.rows(start, stop)
        old_tokens, old_mask = (
            (np.concatenate(part) for part in zip(*past, strict=True))
            if past
            else (
                new_tokens[:0],
                new_mask[:0],
            )
        )
        drawn = rng.permutation(len(old_tokens))[:512]
        past.append((new_tokens, new_mask))
        # The window that follows is the gate's here, so that its evidence is the measurement; nothing is refused by it.
        histories, targets = shop.window(stop, stop + ROUND)
        given = RoundInput(
            tokens=np.concatenate([new_tokens, old_tokens[drawn]]),
            loss_mask=np.concatenate([new_mask, old_mask[drawn]]),
            weight=np.ones(len(new_tokens) + len(drawn), np.float32),
            replayed=np.arange(len(new_tokens) + len(drawn)) >= len(new_tokens),
            newest_histories=histories,
            newest_targets=targets,
            frozen_histories=NOBODY,
            frozen_targets=NOTHING,
            item_ids=shop.catalog.item_ids,
            text_vectors=shop.text,
            active=shop.catalog.active.copy(),
            incumbent=incumbent,
        )
        folder = tmp_path / str(number)
        folder.mkdir()
        started = time.process_time()
        result = run_round(given, folder)
        walls_s.append(time.process_time() - started)
        incumbent = result.candidate
        figures = result.verdict["evidence"]
        hit_rates.append(tuple(figures[name][NEWEST]["hit_rate_10"] for name in ("candidate", "popularity")))
        print(f"{number}: hit_rate_10 {hit_rates[-1][0]:.4f}, popularity {hit_rates[-1][1]:.4f}, {walls_s[-1]:.0f} s")
        assert hit_rates[-1][0] > 3 * hit_rates[-1][1]
    mean = np.mean(hit_rates, axis=0)
    print(f"mean hit_rate_10 {mean[0]:.4f}, popularity {mean[1]:.4f}; {np.mean(walls_s):.1f} s of CPU a round")
    assert mean[0] > 0.23
