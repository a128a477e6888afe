"""Checks that every continual-learning strategy passes."""

import dataclasses
import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch

from learners.disk import sha256_of
from learners.errors import DivergedError, InvalidModelConfigError, InvalidRoundInputError, UnknownStrategyError
from learners.learner import Learner
from learners.releases.release import load_kept, load_release
from learners.replay.buffers import ReplayBuffer
from learners.rounds.material import RoundConfig, RoundInput
from learners.rounds.process import RoundProcess
from learners.rounds.round import RoundResult, run_round
from learners.rounds.triggers import Trigger
from learners.strategies import STRATEGIES, Strategy, strategy_named
from tests.learners.rounds_data import SHAPE, ring, walks
from tests.learners.stream_data import CONFIG, catalog, stream
from tests.waiting import wait_until

ITEMS, ROWS = 24, 96
TRAINS = [name for name, strategy in STRATEGIES.items() if strategy.trains]
SETTINGS = {"window": {"interactions": 300}, "recency": {"interactions": 64}, "ewc": {"samples": 24}}
TRAINING = RoundConfig(epochs=3, first_epochs=12, learning_rate=4e-3, first_learning_rate=1e-2)


@pytest.fixture(params=TRAINS)
def name(request: pytest.FixtureRequest) -> str:
    """The name of a strategy that trains, if what it needs is installed."""
    if request.param == "lora":
        pytest.importorskip("peft", reason="the adapters extra is not installed")
    return str(request.param)


def training(name: str, **changes: object) -> RoundConfig:
    """A short round's settings."""
    return dataclasses.replace(TRAINING, strategy=name, strategy_settings=SETTINGS.get(name, {}), **changes)


def filled(strategy: Strategy, *, step: int = 1, seed: int = 50) -> ReplayBuffer:
    """The strategy's buffer after walks around the ring, with a model's opinion of each."""
    rng = np.random.default_rng(seed)
    buffer = strategy.buffer(capacity=96, length=SHAPE.history_length, rng=rng)
    arrival = 0
    for number, walk in enumerate(walks(60, items=ITEMS, seed=seed, step=step).tolist()):
        items = [item for item in walk if item]
        for place, item in enumerate(items):
            arrival += 1
            logits = rng.normal(size=ITEMS + 1).astype(np.float32)
            logits[item] = 4.0
            buffer.add(
                f"user-{number}", items[:place], item, time_ms=arrival, band=item % 4, arrival=arrival, logits=logits
            )
    return buffer


def material(name: str, *, incumbent: Path | None = None, items: int = ITEMS, epochs: int = 3) -> RoundInput:
    """A round's input as the learner makes it: walks that are new, and what the strategy's buffer adds."""
    strategy = strategy_named(name, SETTINGS.get(name))
    given = ring(items=items, rows=ROWS, seed=1, training=training(name, epochs=epochs), incumbent=incumbent)
    rows = 0 if incumbent is None else 32
    found = strategy.material(given.tokens, given.loss_mask, filled(strategy), rows=rows)
    return dataclasses.replace(
        given,
        tokens=found.tokens,
        loss_mask=found.mask,
        weight=np.ones(len(found.tokens), np.float32),
        replayed=np.arange(len(found.tokens)) >= len(found.tokens) - found.replayed,
        extras=found.extras,
    )


def out(folder: Path) -> Path:
    folder.mkdir()
    return folder


def weights(result: RoundResult) -> dict[str, str]:
    """The checksum of everything that a candidate holds."""
    assert result.candidate is not None
    files = json.loads((result.candidate / "manifest.json").read_bytes())["files"]
    return {name: entry["sha256"] for name, entry in files.items()}


def contents(folder: Path) -> dict[str, str]:
    return {path.name: sha256_of(path.read_bytes()) for path in folder.iterdir()}


@pytest.fixture(scope="module")
def incumbent_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """A strategy's first release, made once: it has seen the first half of the ring's people only."""
    made: dict[str, Path] = {}

    def incumbent(name: str) -> Path:
        if name not in made:
            little = dataclasses.replace(training(name), first_epochs=3)
            given = dataclasses.replace(material(name), training=little)
            result = run_round(given, tmp_path_factory.mktemp(f"first-{len(made)}"))
            assert result.candidate is not None
            made[name] = result.candidate
        return made[name]

    return incumbent


@pytest.fixture(scope="module")
def second_of(
    incumbent_of: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str], RoundResult]:
    """A strategy's second round, made once, without interruption."""
    made: dict[str, RoundResult] = {}

    def second(name: str) -> RoundResult:
        if name not in made:
            folder = tmp_path_factory.mktemp(f"second-{len(made)}")
            made[name] = run_round(material(name, incumbent=incumbent_of(name)), folder)
        return made[name]

    return second


def test_a_round_improves_on_a_planted_pattern(name: str, second_of: Callable[[str], RoundResult]) -> None:
    result = second_of(name)
    figures = result.verdict["evidence"]
    assert figures["candidate"]["newest"]["ndcg_10"] > figures["incumbent"]["newest"]["ndcg_10"] + 0.02
    assert result.training["strategy"] == name


def test_one_seed_gives_the_same_weights_though_the_round_was_interrupted_and_another_seed_gives_others(
    name: str, incumbent_of: Callable[[str], Path], second_of: Callable[[str], RoundResult], tmp_path: Path
) -> None:
    """The round is stopped dead after a few steps and begun again from its input on disk, as the learner does."""
    before = contents(incumbent_of(name))
    given = material(name, incumbent=incumbent_of(name))
    given.save(tmp_path / "input")

    def dies(step: int, steps: int) -> None:
        if step >= 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_round(RoundInput.load(tmp_path / "input"), out(tmp_path / "dead"), beat=dies)
    assert list((tmp_path / "dead").iterdir()) == []
    torch.rand(7)  # whatever else the process does meanwhile
    again = run_round(RoundInput.load(tmp_path / "input"), out(tmp_path / "again"))
    assert weights(again) == weights(second_of(name))
    other = run_round(dataclasses.replace(given, seed=4), out(tmp_path / "other"))
    assert weights(other) != weights(again)
    assert contents(incumbent_of(name)) == before


def test_no_two_strategies_are_the_same(second_of: Callable[[str], RoundResult]) -> None:
    pytest.importorskip("peft", reason="the adapters extra is not installed")
    found = {name: weights(second_of(name))["model.safetensors"] for name in TRAINS}
    assert len(set(found.values())) == len(TRAINS), found


@pytest.mark.parametrize("name", ["default", "ewc"])
def test_a_child_that_was_killed_and_repeated_ends_as_if_it_had_not_been(
    name: str, incumbent_of: Callable[[str], Path], tmp_path: Path
) -> None:
    incumbent = incumbent_of(name)
    longer = dataclasses.replace(material(name, incumbent=incumbent), training=training(name, epochs=30))
    longer.save(tmp_path / "input")
    process = RoundProcess(tmp_path / "input", tmp_path / "killed").start()
    wait_until(lambda: process.progress()[0] > 0)
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed").exists()
    repeated, whole = (
        # both in a child: this process may train on more threads, and sums in another order differ in their last bits
        RoundProcess(tmp_path / "input", tmp_path / name).start().result()
        for name in ("repeated", "whole")
    )
    assert weights(repeated) == weights(whole)


def test_what_a_strategy_keeps_survives_saving_and_reaches_the_next_round(
    name: str, incumbent_of: Callable[[str], Path], tmp_path: Path
) -> None:
    kept = load_kept(incumbent_of(name))
    assert bool(kept) == (name == "ewc")
    grown = run_round(material(name, incumbent=incumbent_of(name), items=300, epochs=1), out(tmp_path / "grown"))
    assert grown.candidate is not None
    after = load_kept(grown.candidate)
    model = load_release(grown.candidate).model
    assert {key.removeprefix("fisher."): value.shape for key, value in after.items()} == (
        {key: value.shape for key, value in model.named_parameters()} if kept else {}
    )
    assert set(model.state_dict()) == set(load_release(incumbent_of(name)).model.state_dict())


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_buffer_survives_saving(name: str) -> None:
    strategy = strategy_named(name, SETTINGS.get(name))
    first, second = filled(strategy), filled(strategy, seed=51)
    second.set_state(first.get_state())
    again = strategy.buffer(capacity=96, length=SHAPE.history_length, rng=np.random.default_rng(9))
    again.set_state(second.get_state())
    assert len(again) == len(first) > 0
    assert again.user_ids() == first.user_ids()
    for key, values in first.draw(len(first)).items():
        assert sorted(map(str, again.draw(len(first))[key].tolist())) == sorted(map(str, values.tolist()))


def test_a_learning_rate_that_diverges_is_said_and_nothing_is_written(
    name: str, incumbent_of: Callable[[str], Path], tmp_path: Path
) -> None:
    incumbent = incumbent_of(name)
    before = contents(incumbent)
    wild = training(name, learning_rate=1e20, first_learning_rate=1e20, max_grad_norm=1e30, weight_decay=0.0)
    with pytest.raises(DivergedError):
        run_round(dataclasses.replace(material(name, incumbent=incumbent), training=wild), out(tmp_path / "a"))
    assert list((tmp_path / "a").iterdir()) == []
    assert contents(incumbent) == before


def test_features_that_are_not_numbers_are_refused_by_name(name: str, incumbent_of: Callable[[str], Path]) -> None:
    given = material(name, incumbent=incumbent_of(name))
    broken = given.text_vectors.copy()
    broken[3, 2] = np.nan
    with pytest.raises(InvalidRoundInputError, match="round input text_vectors is not finite"):
        dataclasses.replace(given, text_vectors=broken)


def with_rows(name: str, tokens: npt.NDArray[np.int32], incumbent: Path | None, *, items: int = ITEMS) -> RoundInput:
    """A round of these new rows alone, whatever the strategy."""
    given = ring(items=items, rows=ROWS, training=training(name, first_epochs=1), incumbent=incumbent)
    return dataclasses.replace(
        given,
        tokens=tokens,
        loss_mask=tokens[:, 1:] > 0,
        weight=np.ones(len(tokens), np.float32),
        replayed=np.zeros(len(tokens), np.bool_),
    )


def test_an_empty_round_says_so(name: str, incumbent_of: Callable[[str], Path], tmp_path: Path) -> None:
    nothing = with_rows(name, np.zeros((0, SHAPE.history_length + 1), np.int32), incumbent_of(name))
    result = run_round(nothing, out(tmp_path / "a"))
    assert (result.outcome, result.candidate) == ("empty", None)


@pytest.mark.parametrize("walk", [[1, 2, 3, 4], [5, 5, 5, 5], [7]], ids=["one user", "one item", "one interaction"])
def test_the_smallest_rounds_end_in_a_verdict(
    name: str, walk: list[int], incumbent_of: Callable[[str], Path], tmp_path: Path
) -> None:
    incumbent = incumbent_of(name)
    before = contents(incumbent)
    tokens = np.zeros((1, SHAPE.history_length + 1), np.int32)
    tokens[0, -len(walk) :] = walk
    for label, given in (("next", with_rows(name, tokens, incumbent)), ("first", with_rows(name, tokens, None))):
        result = run_round(given, out(tmp_path / label))
        assert result.outcome in {"passed", "refused"}
        assert result.verdict["reasons"]
        assert result.candidate is not None
        assert np.isfinite(load_release(result.candidate).item_matrix).all()
    assert contents(incumbent) == before


def test_a_round_of_new_items_alone_ranks_them(name: str, incumbent_of: Callable[[str], Path], tmp_path: Path) -> None:
    shifted = walks(ROWS, items=ITEMS, seed=5)
    tokens = np.where(shifted > 0, shifted + ITEMS, 0).astype(np.int32)
    given = with_rows(name, tokens, incumbent_of(name), items=2 * ITEMS)
    result = run_round(given, out(tmp_path / "a"))
    assert result.candidate is not None
    candidate = load_release(result.candidate)
    assert candidate.item_matrix.shape == (2 * ITEMS + 1, SHAPE.width)
    scores = candidate.encode_users([tokens[0]]) @ candidate.item_matrix.T
    assert scores[0, ITEMS + 1 :].max() > scores[0, 1 : ITEMS + 1].max()


@pytest.mark.parametrize("name", STRATEGIES)
def test_a_learner_goes_on_after_a_restart_as_if_there_had_been_none(name: str, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, training=training(name))
    whole, first, second = (Learner(catalog=catalog(), config=config, seed=seed) for seed in (5, 5, 6))
    whole.observe(stream(500))
    first.observe(stream(250))
    first.save(tmp_path / "state")
    second.load(tmp_path / "state", release_of=lambda _: None)
    second.observe(stream(250, start=250))
    assert (whole.due(0) is None) == (second.due(0) is None) == (not STRATEGIES[name].trains)
    assert whole.replay.get_state().keys() == second.replay.get_state().keys()
    assert whole.replay.sample(40).tolist() == second.replay.sample(40).tolist()


@pytest.mark.parametrize("name", [name for name, strategy in STRATEGIES.items() if strategy.replays])
def test_nothing_that_the_gate_will_judge_by_is_replayed(name: str) -> None:
    learner = Learner(catalog=catalog(), config=dataclasses.replace(CONFIG, training=training(name)), seed=5)
    learner.observe(stream(400))
    given = learner.round_input(
        Trigger("count", 1, 0), text_vectors=np.zeros((0, SHAPE.text_width), np.float32), incumbent=Path("any")
    )
    replayed = {tuple(row) for row in given.tokens[given.replayed].tolist()}
    held_out = np.concatenate([given.newest_histories, given.newest_targets[:, None]], axis=1)
    assert len(replayed) > 10
    assert not replayed & {tuple(row) for row in held_out.tolist() if sum(map(bool, row)) > 5}  # short ones may repeat


@pytest.mark.parametrize(("before", "after"), [("default", "retrain"), ("retrain", "der++"), ("recency", "default")])
def test_another_strategy_takes_over_what_the_last_one_remembered(before: str, after: str, tmp_path: Path) -> None:
    first, second = (
        Learner(catalog=catalog(), config=dataclasses.replace(CONFIG, training=training(name)), seed=5)
        for name in (before, after)
    )
    first.observe(stream(200))
    first.save(tmp_path / "state")
    second.load(tmp_path / "state", release_of=lambda _: None)
    assert 0 < len(second.replay) <= len(first.replay)
    assert second.replay.user_ids() <= first.replay.user_ids()
    assert second.forget("user-3", 2**62) > 0
    assert "user-3" not in second.replay.user_ids()


def test_a_name_or_setting_that_does_not_exist_is_refused() -> None:
    with pytest.raises(UnknownStrategyError, match=r"'magic'; expected one of default, naive.*text_augmentation"):
        strategy_named("magic")
    with pytest.raises(InvalidModelConfigError, match=r"strength', or|strategy 'ewc' is 'x'; expected one of strength"):
        strategy_named("ewc", {"x": 1})
    with pytest.raises(InvalidModelConfigError, match=r"ewc\.strength is -1; expected above 0"):
        strategy_named("ewc", {"strength": -1})


@pytest.mark.parametrize("name", STRATEGIES)
def test_every_strategy_names_its_source(name: str) -> None:
    assert "Source:" in (STRATEGIES[name].__doc__ or "")
