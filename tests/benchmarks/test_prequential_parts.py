"""The protocol of `bench prequential` and its peers, on logs whose answers are known."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from benchmarks.prequential import toy_config
from benchmarks.prequential_parts import ours
from benchmarks.prequential_parts.contenders import CONTENDERS, Bench
from benchmarks.prequential_parts.datasets import DATASETS, assemble
from benchmarks.prequential_parts.fallback import Refitted
from benchmarks.prequential_parts.intervals import Bootstrap, gains
from benchmarks.prequential_parts.item_knn import ItemKnn
from benchmarks.prequential_parts.log import DAY_MS, Log
from benchmarks.prequential_parts.ours import Stopping, retraining, whole_past
from benchmarks.prequential_parts.peers import Peers
from benchmarks.prequential_parts.popularity import Popularity
from benchmarks.prequential_parts.protocol import Moment, Outcome, place_of, run
from benchmarks.prequential_parts.records import Records, digest, load_outcome, save_outcome
from benchmarks.prequential_parts.river_models import BiasedMF, FactorizationMachine, RiverModel
from learners.interactions import Observation
from learners.items.encoder import HashEncoder
from learners.model import ModelConfig
from learners.quality.metrics import MISSED
from learners.rounds.material import RoundInput
from learners.rounds.round import RoundResult, run_round
from learners.rounds.training import Beat


def a_log(rows: Sequence[tuple[int, int, float]], *, known: int = 10, once: bool = False) -> Log:
    """A log of (person, item, day)."""
    users, items, days = (np.array(column) for column in zip(*rows, strict=True))
    times_ms = (days * DAY_MS).astype(np.int64)
    return Log(
        "hand-made", users.astype(np.int32), items.astype(np.int32), times_ms, np.full(len(rows), known), once=once
    )


class Spy(Refitted):
    """Writes down all that it is told."""

    def __init__(self, items: int, block: int) -> None:
        super().__init__(items)
        self.block = block  # type: ignore[misc]  # an instance of its own
        self.calls: list[tuple[str, object]] = []

    def fit(self, past: Log) -> None:
        self.calls.append(("fit", list(zip(past.users.tolist(), past.items.tolist(), strict=True))))

    def scores(self, moments: Sequence[Moment]) -> npt.NDArray[np.float32]:
        self.calls += [("score", (moment.user, moment.history.tolist())) for moment in moments]
        return np.zeros((len(moments), self.items), np.float32)

    def learn(self, moment: Moment, item: int) -> None:
        self.calls.append(("learn", (moment.user, item)))


@pytest.mark.parametrize("block", [1, 3])
def test_a_contender_is_told_of_an_interaction_only_after_it_ranked_it(block: int) -> None:
    rows = [(0, 1, 0.0), (1, 2, 1.0), (0, 3, 2.0), (0, 4, 15.0), (1, 5, 29.0), (1, 6, 30.0)]
    spy = Spy(10, block)
    run(spy, a_log(rows), refit_every_ms=14 * DAY_MS)
    met: dict[int, list[int]] = {0: [], 1: []}
    scored, learned = 0, 0
    for kind, said in spy.calls:
        if kind == "score":
            user, item, _ = rows[scored]
            assert said == (user, met[user])  # its history ends before the item that is to be ranked
            met[user].append(item)
            scored += 1
        elif kind == "learn":
            assert said == rows[learned][:2]
            learned += 1
            assert learned <= scored
        else:
            assert said == [row[:2] for row in rows[:scored]]
            assert learned == scored
    assert scored == learned == len(rows)
    assert [len(said) for kind, said in spy.calls if kind == "fit"] == [3, 4]  # type: ignore[arg-type]


def test_what_comes_later_changes_no_rank() -> None:
    rows = [(n % 4, 1 + (n * 7) % 9, float(n)) for n in range(40)]
    for make in (Popularity, ItemKnn, BiasedMF, FactorizationMachine):
        whole, part = run(make(10), a_log(rows)), run(make(10), a_log([*rows[:25], *[(3, 9, 50.0)] * 15]))
        assert whole.ranks["served"][:25].tolist() == part.ranks["served"][:25].tolist(), make


def test_popularity_ranks_by_the_counts_before_each_interaction() -> None:
    outcome = run(Popularity(10), a_log([(0, 3, 0), (1, 3, 1), (2, 5, 2), (3, 5, 3), (4, 5, 4)]))
    assert outcome.ranks["served"].tolist() == [3, 1, 5, 2, 2]  # equals by index, so 3 stays before 5
    assert outcome.facts == {"refits": 0, "learns_online": True}


def test_an_item_that_was_unknown_is_missed_by_everybody() -> None:
    clicks = [
        Observation(user_id="ann", item_id=item, event_type=kind, event_time_ms=at)
        for at, (item, kind) in enumerate([("a", "click"), ("new", "click"), ("a", "return"), ("new", "click")])
    ]
    dataset = assemble("one", clicks, [{"item_id": "a"}, {"item_id": "b"}], once=False)
    assert len(dataset.log) == 3  # the return is not predicted
    assert run(Popularity(4), dataset.log).ranks["served"].tolist() == [1, MISSED, 2]


def test_where_nobody_repeats_what_a_person_met_is_barred() -> None:
    rows = [(0, 1, 0.0), (0, 2, 1.0), (1, 1, 2.0), (1, 2, 3.0)]
    assert run(Popularity(10), a_log(rows)).ranks["served"].tolist() == [1, 2, 1, 2]
    assert run(Popularity(10), a_log(rows, once=True)).ranks["served"].tolist() == [1, 1, 1, 1]


def test_who_diverged_misses() -> None:
    scores = np.array([0, 1, 2, np.nan], np.float32)
    assert place_of(scores, 3, known=4, met=None) == MISSED
    assert place_of(scores, 2, known=4, met=None) == MISSED
    assert place_of(scores, 1, known=3, met=None) == 2  # what is not ranked does not matter


@pytest.mark.parametrize("make", [BiasedMF, FactorizationMachine])
def test_scores_are_what_river_itself_predicts(make: type[RiverModel]) -> None:
    contender = make(8, factors=4, negatives=3, seed=1)
    rng = np.random.default_rng(0)
    for number in range(200):
        history = rng.integers(1, 8, number % 3).astype(np.int32)
        contender.learn(Moment(int(rng.integers(5)), history, number, 8), int(rng.integers(1, 8)))
    moment = Moment(2, np.array([3, 5], np.int32), 0, 8)
    scores = contender.scores([moment])[0, 1:]
    if isinstance(contender, BiasedMF):
        single = [contender.model.predict_one(2, item) for item in range(1, 8)]
    else:
        asked = (contender.features(moment, item) for item in range(1, 8))  # type: ignore[attr-defined]
        single = [np.log(p / (1 - p)) for p in (contender.model.predict_proba_one(x)[True] for x in asked)]  # type: ignore[attr-defined]
    np.testing.assert_allclose(scores - scores[0], np.array(single) - single[0], rtol=1e-4, atol=1e-5)


def test_a_checkerboard_of_likes_is_learned_by_all_that_personalise() -> None:
    rng = np.random.default_rng(3)
    rows = [(user := int(rng.integers(20)), 1 + 2 * int(rng.integers(10)) + user % 2, n / 100) for n in range(6_000)]
    log = a_log(rows, known=21)
    hits = {}
    for make in (Popularity, ItemKnn, BiasedMF, FactorizationMachine):
        ranks = run(make(21), log).ranks["served"][-500:]
        hits[make.__name__] = float((ranks <= 10).mean())
    assert hits.pop("Popularity") < 0.7  # it knows nobody: ten of twenty
    assert min(hits.values()) > 0.9, hits


def test_retraining_learns_every_interaction_so_far_once_and_none_after() -> None:
    dataset = DATASETS["toy"](Path(), 300)
    items, end = dataset.log.catalogue, 200
    none = np.zeros((0, 8), np.int32)
    empty = RoundInput(
        tokens=np.zeros((0, 9), np.int32), loss_mask=np.zeros((0, 8), np.bool_), weight=np.zeros(0, np.float32),
        replayed=np.zeros(0, np.bool_), newest_histories=none, newest_targets=none[:, 0], frozen_histories=none,
        frozen_targets=none[:, 0], item_ids=[str(n) for n in range(items)], text_vectors=np.zeros((items, 4), "f4"),
        active=np.ones(items, np.bool_), model=ModelConfig(history_length=8, text_width=4), incumbent=Path("somewhere"),
    )  # fmt: skip
    found = whole_past(empty, dataset.log, end)
    assert found.incumbent is None
    learned = np.bincount(found.tokens[:, 1:][found.loss_mask], minlength=items)
    assert learned.tolist() == np.bincount(dataset.log.items[:end], minlength=items).tolist()


def test_what_is_kept_of_retraining_stands_until_something_changes_that_it_reads(tmp_path: Path) -> None:
    def settings(**changes: object) -> dict[str, str]:
        config = toy_config()
        config = replace(config, training=replace(config.training, **changes))  # type: ignore[arg-type]
        bench = Bench(
            dataset=DATASETS["toy"](tmp_path, 10), encoder=HashEncoder(width=16), config=config, peers=Peers(None),
            state=tmp_path,
        )  # fmt: skip
        return {name: digest(CONTENDERS[name].settings(bench)) for name in ("default", "retraining")}

    usual, fine_tuned, from_scratch = settings(), settings(batch_rows=8), settings(first_batch_rows=8)
    assert usual["default"] != fine_tuned["default"] != from_scratch["default"] != usual["default"]
    assert usual["retraining"] == fine_tuned["retraining"] != from_scratch["retraining"]


def test_a_stopped_retraining_does_not_train_its_finished_rounds_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, trained = DATASETS["toy"](Path(), 1_200), []

    def counted(round_input: RoundInput, folder: Path, *, beat: Beat) -> RoundResult:
        trained.append(len(round_input.tokens))
        if len(trained) == 2:
            raise KeyboardInterrupt  # stopped in the middle of its second round
        return run_round(round_input, folder, beat=beat)

    monkeypatch.setattr(ours, "run_round", counted)

    def retrain(keep: Path) -> Outcome:
        return retraining(
            dataset,
            encoder=HashEncoder(width=16),
            config=toy_config(),
            stopping=Stopping(most=1, steps=1, least=1),
            seed=0,
            progress=lambda _done: None,
            keep=keep,
        )

    with pytest.raises(KeyboardInterrupt):
        retrain(tmp_path / "kept")
    resumed = retrain(tmp_path / "kept")
    assert len(trained) == 1 + 1 + 1  # the first round once, the second twice
    again = retrain(tmp_path / "kept")
    assert len(trained) == 3
    assert (again.train_s, again.facts) == (resumed.train_s, resumed.facts)
    assert all((again.ranks[expert] == resumed.ranks[expert]).all() for expert in again.ranks)
    assert (resumed.ranks["shared_model"] > 0).sum() > 300
    afresh = retrain(tmp_path / "elsewhere")
    assert (afresh.ranks["served"] == resumed.ranks["served"]).all()


def test_intervals_are_over_people() -> None:
    users = np.repeat(np.arange(40), 25).astype(np.int32)
    by_person = (users % 2).astype(np.float64)  # all of a person's interactions alike: forty facts, not a thousand
    interval = Bootstrap(users, draws=2_000).mean(by_person)
    assert interval.value == 0.5
    assert 0.27 < (interval.high - interval.low) < 0.35  # 2 * 1.96 * sqrt(.25 / 40) = 0.31
    assert gains(np.array([0, MISSED]))["hit_rate_10"].tolist() == [0.0, 0.0]


def test_a_finished_contender_is_not_run_again(tmp_path: Path) -> None:
    records, ran = Records(tmp_path / "state"), []

    def make() -> Outcome:
        ran.append(1)
        return Outcome({"served": np.array([1, 2])}, 1.5, 2.5, {"refits": 3})

    first, second = records.once("a", make), records.once("a", make)
    assert (len(ran), first[1], second[1]) == (1, False, True)
    assert second[0].ranks["served"].tolist() == [1, 2]
    assert (second[0].train_s, second[0].cpu_s, second[0].facts) == (1.5, 2.5, {"refits": 3})
    assert [path.name for path in (tmp_path / "state").iterdir()] == ["a.npz"]
    save_outcome(tmp_path / "b.npz", second[0])
    assert load_outcome(tmp_path / "b.npz").facts == {"refits": 3}
