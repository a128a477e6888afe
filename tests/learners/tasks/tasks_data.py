"""Small made-up worlds with known answers, for the hash encoder."""

from typing import Any

import numpy as np

from learners.tasks.config import HeadConfig, TrainingConfig
from learners.tasks.task import Task

TOPICS = {"kitchen": ("mug", "pan", "kettle", "spoon"), "garden": ("spade", "hose", "rake", "seed")}
FILLERS = ("red", "blue", "old", "large", "small", "nice")


def topic_task(**training: Any) -> Task:
    """Which of two topics a title is about."""
    settings = {"epochs": 6, **training}
    return Task(
        name="topic",
        kind="classify",
        inputs=("title",),
        target="topic",
        classes=tuple(TOPICS),
        text_encoder="hash",
        head=HeadConfig(hidden=32),
        training=TrainingConfig(**settings),
    )


def topic_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Titles of one word that tells and one that does not."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        topic = str(rng.choice(list(TOPICS)))
        rows.append({"title": f"{rng.choice(FILLERS)} {rng.choice(TOPICS[topic])}", "topic": topic})
    return rows


def price_task(**training: Any) -> Task:
    """A number that depends on one of two numbers, and on a word."""
    return Task(
        name="price",
        kind="score",
        inputs=("title",),
        numbers=("size", "noise"),
        target="price",
        text_encoder="hash",
        head=HeadConfig(hidden=32, dropout=0.0),
        training=TrainingConfig(**{"epochs": 30, "learning_rate": 3e-3, **training}),
    )


def price_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Price = 100 + 10 * size, and 50 more for gold; a tenth of the sizes is missing and then 0."""
    rng, rows = np.random.default_rng(seed), []
    for _ in range(count):
        size, gold = float(rng.normal()), bool(rng.integers(2))
        missing = rng.random() < 0.1
        rows.append(
            {
                "title": "gold ring" if gold else "tin ring",
                "size": None if missing else size,
                "noise": float(rng.normal()),
                "price": 100 + (0 if missing else 10 * size) + 50 * gold,
            }
        )
    return rows


def pair_task(**changed: Any) -> Task:
    """How well a title answers a query: the share of the query's words that it has."""
    head, training = changed.pop("head", {}), changed.pop("training", {})
    return Task(
        name="relevance",
        kind="pair",
        inputs=("query", "title"),
        target="relevance",
        text_encoder="hash",
        head=HeadConfig(**{"hidden": 32, **head}),
        training=TrainingConfig(**{"epochs": 4, **training}),
        **changed,
    )


def pair_rows(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Four titles a query: relevance 3 with both words, 2 with one, 1 with none."""
    rng, rows = np.random.default_rng(seed), []
    words = [word for topic in TOPICS.values() for word in topic]
    while len(rows) < count:
        filler, word = str(rng.choice(FILLERS)), str(rng.choice(words))
        query = f"{filler} {word}"
        others = [each for each in words if each != word]
        for relevance in (3.0, 2.0, 1.0, 2.0):
            first = filler if relevance > 1 else "plain"
            second = word if relevance == 3 else str(rng.choice(others))
            rows.append({"query": query, "title": f"{first} {second} item", "relevance": relevance})
    return rows[:count]
