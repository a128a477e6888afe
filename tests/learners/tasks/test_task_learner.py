"""Rounds of a task: it learns, replays, refuses what is worse, and resumes where it was."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.tasks.errors import CorruptTaskError, TaskNotFoundError
from learners.tasks.examples import Example
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task
from tests.learners.tasks.tasks_data import pair_rows, pair_task, price_rows, price_task, topic_rows, topic_task


def test_a_topic_is_learned_and_predicted_with_chances():
    learner = TaskLearner(topic_task(), seed=3)
    outcome = learner.learn(topic_rows(200))
    assert outcome.released, outcome.reason
    assert (outcome.learned, outcome.held_out, outcome.version) == (160, 40, 1)
    (said,) = learner.predict([{"title": "nice rake"}])
    assert said.value == "garden"
    assert sum(said.chances.values()) == pytest.approx(1.0, abs=1e-5)
    assert learner.evaluate(topic_rows(100, seed=9))["accuracy"] > 0.95


@pytest.mark.parametrize("encoder", ["lora", "full"])
def test_the_encoder_itself_can_learn(encoder: str):
    learner = TaskLearner(topic_task(encoder=encoder, rank=2, encoder_learning_rate=1e-2), seed=0)
    untouched = {name: value.clone() for name, value in learner.encoder.network().state_dict().items()}
    outcome = learner.learn(topic_rows(120))
    assert outcome.released, outcome.reason
    assert learner.evaluate(topic_rows(100, seed=9))["accuracy"] > 0.95
    assert any(name.startswith("adapter.") for name in learner.model.trained())
    for name, value in learner.encoder.network().state_dict().items():
        assert torch.equal(value, untouched[name])


def test_a_number_is_learned_from_words_and_numbers_some_of_them_missing():
    learner = TaskLearner(price_task(), seed=0)
    assert learner.learn(price_rows(400)).released
    found = learner.evaluate(price_rows(200, seed=9))
    assert found["rmse"] < 6  # the label's standard deviation is 27
    assert found["spearman"] > 0.9


def test_numbers_alone_are_enough():
    task = Task(name="risk", kind="classify", inputs=(), numbers=("debt",), target="bad", classes=("no", "yes"))
    rng = np.random.default_rng(0)
    rows = [{"debt": debt, "bad": "yes" if debt > 0 else "no"} for debt in rng.normal(size=300).tolist()]
    learner = TaskLearner(task, seed=0)
    assert learner.learn(rows).released
    assert learner.evaluate(rows)["auc"] > 0.98


@pytest.mark.parametrize(
    "changed",
    [
        {"head": {"interaction": "bi"}},
        {"head": {"hidden": 48, "layers": 2}},
        {"training": {"loss": "ranking"}},
        {"training": {"loss": "contrastive"}},
    ],
)
def test_a_pair_is_ranked_better_after_learning(changed: dict[str, Any]):
    learner = TaskLearner(pair_task(**changed), seed=0)
    before = learner.evaluate(pair_rows(200, seed=9))
    outcome = learner.learn(pair_rows(600))
    assert outcome.released, outcome.reason
    after = learner.evaluate(pair_rows(200, seed=9))
    assert after["ndcg_10"] > max(before["ndcg_10"], 0.97)
    if learner.task.loss == "mse":
        assert after["rmse"] < 0.4  # the label's standard deviation is 0.7


def test_a_cross_pair_is_read_as_one_text():
    rows = [
        {"query": filler, "title": word, "relevance": 1.0 + (word == "mug") + (filler == "red")}
        for word in ("mug", "hose")
        for filler in ("red", "old")
    ] * 30
    learner = TaskLearner(
        pair_task(head={"interaction": "cross"}, training={"epochs": 20, "learning_rate": 1e-2}), seed=0
    )
    assert learner.learn(rows).released
    assert learner.evaluate(rows)["rmse"] < 0.3


def test_an_untrained_pair_model_ranks_as_the_encoder_does():
    found = TaskLearner(pair_task(), seed=0).evaluate(pair_rows(100))
    assert found["ndcg_10"] > 0.9  # words in common are what the hash encoder sees


def test_equal_seeds_give_equal_models_and_others_do_not():
    learners = [TaskLearner(topic_task(encoder="lora", rank=2), seed=seed) for seed in (5, 5, 6)]
    for learner in learners:
        learner.learn(topic_rows(80))
    one, same, other = (learner.model.learned() for learner in learners)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


def test_wrong_labels_are_refused_and_the_incumbent_goes_on():
    learner = TaskLearner(topic_task(), seed=0)
    learner.learn(topic_rows(200))
    before = learner.model.learned()
    rows = topic_rows(200, seed=1)
    cut = 160  # the newest fifth judges, with the right labels
    swapped = {"kitchen": "garden", "garden": "kitchen"}
    wrong = [{**row, "topic": swapped[row["topic"]]} for row in rows[:cut]] * 4 + rows[cut:] * 4
    outcome = learner.learn(wrong)
    assert not outcome.released
    assert "newest" in outcome.reason
    assert learner.version == 1
    assert all(torch.equal(before[name], value) for name, value in learner.model.learned().items())


def test_a_round_that_diverges_keeps_the_incumbent():
    task = topic_task(learning_rate=1e30, max_grad_norm=1e30, epochs=20)
    learner = TaskLearner(task, seed=0)
    outcome = learner.learn(topic_rows(200))
    assert not outcome.released
    assert all(value.isfinite().all() for value in learner.model.learned().values())


def test_bad_examples_are_counted_with_their_reasons_and_the_rest_is_learned():
    learner = TaskLearner(topic_task(), seed=0)
    outcome = learner.learn([{"title": "", "topic": "garden"}, *topic_rows(100), {"title": "mug", "topic": "sea"}])
    assert outcome.released
    assert [each.field for each in outcome.rejected] == ["title", "topic"]
    said = learner.predict([{"title": None}, {"title": "red mug"}])
    assert said[0].value is None
    assert "title is missing" in said[0].rejected
    assert said[1].value == "kitchen"


def test_a_round_of_too_few_examples_changes_nothing():
    learner = TaskLearner(topic_task(), seed=0)
    outcome = learner.learn(topic_rows(2))
    assert not outcome.released
    assert "too few" in outcome.reason
    assert learner.rounds == 0


def test_replay_keeps_what_new_examples_no_longer_show():
    kitchen = [row for row in topic_rows(400) if row["topic"] == "kitchen"]
    learner = TaskLearner(topic_task(), seed=0)
    learner.learn(topic_rows(200))
    for seed in range(3):
        learner.learn(kitchen[seed * 40 : seed * 40 + 40])
    assert learner.evaluate(topic_rows(100, seed=9))["accuracy"] > 0.95


def test_what_was_saved_goes_on_as_if_nothing_had_happened(tmp_path: Path):
    learner = TaskLearner(topic_task(encoder="lora", rank=2), seed=4)
    learner.learn(topic_rows(80))
    learner.save(tmp_path / "task")
    again = TaskLearner.load(tmp_path / "task")
    for each in (learner, again):
        each.learn(topic_rows(80, seed=1))
    assert again.version == learner.version
    found, expected = again.model.learned(), learner.model.learned()
    assert all(torch.equal(found[name], expected[name]) for name in expected)
    learner.save(tmp_path / "task")
    assert len(list((tmp_path / "task").glob("save-*"))) == 1


def test_missing_numbers_survive_a_save(tmp_path: Path):
    learner = TaskLearner(price_task(epochs=2), seed=0)
    learner.learn(price_rows(60))
    learner.save(tmp_path)
    assert str(TaskLearner.load(tmp_path).memory.examples()) == str(learner.memory.examples())


def test_a_flipped_byte_is_noticed(tmp_path: Path):
    learner = TaskLearner(topic_task(), seed=0)
    learner.learn(topic_rows(60))
    learner.save(tmp_path)
    (file,) = tmp_path.glob("save-*/learned.safetensors")
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(CorruptTaskError, match="SHA-256"):
        TaskLearner.load(tmp_path)


def test_an_empty_folder_holds_no_task(tmp_path: Path):
    with pytest.raises(TaskNotFoundError):
        TaskLearner.load(tmp_path)


def owned(task: Task, rows: Sequence[dict[str, Any]]) -> list[Example]:
    """Every other example is Ada's, known since its place in ms."""
    checked = [each for each in map(task.validate, rows) if isinstance(each, Example)]
    return [
        replace(each, user_id="ada", known_at_ms=place) if place % 2 else each for place, each in enumerate(checked)
    ]


def test_whose_an_example_is_teaches_nothing_and_survives_a_save(tmp_path: Path):
    rows = topic_rows(60)
    plain, learner = (TaskLearner(topic_task(), seed=0) for _ in range(2))
    plain.learn(rows)
    learner.learn(owned(learner.task, rows))
    assert all((plain.model.learned()[name] == value).all() for name, value in learner.model.learned().items())
    learner.save(tmp_path)
    loaded = TaskLearner.load(tmp_path)
    assert loaded.get_state() == learner.get_state()
    assert loaded.memory.examples() == learner.memory.examples()
    assert {each.user_id for each in loaded.memory.examples()} == {"ada", None}


def test_a_checked_example_without_its_label_is_answered_but_not_learned():
    learner = TaskLearner(topic_task(), seed=0)
    unlabelled = [learner.task.validate({"title": "old rake"}, labelled=False)] * 3
    asked = [each for each in unlabelled if isinstance(each, Example)]
    assert [each.rejected for each in learner.predict(asked)] == [""] * 3
    outcome = learner.learn([*topic_rows(20), *asked])
    assert (outcome.learned + outcome.held_out, len(outcome.rejected)) == (20, 3)


def test_a_person_is_forgotten_up_to_a_time_and_what_serves_stays(tmp_path: Path):
    learner = TaskLearner(topic_task(), seed=0)
    learner.learn(owned(learner.task, topic_rows(60)))
    before = learner.model.learned()
    assert learner.forget("bob", until_ms=100) == 0
    assert learner.forget("ada", until_ms=39) == 20
    left = [*learner.memory.examples(), *learner.exam.examples()]
    assert sorted(each.known_at_ms for each in left if each.user_id) == list(range(41, 60, 2))
    assert learner.forget("ada", until_ms=100) == 10
    assert (len(learner.memory), len(learner.exam)) == (24, 6)
    assert all((before[name] == value).all() for name, value in learner.model.learned().items())
    assert learner.learn(topic_rows(60, seed=1)).replayed == 24
    learner.save(tmp_path)
    assert b"ada" not in b"".join(path.read_bytes() for path in tmp_path.rglob("state.json"))
