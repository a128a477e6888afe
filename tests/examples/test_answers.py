import json
from pathlib import Path

import numpy as np

from examples.answers.run import main, read_topics


def test_what_was_written_is_whole_and_no_question_is_both_learned_and_asked() -> None:
    topics = read_topics(None)

    answers = [answer["answer_id"] for known, _ in topics for answer in known]
    assert len(topics) == 8
    assert len(answers) == len(set(answers)) == 40
    by_part: dict[str, list[str]] = {"learn": [], "test": []}
    for _, questions in topics:
        for question in questions:
            by_part[question["part"]].append(question["question"].lower())
    assert len(by_part["learn"]) == 400
    assert len(by_part["test"]) == 80
    assert not set(by_part["learn"]) & set(by_part["test"])


def test_replay_keeps_old_topics_that_are_lost_without_it(tmp_path: Path) -> None:
    main(["--toy", "--seeds", "2", "--out", str(tmp_path)])

    found = json.loads((tmp_path / "answers.json").read_text())
    last = {way: np.mean([np.mean(matrix[-1]) for matrix in found[way]]) for way in ("replay", "naive")}
    assert last["replay"] > last["naive"]
    assert all(len(matrix[place]) == place + 1 for matrix in found["replay"] for place in range(3))
    assert (tmp_path / "answers.png").stat().st_size > 5_000
