"""Customer-service answers: a learner takes up topic after topic and must not forget the old ones.

Eight topics arrive one after another, each with five new answers and ten questions for each to learn from. After each,
questions about every topic met so far, in words that were never learned, look for their answer. With replay (what a
learner does by default), without, and by similarity alone: the answer whose text is most like the question.
"""

import argparse
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from examples.common import canvas, leave, options_of, read_lines, show_table, spread
from learners.items.encoder import open_encoder
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task

HERE = Path(__file__).parent
WAYS = {"replay": "with replay", "naive": "without replay", "similar": "similarity alone"}

Row = dict[str, Any]
Topic = tuple[list[Row], list[Row]]  # answers and questions
Matrix = list[list[float]]  # after topic i: share of topic j's new questions that find their answer, j <= i


def main(arguments: list[str] | None = None) -> None:
    """Let topics arrive, print and draw what is kept."""
    options = options_of("answers", __doc__, arguments, seeds=5)
    topics = read_topics(3 if options.toy else None)
    found = {
        way: [similar(topics, options)]
        if way == "similar"
        else [arrive(topics, way, options, seed) for seed in options.seeds]
        for way in WAYS
    }
    rows = []
    for way, title in WAYS.items():
        last = [np.array(matrix[-1]) for matrix in found[way]]
        first = [np.array([matrix[place][place] for place in range(len(matrix))]) for matrix in found[way]]
        lost = [(then[:-1] - now[:-1]).mean() for then, now in zip(first, last, strict=True)]
        means = [[values.mean() for values in each] for each in (first, last)]
        rows.append([title, *map(spread, [*means, lost])])
    show_table(("way", "right when just learned", "right in the end", "lost on old topics"), rows)
    leave("answers", draw(found, [answers[0]["topic"] for answers, _ in topics]), found, options.out)


def read_topics(most: int | None) -> list[Topic]:
    """Return each topic's answers and questions, in the order of their arrival."""
    answers, questions = (read_lines(HERE / "data" / f"{name}.jsonl") for name in ("answers", "questions"))
    topics = []
    for name in list(dict.fromkeys(answer["topic"] for answer in answers))[:most]:
        own = [answer for answer in answers if answer["topic"] == name]
        known = {answer["answer_id"] for answer in own}
        topics.append((own, [question for question in questions if question["answer_id"] in known]))
    return topics


def arrive(topics: Sequence[Topic], way: str, options: argparse.Namespace, seed: int) -> Matrix:
    """Learn one topic after another; return what is right after each."""
    task = Task.from_toml(HERE / "task.toml")
    task = replace(task, text_encoder="hash" if options.toy else task.text_encoder)
    if way == "naive":
        task = replace(task, training=replace(task.training, replay=0.0))
    learner, rng = TaskLearner(task, seed=seed), np.random.default_rng(seed)
    matrix: Matrix = []
    refused = []
    for place, (answers, questions) in enumerate(topics):
        lessons = [question for question in questions if question["part"] == "learn"]
        outcome = learner.learn([lessons[number] for number in rng.permutation(len(lessons))])
        refused += [] if outcome.released else [answers[0]["topic"]]
        matrix.append([right(learner, asked) for _, asked in topics[: place + 1]])
    print(f"{WAYS[way]}, seed {seed}: the gate refused {', '.join(refused) or 'no round'}")
    return matrix


def right(learner: TaskLearner, questions: Sequence[Row]) -> float:
    """Return the share of a topic's new questions that get the right answer."""
    asked = [question for question in questions if question["part"] == "test"]
    said = [prediction.value for prediction in learner.predict(asked)]
    return float(np.mean([value == question["answer_id"] for value, question in zip(said, asked, strict=True)]))


def similar(topics: Sequence[Topic], options: argparse.Namespace) -> Matrix:
    """Return the same of who learns nothing: the known answer whose text is most like the question."""
    encoder = open_encoder("hash" if options.toy else "minilm")
    asked = [[question for question in questions if question["part"] == "test"] for _, questions in topics]
    vectors = [encoder.encode([question["question"] for question in each]) for each in asked]
    matrix: Matrix = []
    for place in range(len(topics)):
        known = [answer for answers, _ in topics[: place + 1] for answer in answers]
        answers = encoder.encode([answer["answer"] for answer in known])
        best = [(each @ answers.T).argmax(axis=1) for each in vectors[: place + 1]]
        matrix.append(
            [
                float(np.mean([known[number]["answer_id"] == question["answer_id"] for number, question in pairs]))
                for pairs in (list(zip(found, each, strict=True)) for found, each in zip(best, asked, strict=False))
            ]
        )
    return matrix


def draw(found: Mapping[str, list[Matrix]], names: Sequence[str]) -> Figure:
    """Left: mean over all topics so far. Right: the first topic alone, as others arrive."""
    figure, plots = canvas(2, width=9, height=3.6)
    for way, style in {"replay": "o-", "naive": "s-", "similar": "x:"}.items():
        everything = np.array([[np.mean(row) for row in matrix] for matrix in found[way]])
        oldest = np.array([[row[0] for row in matrix] for matrix in found[way]])
        for plot, values in zip(plots, (everything, oldest), strict=True):
            plot.plot(range(len(names)), values.mean(axis=0), style, label=WAYS[way])
            plot.fill_between(range(len(names)), values.min(axis=0), values.max(axis=0), alpha=0.2)
    for plot, title in zip(plots, ("all topics met so far", f"questions about {names[0]}"), strict=True):
        plot.set_xticks(range(len(names)), names, rotation=45, ha="right")
        plot.set(title=title, ylim=(0, 1.02), xlabel="newest topic")
    plots[0].set_ylabel("answer found at once")
    plots[0].legend(frameon=False, loc="lower left")
    return figure


if __name__ == "__main__":
    main()
