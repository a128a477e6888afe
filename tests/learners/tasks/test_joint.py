"""Joint rounds of several tasks: they share, each judges for itself, and one that refuses keeps all as they were."""

import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from learners.tasks import storage
from learners.tasks.config import HeadConfig, TrainingConfig
from learners.tasks.errors import CorruptTaskError, InvalidTaskError
from learners.tasks.examples import Example
from learners.tasks.joint import JointLearner
from learners.tasks.learner import TaskLearner
from learners.tasks.sharing import changing
from learners.tasks.task import Task
from tests.learners.tasks.tasks_data import pair_rows, pair_task, topic_rows, topic_task

COLOURS, THINGS = ("red", "blue"), ("pin", "mug", "chair")


def declared(name: str, **changed: Any) -> Task:
    """Of a text such as `blue mug 7`: `colour` is a class, `size` a number."""
    kind: dict[str, Any] = {"kind": "classify", "classes": COLOURS} if name.startswith("colour") else {"kind": "score"}
    training = {"epochs": 8, "batch": 16, "learning_rate": 1e-2, **changed.pop("training", {})}
    return Task(
        name=name,
        inputs=("text",),
        target=name,
        text_encoder="hash",
        head=HeadConfig(hidden=32),
        training=TrainingConfig(**training),
        **kind,
        **changed,
    )


def rows(count: int = 72, seed: int = 0) -> list[dict[str, Any]]:
    rng, found = np.random.default_rng(seed), []
    for number in range(count):
        colour, size = str(rng.choice(COLOURS)), int(rng.integers(3))
        found.append({"text": f"{colour} {THINGS[size]} {number}", "colour": colour, "size": float(size)})
    return found


def both(share: str = "trunk", seed: int = 0, **training: Any) -> JointLearner:
    return JointLearner([declared(name, training=training) for name in ("colour", "size")], seed=seed, share=share)


LORA = {"encoder": "lora", "rank": 2, "encoder_learning_rate": 1e-2}


@pytest.mark.parametrize(("share", "training"), [("trunk", {}), ("trunk", LORA), ("encoder", LORA)])
def test_tasks_of_the_same_rows_share_what_they_should_and_both_learn(share: str, training: dict[str, Any]):
    learner = both(share, **training)

    outcomes = learner.learn(rows(120))

    assert all(outcome.released for outcome in outcomes.values()), outcomes
    assert [(each.learned, each.held_out, each.version) for each in outcomes.values()] == [(96, 24, 1), (96, 24, 1)]
    colour, size = (learner.learners[name].model for name in ("colour", "size"))
    common = {id(value) for value in colour.trained().values()} & {id(value) for value in size.trained().values()}
    named = {name.split(".")[0] for name, value in colour.trained().items() if id(value) in common}
    assert named == {"trunk": {"pooling", "head"}, "encoder": set()}[share] | ({"adapter"} if training else set())
    last = list(colour.head.children())[-1]
    assert not common & {id(value) for value in last.parameters()}
    said = learner.predict([{"text": "blue chair 3"}, {"text": "red pin 5"}])
    assert [each.value for each in said["colour"]] == ["blue", "red"]
    large, small = (each.score for each in said["size"])
    assert large > small + 0.5
    found = learner.evaluate(rows(60, seed=9))
    assert found["colour"]["accuracy"] > 0.95
    assert found["size"]["rmse"] < 0.5  # the label's standard deviation is 0.8


def test_tasks_of_other_kinds_and_fields_share_one_adapter():
    settings = {"encoder": "lora", "rank": 2, "encoder_learning_rate": 5e-3}
    topic, relevance = topic_task(**settings), pair_task(training=settings)
    learner = JointLearner([topic, relevance], seed=0)

    outcomes = learner.learn({"topic": topic_rows(120), "relevance": pair_rows(240)})

    assert all(outcome.released for outcome in outcomes.values()), outcomes
    assert learner.learners["topic"].model.adapter is learner.learners["relevance"].model.adapter
    found = learner.evaluate({"topic": topic_rows(60, seed=9), "relevance": pair_rows(100, seed=9)})
    assert found["topic"]["accuracy"] > 0.95
    assert found["relevance"]["ndcg_10"] > 0.9


def test_rows_with_one_label_teach_that_task_and_rows_with_none_are_rejected_by_all():
    mixed = [{**row, ("size" if place % 2 else "colour"): None} for place, row in enumerate(rows(160))]
    learner = both()

    outcomes = learner.learn([*mixed, {"text": "red mug"}])

    assert [(each.learned, len(each.rejected)) for each in outcomes.values()] == [(64, 1), (64, 1)]
    assert all(outcome.released for outcome in outcomes.values()), outcomes


def test_one_task_that_becomes_worse_refuses_for_all_and_is_named():
    learner = both(learning_rate=3e-3)
    assert all(outcome.released for outcome in learner.learn(rows(200)).values())
    before = {name: value.clone() for name, value in changing(learner._models).items()}
    other = {"red": "blue", "blue": "red"}
    wrong = [{**row, "colour": other[row["colour"]]} for row in rows(160, seed=1)] * 4 + rows(40, seed=2) * 4

    outcomes = learner.learn(wrong)

    assert not any(outcome.released for outcome in outcomes.values())
    for outcome in outcomes.values():
        assert outcome.reason.startswith("colour refused: newest: gain"), outcome.reason
        assert "size refused" not in outcome.reason
    verdicts = [outcome.verdict for outcome in outcomes.values()]
    assert [verdict is not None and verdict.passed for verdict in verdicts] == [False, True]
    assert learner.version == 1
    assert all(torch.equal(before[name], value) for name, value in changing(learner._models).items())


@pytest.mark.parametrize("share", ["trunk", "encoder"])
def test_a_task_that_diverges_leaves_the_incumbents_of_all_as_they_were(share: str):
    lora = {"encoder": "lora", "rank": 2}
    wild = {"learning_rate": 1e30, "max_grad_norm": 1e30, "epochs": 30}
    tasks = [declared("colour", training=lora), declared("size", training=lora)]
    learner = JointLearner(tasks, seed=0, share=share)
    learner.learn(rows(120))
    before = {name: value.clone() for name, value in changing(learner._models).items()}
    spoilt = [declared("colour", training=lora), declared("size", training=lora | wild)]
    for task, each in zip(spoilt, learner.learners.values(), strict=True):
        each.model.task = each.task = task  # as if somebody had set a rate that no model survives

    outcomes = learner.learn(rows(120, seed=1))

    assert not any(outcome.released for outcome in outcomes.values())
    assert "size refused" in outcomes["colour"].reason
    for name, value in changing(learner._models).items():
        assert value.isfinite().all()
        assert torch.equal(value, before[name])
    assert learner.evaluate(rows(60, seed=9))["colour"]["accuracy"] > 0.9


def test_a_task_without_new_examples_replays_and_still_has_its_say():
    learner = both()
    learner.learn(rows(120))

    outcomes = learner.learn({"colour": rows(60, seed=1)})

    assert outcomes["colour"].released
    assert outcomes["size"].reason.endswith("too few examples: 0; at least 4 needed")
    assert (outcomes["size"].learned, outcomes["size"].replayed, outcomes["size"].version) == (0, 48, 2)
    assert outcomes["size"].verdict is not None
    assert outcomes["size"].verdict.evidence["targets"] == {"frozen": 24}


def test_a_task_all_of_whose_examples_were_forgotten_refuses_for_want_of_evidence():
    learner = both()
    adas = [replace(each, user_id="ada") for each in examples_of(learner, "size", rows(80))]
    learner.learn({"colour": rows(80), "size": adas})
    assert learner.forget("ada", until_ms=0) == 80

    outcomes = learner.learn({"colour": rows(80, seed=1)})

    assert not any(outcome.released for outcome in outcomes.values())
    assert "size refused: too little evidence: 0 targets" in outcomes["colour"].reason
    assert all(outcome.released for outcome in learner.learn(rows(80, seed=2)).values())


def examples_of(learner: JointLearner, name: str, given: list[dict[str, Any]]) -> list[Example]:
    checked = map(learner.learners[name].task.validate, given)
    return [each for each in checked if isinstance(each, Example)]


def test_a_task_that_comes_later_is_known_from_its_first_examples_on():
    learner = both()

    first = learner.learn({"colour": rows(120)})

    assert first["colour"].released
    assert first["size"].version == 0
    assert first["size"].verdict is None
    assert learner.predict({"size": [{"text": "red pin"}]})["size"][0].version == 0
    second = learner.learn({"size": rows(120, seed=1)})
    assert second["size"].released, second
    assert (second["size"].version, second["colour"].version, learner.version) == (1, 2, 2)
    assert learner.evaluate(rows(60, seed=9))["size"]["rmse"] < 0.6


def test_a_round_of_too_few_examples_changes_nothing():
    learner = both()
    outcomes = learner.learn(rows(2))
    assert not any(outcome.released for outcome in outcomes.values())
    assert all("too few" in outcome.reason for outcome in outcomes.values())
    assert learner.rounds == 0


def test_equal_seeds_give_equal_models_and_others_do_not():
    learners = [both(seed=seed) for seed in (5, 5, 6)]
    for learner in learners:
        learner.learn(rows())
    one, same, other = (changing(learner._models) for learner in learners)
    assert all(torch.equal(one[name], same[name]) for name in one)
    assert not all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.parametrize("share", ["trunk", "encoder"])
def test_what_was_saved_goes_on_as_if_nothing_had_happened(share: str, tmp_path: Path):
    learner = both(share, seed=4, **LORA)
    learner.learn(rows())
    learner.save(tmp_path / "joint")
    again = JointLearner.load(tmp_path / "joint")
    for each in (learner, again):
        each.learn(rows(seed=1))
    assert (again.version, again.rounds) == (learner.version, 2)
    found, expected = changing(again._models), changing(learner._models)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


@pytest.mark.parametrize("step", ["while files are written", "before the directory is whole", "before it counts"])
def test_a_save_that_is_killed_leaves_what_was_saved_before(step: str, tmp_path: Path):
    learner = both()
    learner.learn(rows())
    learner.save(tmp_path)
    before = learner.evaluate(rows(60, seed=9))
    learner.learn(rows(seed=1))

    assert _save_and_die(step, learner, tmp_path) == -signal.SIGKILL

    again = JointLearner.load(tmp_path)
    assert again.rounds == 1
    assert again.evaluate(rows(60, seed=9)) == before
    learner.save(tmp_path)
    assert JointLearner.load(tmp_path).rounds == 2
    assert len(list(tmp_path.glob("save-*"))) == 1
    assert not list(tmp_path.glob(".tmp-*"))


def _save_and_die(step: str, learner: JointLearner, folder: Path) -> int:
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        owner, name = {
            "while files are written": (Path, "write_text"),
            "before the directory is whole": (Path, "rename"),
            "before it counts": (storage, "write_whole"),
        }[step]
        setattr(owner, name, lambda *_arguments, **_options: os.kill(os.getpid(), signal.SIGKILL))
        learner.save(folder)
    finally:
        os._exit(0)  # the child must never go on as a second test run


def test_what_one_kind_of_learner_saved_the_other_refuses(tmp_path: Path):
    both().save(tmp_path / "joint")
    TaskLearner(declared("colour")).save(tmp_path / "one")
    with pytest.raises(CorruptTaskError, match="task"):
        TaskLearner.load(tmp_path / "joint")
    with pytest.raises(CorruptTaskError, match="tasks"):
        JointLearner.load(tmp_path / "one")


@pytest.mark.parametrize(
    ("tasks", "share", "said"),
    [
        ([declared("colour"), declared("colour")], "trunk", "name of its own"),
        ([declared("colour"), declared("size")], "encoder", "a frozen encoder has nothing"),
        ([declared("colour"), declared("size")], "head", "task's share is 'head'"),
        (
            [declared("colour", training=LORA), declared("size", training={**LORA, "rank": 4})],
            "encoder",
            "training.rank is 4; expected 2, as colour has it",
        ),
        ([declared("colour"), topic_task()], "trunk", "task's inputs is"),
        ([], "trunk", "at least one task"),
    ],
)
def test_tasks_that_cannot_share_are_refused_with_the_reason(tasks: list[Task], share: str, said: str):
    with pytest.raises(InvalidTaskError, match=said):
        JointLearner(tasks, share=share)


def test_examples_of_a_task_that_there_is_not_are_refused():
    with pytest.raises(InvalidTaskError, match="'shape'; expected one of colour, size"):
        both().learn({"shape": rows()})
