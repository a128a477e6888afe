import json
from pathlib import Path

import numpy as np
import pytest

from examples.common import read_lines
from examples.triage.run import HERE, WARNING, accuracy, main, read_departments, split
from learners.tasks.backbones import HashBackbone
from learners.tasks.model import TaskModel
from learners.tasks.task import Task


def test_every_department_has_eight_different_messages_of_each_urgency() -> None:
    rows = read_lines(HERE / "data" / "messages.jsonl")

    assert len({row["message"] for row in rows}) == len(rows) == 192
    for department in {row["department"] for row in rows}:
        urgencies = [row["urgency"] for row in rows if row["department"] == department]
        assert {name: urgencies.count(name) for name in ("now", "soon", "later")} == dict.fromkeys(urgencies, 8)


def test_shots_and_what_judges_are_different_messages() -> None:
    messages = read_departments(Task.from_toml(HERE / "task.toml"))["heart"]

    seen, rest = split(messages, 5, np.random.default_rng(0))

    shots = [message.texts for of_class in seen for message in of_class]
    assert (len(shots), len(rest)) == (15, 9)
    assert not set(shots) & {message.texts for message in rest}


def test_an_untrained_model_is_right_as_often_as_a_guess() -> None:
    task = Task.from_toml(HERE / "task.toml")
    model = TaskModel(task, HashBackbone(width=16)).eval()

    assert accuracy(model, read_departments(task)["eyes"]) == pytest.approx(1 / 3)


def test_the_warning_is_the_first_and_the_last_thing_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["--toy", "--seeds", "1", "--out", str(tmp_path)])

    said = capsys.readouterr().out.splitlines()
    assert said[0] == said[-1] == WARNING
    assert "not medical advice" in (HERE / "README.md").read_text().splitlines()[2].lower()
    found = json.loads((tmp_path / "triage.json").read_text())
    assert found["scratch"]["0"][0] == pytest.approx(1 / 3)
    assert found["meta"]["0"][0] > 1 / 3
    assert (tmp_path / "triage.png").stat().st_size > 5_000
