"""A declaration says what is wrong with it; an example that is wrong is a value."""

from pathlib import Path
from typing import Any

import pytest

from learners.tasks.errors import InvalidTaskError
from learners.tasks.examples import Example, RejectedExample
from learners.tasks.task import Task
from tests.learners.tasks.tasks_data import pair_task, topic_task

DECLARATION = """
name = "search-relevance"
kind = "pair"
inputs = ["query", "title"]
target = "relevance"
[head]
interaction = "cross"
hidden = 64
[training]
encoder = "lora"
rank = 4
"""
PLAIN = {"name": "t", "kind": "classify", "inputs": ["text"], "target": "label", "classes": ["a", "b"]}


def test_a_file_is_read_with_defaults_for_what_it_leaves_out(tmp_path: Path):
    (tmp_path / "task.toml").write_text(DECLARATION)
    task = Task.from_toml(tmp_path / "task.toml")
    assert (task.key, task.inputs, task.loss) == ("pair/search-relevance", ("query", "title"), "mse")
    assert (task.head.interaction, task.head.pooling, task.training.rank) == ("cross", "attention", 4)
    assert Task.from_dict(task.as_dict()) == task


@pytest.mark.parametrize(
    ("changed", "name"),
    [
        ({"name": "two words"}, "name"),
        ({"kind": "guess"}, "kind"),
        ({"inputs": "text"}, "inputs"),
        ({"inputs": 5}, "inputs"),
        ({"classes": {"a": 1, "b": 2}}, "classes"),
        ({"inputs": [], "numbers": []}, "inputs"),
        ({"inputs": ["text", "text"]}, "inputs"),
        ({"target": "text"}, "target"),
        ({"classes": ["a"]}, "classes"),
        ({"classes": ["a", "a"]}, "classes"),
        ({"kind": "score"}, "classes"),
        ({"kind": "pair", "classes": []}, "inputs"),
        ({"wrong": 1}, "wrong"),
        ({"text_encoder": ""}, "text_encoder"),
        ({"head": {"pooling": "median"}}, "head.pooling"),
        ({"head": {"layers": 0}}, "head.layers"),
        ({"head": {"dropout": 1.0}}, "head.dropout"),
        ({"head": 3}, "head"),
        ({"training": {"loss": "mse"}}, "training.loss"),
        ({"training": {"encoder": "half"}}, "training.encoder"),
        ({"training": {"hold_out": 0}}, "training.hold_out"),
        ({"training": {"learning_rate": -1}}, "training.learning_rate"),
        ({"training": {"learning_rate": "fast"}}, "training"),
        ({"training": {"lr": 1}}, "training.lr"),
    ],
)
def test_a_wrong_field_is_named(changed: dict[str, Any], name: str):
    with pytest.raises(InvalidTaskError) as caught:
        Task.from_dict({**PLAIN, **changed})
    assert caught.value.name == name


def test_a_file_that_is_no_toml_says_so(tmp_path: Path):
    (tmp_path / "task.toml").write_bytes(b"name = \xff")
    with pytest.raises(InvalidTaskError, match="readable TOML"):
        Task.from_toml(tmp_path / "task.toml")


def test_a_wrong_field_is_named_with_its_file(tmp_path: Path):
    path = tmp_path / "task.toml"
    path.write_text(DECLARATION.replace("pair", "pear"))
    with pytest.raises(InvalidTaskError) as caught:
        Task.from_toml(path)
    assert str(caught.value).startswith(f"{path}: task's kind is 'pear'; expected one of ")


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"topic": "garden"}, "title"),
        ({"title": "", "topic": "garden"}, "title"),
        ({"title": 7, "topic": "garden"}, "title"),
        ({"title": "spade"}, "topic"),
        ({"title": "spade", "topic": "sea"}, "topic"),
    ],
)
def test_a_wrong_example_is_a_value_with_its_reason(values: dict[str, Any], field: str):
    found = topic_task().validate(values)
    assert isinstance(found, RejectedExample)
    assert found.field == field
    assert field in found.reason


@pytest.mark.parametrize("label", [float("nan"), float("inf"), True, "3", 1e16])
def test_a_label_that_is_no_number_is_rejected(label: Any):
    found = pair_task().validate({"query": "mug", "title": "mug", "relevance": label})
    assert isinstance(found, RejectedExample)


def test_an_unlabelled_example_is_good_enough_to_predict():
    assert isinstance(topic_task().validate({"title": "spade"}, labelled=False), Example)


def test_half_a_surrogate_pair_and_chinese_text_pass():
    found = topic_task().validate({"title": "\ud83d 红色马克杯", "topic": "kitchen"})
    assert isinstance(found, Example)
    assert "红色马克杯" in found.texts[0]
    assert found.texts[0].encode()
