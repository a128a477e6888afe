import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks.sessions.data import Periods, Sessions
from benchmarks.sessions.errors import OtherRunError
from benchmarks.sessions.examination import WHO, Examined, weights_from
from benchmarks.sessions.fast_memory import FastMemory, MemoryConfig
from benchmarks.sessions.run import Run, RunConfig, full_retraining, questions_of_test
from benchmarks.sessions.shared_model import TrainingConfig
from benchmarks.sessions.state import claim
from benchmarks.sessions.toy import toy_periods

SMALL = RunConfig(
    memory=MemoryConfig(rank=16),
    training=TrainingConfig(width=16, max_epochs=2),
    lesson_questions=100,
    frozen_questions=20,
)
ALONE = replace(SMALL, with_model=False)
CPU = torch.device("cpu")


def run(periods: Periods, folder: Path, config: RunConfig = SMALL, *, seed: int = 0) -> Run:
    return Run(periods, config, seed=seed, folder=folder, device=CPU, say=lambda line: None)


def without_seconds(figures: list[dict[str, object]]) -> list[dict[str, object]]:
    kept = json.loads(json.dumps(figures))
    for one in kept:
        one.pop("seconds")
        one["training"].pop("seconds")
    return kept  # type: ignore[no-any-return]


def test_a_run_stopped_after_each_update_ends_as_an_uninterrupted_one(tmp_path: Path) -> None:
    periods = toy_periods()
    whole = run(periods, tmp_path / "whole").updates(3)
    for count in (1, 2, 3):
        stopped = run(periods, tmp_path / "stopped").updates(count)
    assert without_seconds(stopped) == without_seconds(whole)


def test_finished_updates_are_not_computed_again(tmp_path: Path) -> None:
    periods = toy_periods()
    first = run(periods, tmp_path).updates(2)
    assert run(periods, tmp_path).updates(2) == first  # seconds too: they were read, not measured


def test_a_stop_between_the_state_and_the_figures_repeats_that_update(tmp_path: Path) -> None:
    periods = toy_periods()
    whole = run(periods, tmp_path / "whole").updates(2)
    run(periods, tmp_path / "cut").updates(1)
    (tmp_path / "cut" / "state-02.pickle").write_bytes(b"half written, and no figures yet")
    assert without_seconds(run(periods, tmp_path / "cut").updates(2)) == without_seconds(whole)


def test_seeds_differ_in_the_shared_model(tmp_path: Path) -> None:
    periods = toy_periods()
    first, second = (run(periods, tmp_path / str(seed), seed=seed).updates(1)[0] for seed in (0, 1))
    assert first["training"]["losses"] != second["training"]["losses"]


def altered(periods: Periods, period: int, *, keep: int) -> Periods:
    """The same periods, but all of one period's sessions after the first `keep` walk backwards."""
    sessions = periods.sessions[period]
    items = sessions.items.copy()
    for start, stop in zip(sessions.starts[keep:-1], sessions.starts[keep + 1 :], strict=True):
        items[start:stop] = items[start:stop][::-1]
    parts = list(periods.sessions)
    parts[period] = Sessions(items, sessions.starts)
    return Periods(tuple(parts), periods.known)


@pytest.mark.parametrize("period", [1, 2])
def test_what_comes_later_in_a_test_period_changes_nothing_that_was_scored_before(tmp_path: Path, period: int) -> None:
    keep = 40
    places = {}
    for name, periods in (("as it was", toy_periods()), ("altered", altered(toy_periods(), period, keep=keep))):
        seen: list[dict[str, np.ndarray]] = []
        ranks = Examined.ranks

        def remember(self, asked, ranks=ranks, seen=seen):
            seen.append(ranks(self, asked))
            return seen[-1]

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Examined, "ranks", remember)
            one = run(periods, tmp_path / name)
            one.updates(period - 1)
            seen.clear()
            one.updates(period)
        asked = questions_of_test(periods, period, SMALL)
        unaltered = len(periods.sessions[period].take(np.arange(keep)).known_only(periods.known[period - 1]))
        places[name] = {who: found[asked.sessions < unaltered] for who, found in seen[0].items()}
    for who in WHO:
        assert len(places["as it was"][who]) > 50
        assert places["as it was"][who].tolist() == places["altered"][who].tolist(), who


def test_altered_sessions_do_change_what_is_scored_after_they_were_learned(tmp_path: Path) -> None:
    periods = toy_periods()
    before = run(periods, tmp_path / "a", ALONE).updates(2)[1]["fast_memory"]
    after = run(altered(periods, 1, keep=0), tmp_path / "b", ALONE).updates(2)[1]["fast_memory"]
    assert before != after


def test_fast_memory_knows_what_follows_in_a_shop_of_walks() -> None:
    periods = toy_periods()
    memory = FastMemory(SMALL.memory)
    memory.learn(periods.sessions[0], items=periods.known[0])
    examined = Examined(memory, None, *weights_from([], SMALL.experts, with_model=False))
    ranks = examined.ranks(questions_of_test(periods, 1, SMALL))["fast_memory"]
    assert (ranks <= 5).mean() > 0.95  # a group has six items, one of which is being looked at


def test_the_weights_learn_that_walks_go_forward(tmp_path: Path) -> None:
    mixture = run(toy_periods(), tmp_path).updates(2)[1]["mixture"]
    assert mixture["mrr_20"] > 95


def test_full_retraining_is_kept_and_learns_the_walks(tmp_path: Path) -> None:
    periods = toy_periods()
    config = replace(SMALL, training=TrainingConfig(width=16, max_epochs=40, batch_sessions=16, learning_rate=1e-2))
    found, again = (
        full_retraining(periods, [2], config, seed=0, folder=tmp_path, device=CPU, say=lambda line: None)
        for _ in range(2)
    )
    assert found == again
    assert found[0]["full_retraining"]["recall_10"] > 90
    assert found[0]["training"]["seconds"] > 0


def test_a_folder_of_another_run_is_refused(tmp_path: Path) -> None:
    claim(tmp_path, toy_periods(), SMALL)
    claim(tmp_path, toy_periods(), SMALL)
    with pytest.raises(OtherRunError, match="data"):
        claim(tmp_path, toy_periods(seed=1), SMALL)
    with pytest.raises(OtherRunError, match="settings"):
        claim(tmp_path, toy_periods(), replace(SMALL, lessons=1))


def test_vectors_must_fit_the_network() -> None:
    with pytest.raises(ValueError, match="width 16"):
        RunConfig(memory=MemoryConfig(rank=8), training=TrainingConfig(width=16))
