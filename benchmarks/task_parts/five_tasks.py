"""Five tasks that come one after another: four on real data, one on sentences written for it, two languages."""

import csv
import gzip
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from benchmarks.task_parts.home_depot import read_pairs
from learners.tasks.config import TrainingConfig
from learners.tasks.task import Task

Row = dict[str, str]
GOOD, POOR = 2.67, 2.0  # Home Depot's relevance: at least, at most; what is between is left out
_LAST_EVENTS = 6  # of a session that are told

SUBJECTS = (
    "the kettle", "this drill", "the lamp", "my order", "the delivery", "the blue mug", "this jacket",
    "the support team", "the garden hose", "the packaging", "this phone case", "the website", "the tablecloth",
    "the refund", "the paint",
)  # fmt: skip
PRAISE = (
    "works perfectly", "is a joy to use", "exceeded what I hoped for", "arrived early and intact", "looks lovely",
    "is worth every penny", "was quick and kind", "fits like a glove", "has never let me down", "is beautifully made",
    "solved my problem at once", "feels sturdy and warm",
)  # fmt: skip
BLAME = (
    "broke after two days", "is a waste of money", "was late and damaged", "looks cheap", "never answered me",
    "smells of plastic", "stopped working", "is far too small", "was a bitter let-down", "leaks everywhere",
    "cost me a whole afternoon", "fell apart in my hands",
)  # fmt: skip
OPENINGS = ("", "Honestly, ", "After a week: ", "I must say that ", "To my surprise ", "As expected, ", "Update: ")
ENDINGS = (
    ".",
    ", and I told my neighbour so.",
    ", which I had not seen before.",
    " - third one I bought.",
    ", full stop.",
)


@dataclass(frozen=True, slots=True)
class Lesson:
    """One task of the sequence, with rows to learn and rows that judge."""

    task: Task
    learn: Sequence[Row]
    test: Sequence[Row]


def lessons(
    data_dir: Path, *, learn: int, test: int, training: TrainingConfig, encoder: str, seed: int
) -> list[Lesson]:
    """Return the five tasks in their order.

    Args:
        data_dir: Where the sets lie.
        learn: With `test`, most rows of each task.
        test: Most rows that judge; at most a quarter does.
        training: How each is learned.
        encoder: Of all of them.
        seed: Of every random choice.
    """
    found = []
    for name, (inputs, classes, reader) in TASKS.items():
        rows = balanced(reader(data_dir, seed), classes, learn + test, seed=seed)
        judging = min(test, len(rows) // 4)
        task = Task(
            name=name,
            kind="classify",
            inputs=inputs,
            target="label",
            classes=classes,
            text_encoder=encoder,
            training=training,
        )
        found.append(Lesson(task, rows[judging:], rows[:judging]))
    return found


def balanced(rows: Sequence[Row], classes: Sequence[str], most: int, *, seed: int) -> list[Row]:
    """Return up to `most` rows, every class as often as the rarest can be, in random order; no text comes twice.

    >>> rows = [{"text": str(number), "label": "ab"[number < 2]} for number in range(10)]
    >>> sorted(row["label"] for row in balanced(rows, ["a", "b"], 8, seed=0))
    ['a', 'a', 'b', 'b']
    """
    different = list({tuple(row.values()): row for row in rows}.values())
    by_class = [[row for row in different if row["label"] == label] for label in classes]
    each = min(most // len(classes), *map(len, by_class))
    rng = np.random.default_rng(seed)
    kept = [of_one[place] for of_one in by_class for place in rng.permutation(len(of_one))[:each]]
    return [kept[place] for place in rng.permutation(len(kept))]


def relevance(data_dir: Path, seed: int) -> list[Row]:
    """Home Depot: does the title answer the query? Of each query one pair is taken: it is learned, or it judges."""
    pairs, taken = read_pairs(data_dir), {}
    for place in np.random.default_rng(seed).permutation(len(pairs)):
        query, title = pairs[place].texts
        score = pairs[place].label or 0.0
        if query not in taken and not POOR < score < GOOD:
            taken[query] = {"query": query, "title": title, "label": "good" if score >= GOOD else "poor"}
    return list(taken.values())


def price_band(data_dir: Path, seed: int) -> list[Row]:
    """Online Retail: is what a title names cheap, middling or dear? Thirds of the catalogue."""
    del seed
    items = [row for row in pq.read_table(data_dir / "online_retail" / "catalog.parquet").to_pylist() if row["price"]]
    low, high = np.quantile([row["price"] for row in items], [1 / 3, 2 / 3])
    return [
        {
            "title": row["title"],
            "label": "cheap" if row["price"] <= low else "middling" if row["price"] <= high else "dear",
        }
        for row in items
        if row["title"]
    ]


def opinion(data_dir: Path, seed: int) -> list[Row]:
    """Praise or blame, in sentences written for this: every opening, subject, verdict and ending with every other."""
    del data_dir, seed
    return [
        {"text": f"{opening}{subject} {verdict}{ending}", "label": label}
        for opening in OPENINGS
        for subject in SUBJECTS
        for label, verdicts in (("praise", PRAISE), ("blame", BLAME))
        for verdict in verdicts
        for ending in ENDINGS
    ]


def buyer(data_dir: Path, seed: int) -> list[Row]:
    """REES46: does the session end in a purchase? Told are the last events before it."""
    del seed
    sessions: dict[str, list[Row]] = defaultdict(list)
    with gzip.open(data_dir / "rees46_head" / "2019-Oct.csv.gz", "rt", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            sessions[row["user_session"]].append(row)
    found = []
    for events in sessions.values():
        kinds = [event["event_type"] for event in events]
        before = events[: kinds.index("purchase")] if "purchase" in kinds else events
        if len(events) > 1 and before:
            told = "; ".join(_event(event) for event in before[-_LAST_EVENTS:])
            text = f"{len(before)} events, {len({event['product_id'] for event in before})} products: {told}"
            found.append({"text": text, "label": "buyer" if "purchase" in kinds else "visitor"})
    return found


def entity(data_dir: Path, seed: int) -> list[Row]:
    """Taobao, Chinese: what is a phrase of a title, a product, a brand, a model or something else?"""
    del seed
    with gzip.open(data_dir / "taobao_title_ner_zh" / "train.txt.gz", "rt", encoding="utf-8") as file:
        return [{"text": text, "label": KINDS_OF_PHRASE[tag]} for text, tag in _phrases(file)]


def _phrases(lines: Iterator[str]) -> Iterator[tuple[str, str]]:
    letters, tag = "", ""
    for line in lines:
        parts = line.split()
        letter, said = parts if len(parts) == 2 else ("", "O")
        if letters and not said.startswith("I"):
            yield letters, tag
            letters = ""
        if said != "O":
            letters, tag = letters + letter, said[2:]
    if letters:
        yield letters, tag


def _event(event: Row) -> str:
    named = " ".join(part for part in (event["category_code"].replace(".", " "), event["brand"]) if part)
    return f"{event['event_type']} {named or 'something'} for {float(event['price']):.0f}"


def toy_lessons(*, learn: int, test: int, training: TrainingConfig, seed: int) -> list[Lesson]:
    """Return five tasks over the same words, which mean something else in each: what forgets is seen to."""
    rng = np.random.default_rng(seed)
    words = [f"word{number}" for number in range(24)]
    found = []
    for name in TASKS:
        classes = {word: str(rng.choice(["yes", "no"])) for word in words}
        rows = [
            {"text": f"{word} {rng.choice(['and', 'or', 'the'])} thing", "label": classes[word]}
            for word in rng.choice(words, size=learn + test)
        ]
        task = Task(
            name=name, kind="classify", inputs=("text",), target="label", classes=("no", "yes"), text_encoder="hash",
            training=training,
        )  # fmt: skip
        found.append(Lesson(task, rows[test:], rows[:test]))
    return found


KINDS_OF_PHRASE: Mapping[str, str] = {"HCCX": "product", "HPPX": "brand", "XH": "model", "MISC": "other"}
Reader = Callable[[Path, int], list[Row]]
TASKS: Mapping[str, tuple[tuple[str, ...], tuple[str, ...], Reader]] = {
    "relevance": (("query", "title"), ("poor", "good"), relevance),
    "price-band": (("title",), ("cheap", "middling", "dear"), price_band),
    "opinion": (("text",), ("blame", "praise"), opinion),
    "buyer": (("text",), ("visitor", "buyer"), buyer),
    "entity-zh": (("text",), tuple(KINDS_OF_PHRASE.values()), entity),
}
