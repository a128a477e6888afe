"""Short posts about companies, from phrases that we wrote: whom they are about, and what is said."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from examples.common import read_lines

DATA = Path(__file__).with_name("data")
TOPICS = ("banks", "energy", "housing", "tech", "food")
SENTIMENTS = ("negative", "neutral", "positive")
USUALLY = (0.25, 0.45, 0.30)  # how often each sentiment comes
LEADS = ("", "", "", "Breaking: ", "Just read that ", "Heard at lunch: ", "So ", "My colleague says ", "Report: ")
ENDS = ("", "", "", ".", "!", " - any thoughts?", " (via the evening news)", " again", " today")
FAMILIAR = 5  # of the eight phrases for each topic and sentiment: those that the learner meets; the stream has all

Post = dict[str, Any]


class Newsroom:
    """Writes posts by chance.

    Args:
        seed: Of every draw.
    """

    def __init__(self, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._about = {row["topic"]: row["about"] for row in read_lines(DATA / "subjects.jsonl")}
        self._says: dict[tuple[str, str], list[str]] = {}
        for row in read_lines(DATA / "phrases.jsonl"):
            self._says.setdefault((row["topic"], row["sentiment"]), []).append(row["says"])

    def familiar(self, count: int) -> list[Post]:
        """Return posts to learn from; they use only some of the phrases."""
        return [self._post(self._any(TOPICS), self._any(SENTIMENTS, USUALLY), FAMILIAR) for _ in range(count)]

    def stream(self, count: int, *, surge: range, topic: str) -> list[Post]:
        """Return posts as they come, with a surge of negative ones on a topic.

        Args:
            count: How many.
            surge: During these every second post is about the topic, and nine of ten of those are negative.
            topic: Of the surge.
        """
        posts = []
        for place in range(count):
            if place in surge and self._rng.random() < 0.5:
                posts.append(self._post(topic, self._any(SENTIMENTS, (0.9, 0.05, 0.05)), None))
            else:
                posts.append(self._post(self._any(TOPICS), self._any(SENTIMENTS, USUALLY), None))
        return posts

    def _post(self, topic: str, sentiment: str, phrases: int | None) -> Post:
        said = f"{self._any(self._about[topic])} {self._any(self._says[topic, sentiment][:phrases])}"
        lead = self._any(LEADS)
        text = f"{lead}{said}" if lead else said[0].upper() + said[1:]
        return {"text": text + self._any(ENDS), "topic": topic, "sentiment": sentiment}

    def _any(self, choices: Sequence[str], chances: Sequence[float] | None = None) -> str:
        return choices[int(self._rng.choice(len(choices), p=chances))]
