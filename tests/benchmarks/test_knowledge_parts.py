"""The parts of `bench reuse` and `bench share` have known answers."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import reuse, share
from benchmarks.knowledge_parts.common import TOY, once
from benchmarks.knowledge_parts.ensembles import through_change
from benchmarks.knowledge_parts.errors import LogMissingError, SeedsError
from benchmarks.knowledge_parts.fusions import first_weights, seed_model
from benchmarks.knowledge_parts.log import HOME, OPENING_MS, Log, online_retail, toy_world
from benchmarks.knowledge_parts.markets import Market, markets_of
from benchmarks.knowledge_parts.rows import cases, round_of, training_rows
from benchmarks.knowledge_parts.shops import shops_of, together
from learners.knowledge.opinions import Opinions, chosen_weights
from learners.knowledge.sharing import Member, assembled, fused_items
from learners.model import SharedModel
from learners.releases.release import LoadedRelease
from learners.rounds.material import RoundInput


def log_of(users: list[int], items: list[int], places: list[int] | None = None, *, catalogue: int = 20) -> Log:
    """One purchase a millisecond after the opening."""
    return Log(
        users=np.array(users, np.int32),
        items=np.array(items, np.int32),
        times_ms=OPENING_MS + np.arange(len(users), dtype=np.int64),
        places=np.array(places or [0] * len(users), np.int32),
        countries=[HOME, "Germany", "Italy", "Malta"],
        item_ids=["", *(f"i{number}" for number in range(1, catalogue))],
        texts=["", *(f"thing {number}" for number in range(1, catalogue))],
    )


# ---- rows


def test_every_purchase_is_the_target_of_one_row_behind_the_history_that_led_to_it() -> None:
    tokens, mask = training_rows(log_of([7] * 7, [1, 2, 3, 4, 5, 6, 7]), length=4)

    assert tokens.tolist() == [[0, 0, 0, 1, 2], [0, 1, 2, 3, 4], [2, 3, 4, 5, 6], [3, 4, 5, 6, 7]]
    assert tokens[:, 1:][mask].tolist() == [1, 2, 3, 4, 5, 6, 7]


def test_people_never_share_a_row() -> None:
    tokens, mask = training_rows(log_of([1, 2, 1, 2, 1], [1, 11, 2, 12, 3]), length=6)

    assert [[one for one in row if one] for row in tokens.tolist()] == [[1, 2, 3], [11, 12]]
    assert sorted(tokens[:, 1:][mask].tolist()) == [1, 2, 3, 11, 12]


def test_a_history_holds_what_came_before_learned_or_not_and_nothing_after() -> None:
    histories, targets = cases(log_of([1, 2, 1, 1, 2], [1, 11, 2, 3, 12]), 2, 5, length=2)

    assert histories.tolist() == [[0, 1], [1, 2], [0, 11]]
    assert targets.tolist() == [2, 3, 12]


# ---- markets


def test_markets_are_countries_and_regions_with_enough_customers_none_of_whom_ever_bought_at_home() -> None:
    people = [1, 2, 3, 4, 5, 6, 1]
    places = [1, 1, 2, 3, 1, 0, 0]  # person 1 buys in Germany and at home
    log = log_of(people, [1] * 7, places)

    found = {market.name: sorted(set(market.log.users.tolist())) for market in markets_of(log, least_people=2)}

    assert found == {"Germany": [2, 5], "Southern Europe": [3, 4]}
    assert markets_of(log, least_people=3) == []


def test_a_market_counts_only_what_was_bought_after_the_opening() -> None:
    log = log_of([2, 3, 2, 3], [1, 2, 3, 4], [1] * 4)
    early = replace(log, times_ms=log.times_ms - np.array([2, 2, 0, 0]))

    (market,) = markets_of(early, least_people=2)

    assert market.log.items.tolist() == [3, 4]
    assert market.first(1).log.items.tolist() == [3]
    assert market.first(None).log.items.tolist() == [3, 4]


def curve(**changes: list[float]) -> list[dict]:
    """A market of 1,000 events that can be learned, two seeds."""
    rows: list[dict] = [{"events": 0, "reuse": [0.1, 0.1]}]
    for events, scratch, store in ((100, 0.05, 0.12), (200, 0.1, 0.2), (1000, 0.2, 0.3)):
        row = {"events": events, "scratch": [scratch] * 2, "reuse": [store] * 2, "wrong": [scratch] * 2}
        rows.append(row | {"reuse_chosen": [True] * 2, "wrong_chosen": [False] * 2, "reuse_plan": [[0, 2e-3]] * 2})
    for name, values in changes.items():
        kind, events = name.rsplit("_", 1)
        next(row for row in rows if row["events"] == int(events))[kind] = values
    return rows


@pytest.mark.parametrize(
    ("changes", "needed", "fifth", "above"),
    [
        ({}, 200, True, True),
        ({"reuse_0": [0.2, 0.2]}, 0, True, True),
        ({"reuse_200": [0.25, 0.1]}, 1000, False, True),  # the mean of the seeds decides
        ({"reuse_100": [0.05, 0.05]}, 200, True, False),  # no better is not above
        ({"scratch_1000": [0.4, 0.4]}, None, False, True),
    ],
)
def test_a_market_meets_its_bars_by_the_mean_of_its_seeds(
    changes: dict[str, list[float]], needed: int | None, fifth: bool, above: bool
) -> None:
    bars = reuse._bars(curve(**changes), 1_000)

    assert (bars["events_needed"], bars["fifth_reaches"], bars["above_at_100"]) == (needed, fifth, above)
    assert bars["wrong_refused"] == [True] * 6


def test_a_market_that_learns_from_the_store_should_not_end_below_the_untouched_donor() -> None:
    assert reuse._bars(curve(), 1_000)["keeps_the_donor"]
    assert not reuse._bars(curve(reuse_0=[0.3, 0.4]), 1_000)["keeps_the_donor"]


def test_one_wrong_donor_that_is_taken_is_said() -> None:
    log = log_of([2] * 1429, [1] * 1429, [1] * 1429)
    market, seeds = Market("Germany", log), []
    for seed in range(2):
        rows = curve(wrong_chosen_100=[True, False])
        seeds.append(
            [{name: value if name == "events" else value[seed] for name, value in row.items()} for row in rows]
        )

    report = reuse.figures([market], {"Germany": seeds})

    assert market.learnable == 1_000
    assert report["wrong_refused"] == [5, 6]
    assert [holds for claim, holds in report["claims"].items() if "wrong donor" in claim] == [False]
    assert "| Germany | 1 | 1,000 |" in reuse.markdown(report)
    assert "5 of 6" in reuse.markdown(report)


# ---- shops


def test_shops_share_no_people_and_half_of_what_they_sell() -> None:
    log = toy_world({}, home_people=80)
    shops = shops_of(log, count=4, seed=1)

    people = [set(shop.log.users.tolist()) for shop in shops]
    assert sum(map(len, people)) == len(set.union(*people)) > 70
    common = np.all([shop.sells for shop in shops], axis=0)
    assert int(common.sum()) == 12
    for shop in shops:
        assert int(shop.sells.sum()) == 24
        assert shop.sells[shop.log.items].all()
        assert not shop.sells[0]
        assert (np.diff(shop.log.times_ms) >= 0).all()
    assert not any((a.sells & b.sells & ~common).any() for a in shops for b in shops if a is not b)
    assert len(shops_of(log, most_events=50)[2].log) == 50


def test_all_data_is_what_the_shops_learn_from_and_nothing_that_judges() -> None:
    shops = shops_of(toy_world({}, home_people=40), seed=0)

    log = together(shops)

    assert len(log) == sum(shop.cuts[0] for shop in shops)
    assert (np.diff(log.times_ms) >= 0).all()
    judging = {(int(u), int(t)) for shop in shops for u, t in zip(shop.log.users, shop.log.times_ms, strict=True)} - {
        (int(u), int(t))
        for shop in shops
        for u, t in zip(shop.log.users[: shop.cuts[0]], shop.log.times_ms[: shop.cuts[0]], strict=True)
    }
    assert not judging & {(int(u), int(t)) for u, t in zip(log.users, log.times_ms, strict=True)}


# ---- fusion


def any_round(items: int = 6) -> RoundInput:
    log = log_of([1, 1, 1, 1], [1, 2, 3, 4], catalogue=items)
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(items, 16)).astype(np.float32)
    return round_of(log, learn=(0, 3), judge=(3, 4), vectors=vectors, setting=TOY, training=TOY.training, seed=0)


def seed_of(round_input: RoundInput, numbers: float, sells: list[int]) -> Member:
    """A seed model whose item vectors all hold one number."""
    model = SharedModel(round_input.model, capacity=256)
    matrix = torch.full((len(round_input.item_ids), round_input.model.width), numbers)
    release = LoadedRelease(version=0, item_ids=round_input.item_ids, model=model, item_matrix=matrix, manifest={})
    return Member(release, {}, torch.isin(torch.arange(len(round_input.item_ids)), torch.tensor(sells)))


def test_items_of_two_shops_meet_half_way_and_others_stay_where_their_shop_had_them() -> None:
    round_input = any_round()
    seeds = [seed_of(round_input, 1.0, [1, 2]), seed_of(round_input, 3.0, [2, 3])]

    vectors = fused_items(seeds)

    assert vectors[:, 0].tolist() == [0.0, 1.0, 2.0, 3.0, 0.0, 0.0]
    release = assembled(seeds[0].trunk, vectors, round_input)
    assert np.allclose(release.item_matrix[1:4], vectors[1:4].numpy(), atol=1e-5)
    described = release.encode_new_items(round_input.text_vectors[4:])
    assert np.allclose(release.item_matrix[4:], described, atol=1e-6)  # nobody sold them: their text stands for them


def test_the_base_of_all_changes_is_what_every_shop_began_with(tmp_path: Path) -> None:
    still = replace(any_round(), training=replace(TOY.training, first_learning_rate=1e-12, first_epochs=1))

    base, trained = first_weights(still), seed_model(still, tmp_path / "seed").trunk

    assert base.keys() == trained.keys()
    assert all(torch.allclose(base[name], trained[name], atol=1e-6) for name in base)
    assert any((value != 0).any() for value in base.values())


# ---- ensembles


def opinions(right: list[int], *, events: int = 40, models: int = 2) -> Opinions:
    """Each event follows what one of the models says for sure; the others are as sure of something else."""
    rng = np.random.default_rng(len(right))
    true = torch.from_numpy(rng.integers(30, size=events))
    logits = [torch.from_numpy(rng.normal(size=(events, 30))).float() for _ in range(models)]
    for model, said in enumerate(logits):
        said[torch.arange(events), true if model in right else (true + 1 + model) % 30] += 12.0
    return Opinions(logits, [torch.ones(30, dtype=torch.bool)] * models, true)


def test_weights_go_to_who_was_right_and_follow_when_that_changes() -> None:
    before, after = opinions([0]), opinions([1], events=60)
    start = chosen_weights(before)
    assert start.values[0] > 0.9

    found = through_change(start, before, after)

    assert found["fixed"]["before"] == pytest.approx(1.0, abs=0.05)
    assert found["adaptive"]["before"] == pytest.approx(1.0, abs=0.05)
    assert found["adaptive"]["after"] > found["fixed"]["after"] + 0.1
    assert start.values[0] > 0.9  # what was chosen is not touched


def test_what_a_model_does_not_know_is_its_worst_loss() -> None:
    sure = torch.zeros(1, 4)
    sure[0, 2] = 9.0
    half = torch.tensor([True, True, False, False])
    found = Opinions([sure, sure], [torch.ones(4, dtype=torch.bool), half], torch.tensor([2])).losses()

    assert found[0][0] < 0.01
    assert found[0][1] == 1.0


# ---- reports


def methods(**values: list[float]) -> dict:
    """One run of `run_shops`."""
    changes = [{"fixed": {"before": 0.2, "after": 0.1}, "adaptive": {"before": 0.2, "after": 0.15}}] * 2
    base = {share.BEST: [0.1, 0.2], share.ALL: [0.2, 0.3]}
    return {"methods": base | values, "changes": changes}


def test_a_fused_model_has_to_be_above_the_best_single_one_at_every_shop_and_near_all_data() -> None:
    good = methods(soup=[0.2, 0.28], near=[0.09, 0.41], far=[0.11, 0.21])

    report = share.figures([good])

    assert report["met_by"] == ["soup"]
    assert report["methods"]["near"]["above_best_single"] is False
    assert report["methods"]["far"]["of_all_data"] == pytest.approx(0.64)
    assert all(report["claims"].values())
    assert "96.0%" in share.markdown(report)
    worse = share.figures([methods(far=[0.11, 0.21])])
    assert [holds for claim, holds in worse["claims"].items() if "fused" in claim] == [False]


def test_an_ensemble_of_four_models_is_not_one_model() -> None:
    assert share.figures([methods(**{"logits ensemble, equal weights": [0.4, 0.4]})])["met_by"] == []


# ---- what is given


def test_no_runs_and_no_data_are_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(SeedsError, match="--seeds is 0"):
        reuse.main(["--seeds", "0"])
    with pytest.raises(LogMissingError, match="--data-dir"):
        online_retail(tmp_path)


def test_what_is_finished_is_not_done_again(tmp_path: Path) -> None:
    calls: list[int] = []
    for _ in range(2):
        assert once(tmp_path / "deep" / "one.json", lambda: calls.append(1) or {"a": 1}) == {"a": 1}
    assert calls == [1]


def test_the_real_log_makes_seven_markets() -> None:
    folder = Path(__file__).resolve().parents[3] / "shared" / "data"
    if not (folder / "online_retail" / "events.parquet").is_file():
        pytest.skip("Online Retail is not there")

    markets = {market.name: market for market in markets_of(online_retail(folder))}

    assert set(markets) == {
        "Germany",
        "France",
        "Spain",
        "Belgium",
        "Switzerland",
        "Southern Europe",
        "Nordic",
    }
    assert all((market.log.times_ms >= OPENING_MS).all() for market in markets.values())
