"""Financial opinion: two tasks over one encoder read posts as they come; a surge of bad opinion raises an alarm.

Topic and sentiment are learned together from labelled posts. Then posts arrive without labels. Each topic has a
detector (ADWIN, as for Alluvium's own drift) on how often somebody speaks badly of it. In the middle a surge of
negative posts on one topic is planted; the alarm has to come soon after it began, and none before.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from examples.common import canvas, leave, options_of, show_table, spread
from examples.opinion.posts import TOPICS, Newsroom, Post
from learners.quality.drift import Detector, DriftConfig
from learners.tasks.backbones import StateCache
from learners.tasks.joint import JointLearner
from learners.tasks.learner import TaskLearner
from learners.tasks.task import Task

HERE = Path(__file__).parent
LEARNED, STREAMED, SURGE, SURGING = 300, 900, range(500, 650), "housing"
IN_TIME = 75  # posts after the surge began within which the alarm must come
WATCH = DriftConfig(delta=0.002, block=4, warm_up=30, cooldown=400)  # warm-up ends after 120 posts
SMOOTH = 50  # posts of the figure's running mean

Said = list[tuple[str, str]]  # topic and sentiment of each post


def main(arguments: list[str] | None = None) -> None:
    """Learn, read the stream, print when the alarm came, draw what it saw."""
    options = options_of("opinion", __doc__, arguments, seeds=3)
    tasks = [Task.from_toml(HERE / f"{name}.toml") for name in ("topic", "sentiment")]
    if options.toy:
        tasks = [replace(task, text_encoder="hash") for task in tasks]
    runs = [run(tasks, seed) for seed in options.seeds]
    rows = []
    for way in ("joint", "apart"):
        right = [each["accuracy"][way] for each in runs]
        rows.append([way, spread([each[0] for each in right]), spread([each[1] for each in right])])
    show_table(("tasks learned", "topic right", "sentiment right"), rows)
    for seed, each in zip(options.seeds, runs, strict=True):
        print(f"seed {seed}: {verdict(each)}, {each['false']} false alarms")
    leave(
        "opinion", draw(runs[0]), {str(seed): each for seed, each in zip(options.seeds, runs, strict=True)}, options.out
    )


def verdict(found: Mapping[str, Any]) -> str:
    """Say when the alarm came, and when it would have come to a reader without fault."""
    if found["delay"] is None:
        return "NO alarm"
    late = "in time" if found["delay"] <= IN_TIME else "NOT in time"
    truth = found["delay_of_truth"]
    return f"alarm {found['delay']} posts after the surge began ({late}; with the true labels after {truth})"


def run(tasks: Sequence[Task], seed: int) -> dict[str, Any]:
    """Learn from one seed's posts, read its stream, and say what was right and when the alarm came."""
    news = Newsroom(seed)
    learn, stream = news.familiar(LEARNED), news.stream(STREAMED, surge=SURGE, topic=SURGING)
    cache = StateCache()
    together = JointLearner(tasks, seed=seed, share="trunk", cache=cache)
    together.learn(learn)
    apart = [TaskLearner(task, seed=seed, cache=cache) for task in tasks]
    for learner in apart:
        learner.learn(learn)
    accuracy, said = {}, {}
    for way, learners in {"joint": together.learners.values(), "apart": apart}.items():
        read = [[str(each.value) for each in learner.predict(stream)] for learner in learners]
        said[way] = list(zip(*read, strict=True))
        accuracy[way] = [
            float(np.mean([word == post[name] for word, post in zip(words, stream, strict=True)]))
            for words, name in zip(read, ("topic", "sentiment"), strict=True)
        ]
    alarms, truly = alarms_of(said["joint"]), alarms_of(true_words(stream))
    return {
        "accuracy": accuracy,
        "alarms": alarms,
        "delay": delay(alarms),
        "delay_of_truth": delay(truly),
        "false": sum(topic != SURGING or place not in SURGE for place, topic in alarms),
        "share": shares(said["joint"]),
    }


def alarms_of(said: Said) -> list[tuple[int, str]]:
    """Return after which posts, and on which topics, an alarm was raised."""
    detectors = {topic: Detector(WATCH) for topic in TOPICS}
    raised = []
    for place, (topic, sentiment) in enumerate(said):
        for watched, detector in detectors.items():
            found = detector.update(float(topic == watched and sentiment == "negative"), worse="higher")
            if found is not None and found[0] == "alarm":
                raised.append((place, watched))
    return raised


def delay(alarms: Sequence[tuple[int, str]]) -> int | None:
    """Return how many posts after its beginning the surge was noticed.

    >>> delay([(40, "housing"), (530, "tech"), (540, "housing")])
    40
    """
    return next((place - SURGE.start for place, topic in alarms if topic == SURGING and place in SURGE), None)


def true_words(stream: Sequence[Post]) -> Said:
    """Return what a reader without fault would say of each post."""
    return [(post["topic"], post["sentiment"]) for post in stream]


def shares(said: Said) -> dict[str, list[float]]:
    """Return each topic's running share of bad posts among all."""
    kernel = np.ones(SMOOTH) / SMOOTH
    return {
        watched: np.convolve(
            [topic == watched and mood == "negative" for topic, mood in said], kernel, "valid"
        ).tolist()
        for watched in TOPICS
    }


def draw(found: Mapping[str, Any]) -> Figure:
    """Each topic's share of bad posts, the planted surge and the alarms, for the first seed."""
    figure, (plot,) = canvas(width=8, height=3.6)
    plot.axvspan(SURGE.start, SURGE.stop, color="0.92", label="planted surge")
    for topic, share in found["share"].items():
        emphasis = {"color": "k", "linewidth": 2} if topic == SURGING else {"linewidth": 1}
        plot.plot(range(SMOOTH - 1, SMOOTH - 1 + len(share)), share, label=topic, **emphasis)
    for place, topic in found["alarms"]:
        plot.axvline(place, color="tab:red", linestyle="--", linewidth=1)
        plot.annotate(
            f"alarm: {topic}",
            (place, 0.98),
            (4, 0),
            xycoords=("data", "axes fraction"),
            textcoords="offset points",
            va="top",
            fontsize=9,
        )
    plot.set(xlabel="post", ylabel=f"bad posts on it, of the last {SMOOTH}", ylim=(0, 0.8), xlim=(0, STREAMED))
    plot.legend(frameon=False, loc="upper left", fontsize=9)
    return figure


if __name__ == "__main__":
    main()
