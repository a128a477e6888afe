"""`alluvium bench static`: the shared model on Amazon Beauty, leave-one-out, ranked among all items.

A person's last item is the test, the one before it the validation, the rest is trained on. The epoch that is kept is
the one with the best validation NDCG@10; the test is looked at once, after that. Both rankings are shown: among all
items, as RecBole ranks, and with the person's earlier items left out, as HSTU's reference code and S3-Rec's full-sort
mode do; see docs/training.md for which figure compares with which.
"""

import argparse
import gzip
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import numpy.typing as npt
import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from benchmarks.ingest import machine
from learners.errors import LearnerError
from learners.model import ModelConfig, SharedModel
from learners.rounds.material import Batching, RoundConfig
from learners.rounds.rows import Rows
from learners.rounds.training import Trainer
from learners.strategies import strategy_named

SEQUENCES, ATTRIBUTES = "Beauty.txt.gz", "Beauty_item2attributes.json.gz"
HISTORY_LENGTH, TOP = 50, 10
PUBLISHED = {
    "HSTU": (0.0859, 0.0441),
    "SASRec, full cross-entropy": (0.0851, 0.0421),
    "SASRec, as commonly published": (0.0605, 0.0318),
}
BARS = {"hr_10": 0.086, "ndcg_10": 0.0445}
_RANK_ROWS = 512


class DataMissingError(LearnerError, FileNotFoundError):
    """The data set is not where it was looked for."""

    def __init__(self, *, path: Path) -> None:
        super().__init__(f"--data is {str(path)!r}; expected a folder with {SEQUENCES} and {ATTRIBUTES}")
        self.path = path


@dataclass(frozen=True, kw_only=True)
class Sequences:
    """People's items in order, and what is known about the items.

    Args:
        people: One list of item numbers (from 1) a person, oldest first, at least three.
        items: Number of items, padding included.
        described: A vector per item, [N, T]; see `attribute_vectors`.
    """

    people: Sequence[npt.NDArray[np.int64]]
    items: int
    described: npt.NDArray[np.float32]


def main(arguments: list[str] | None = None) -> None:
    """Train, choose the epoch on validation, test once, print the table, write the JSON."""
    options = _options(arguments)
    console = Console()
    torch.set_num_threads(options.threads)
    data = toy() if options.toy else load(options.data, width=options.attribute_width)
    config = ModelConfig(
        width=options.width,
        layers=options.layers,
        heads=options.heads,
        dropout=options.dropout,
        input_dropout=options.dropout,
        history_length=HISTORY_LENGTH,
        text_width=data.described.shape[1],
        spare_rows=0,
    )
    training = RoundConfig(
        first_epochs=options.epochs,
        batch_rows=options.batch_rows,
        batching=options.batching,
        first_learning_rate=options.learning_rate,
        weight_decay=options.weight_decay,
        patience=options.patience,
        threads=options.threads,
        full_softmax_items=0 if options.negatives else data.items,
        sampled_negatives=options.negatives or 1,
        sampling="uniform",
    )
    report = run(data, config, training, seed=options.seed, console=console) | {"machine": machine()}
    report["attributes"] = bool(data.described.any())
    console.print(table(report))
    for name, bar in BARS.items():
        console.print(f"test {name}: {report['test'][name]:.4f} (bar {bar})")
    if options.report:
        options.report.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def run(data: Sequences, config: ModelConfig, training: RoundConfig, *, seed: int, console: Console) -> dict[str, Any]:
    """Train on all but the last two items of everybody; return the figures of both held-out items."""
    torch.manual_seed(seed)
    model = SharedModel(config, capacity=data.items)
    described = torch.from_numpy(data.described)
    model.admit(1, described[1:])
    trainer = RankingTrainer(
        model,
        text_vectors=described,
        active=torch.arange(data.items) > 0,
        config=training,
        epochs=training.first_epochs,
        learning_rate=training.first_learning_rate,
        seed=seed,
        strategy=strategy_named("naive"),
        teacher=None,
        console=console,
    )
    rows = training_rows([person[:-2] for person in data.people])
    began, cpu = time.perf_counter(), time.process_time()
    curve = trainer.train(rows, held_out_rows([person[:-1] for person in data.people]), beat=lambda _step, _steps: None)
    seconds = {"wall_s": time.perf_counter() - began, "cpu_s": time.process_time() - cpu}
    return {
        "test": trainer.figures([person[:-1] for person in data.people], [person[-1] for person in data.people]),
        "validation": trainer.figures([person[:-2] for person in data.people], [person[-2] for person in data.people]),
        "best_epoch": curve.best_epoch,
        "epochs": [1 - value for value in curve.validation],  # validation NDCG@10
        "loss": curve.losses[-1],
        "train": seconds,
        "model": asdict(config),
        "training": asdict(training),
        "seed": seed,
        "people": len(data.people),
        "items": data.items - 1,
        "published": {name: {"hr_10": hr, "ndcg_10": ndcg} for name, (hr, ndcg) in PUBLISHED.items()},
    }


class RankingTrainer(Trainer):
    """The training loop of a round, stopped early on validation NDCG@10 instead of log loss."""

    def __init__(self, *arguments: Any, console: Console, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._console, self._began, self._epoch = console, time.perf_counter(), 0

    def evaluate(self, rows: Rows) -> float:
        """Return 1 - NDCG@10 of each row's last item, ranked among all items; dropout off."""
        lengths = rows.lengths.tolist()
        people = [row[:length].numpy() for row, length in zip(rows.tokens, lengths, strict=True)]
        found = self.figures([person[:-1] for person in people], [person[-1] for person in people])
        self._epoch += 1
        self._console.print(
            f"epoch {self._epoch}: validation HR@10 {found['hr_10']:.4f} NDCG@10 {found['ndcg_10']:.4f}, "
            f"seen left out {found['unseen_hr_10']:.4f} {found['unseen_ndcg_10']:.4f}; "
            f"{time.perf_counter() - self._began:.0f} s",
            soft_wrap=True,
        )
        return 1 - found["ndcg_10"]

    @torch.no_grad()
    def figures(self, histories: Sequence[npt.NDArray[np.int64]], targets: Sequence[int]) -> dict[str, float]:
        """Return HR@10 and NDCG@10 among all items, and the same with each person's earlier items left out."""
        self.model.eval()
        items = self.model.item_vectors(self._text, self._all)
        ranks: dict[str, list[Tensor]] = {"": [], "unseen_": []}
        order = sorted(range(len(histories)), key=lambda row: len(histories[row]))
        for start in range(0, len(order), _RANK_ROWS):
            part = order[start : start + _RANK_ROWS]
            rows = training_rows([histories[row] for row in part])
            wanted = torch.tensor([int(targets[row]) for row in part])
            scores = self.model.newest(items[rows.tokens], rows.lengths) @ items.T
            scores[:, 0] = -torch.inf
            true = scores.gather(1, wanted[:, None])
            ranks[""].append((scores > true).sum(dim=1))
            for row, person in enumerate(part):
                scores[row, histories[person]] = -torch.inf
            scores.scatter_(1, wanted[:, None], true)
            ranks["unseen_"].append((scores > true).sum(dim=1))
        return {
            f"{prefix}{name}": value
            for prefix, parts in ranks.items()
            for name, value in quality(torch.cat(parts)).items()
        }


def quality(ranks: Tensor) -> dict[str, float]:
    """Return hit rate and NDCG at ten of targets with so many items above them.

    >>> quality(torch.tensor([0, 2, 10]))
    {'hr_10': 0.6666666666666666, 'ndcg_10': 0.5}
    """
    hit = ranks < TOP
    gains = torch.where(hit, 1 / torch.log2(ranks.double() + 2), 0.0)
    return {"hr_10": float(hit.double().mean()), "ndcg_10": float(gains.mean())}


def training_rows(histories: Sequence[npt.NDArray[np.int64]], *, length: int = HISTORY_LENGTH) -> Rows:
    """Return histories, their last `length` + 1 items, as rows in which every item but the first is to be predicted."""
    cut = [history[-(length + 1) :] for history in histories]
    lengths = torch.tensor([len(history) for history in cut])
    tokens = np.zeros((len(cut), max(2, int(lengths.max()))), dtype=np.int64)
    for row, history in zip(tokens, cut, strict=True):
        row[: len(history)] = history
    places = torch.arange(tokens.shape[1])
    targets = (places > 0) & (places < lengths[:, None])
    ones = torch.ones(len(cut))
    return Rows(torch.from_numpy(tokens), targets, lengths, ones, ones < 0)


def held_out_rows(histories: Sequence[npt.NDArray[np.int64]]) -> Rows:
    """Return histories as rows whose last item alone is to be predicted."""
    rows = training_rows(histories)
    last = torch.arange(rows.tokens.shape[1]) == rows.lengths[:, None] - 1
    return Rows(rows.tokens, last, rows.lengths, rows.weight, rows.replayed)


def data_folder() -> Path:
    """Where Amazon Beauty lies unless an option says otherwise."""
    shared = Path(__file__).resolve().parents[2] / "shared" / "data"
    return Path(os.environ.get("ALLUVIUM_DATA_DIR", shared)) / "amazon_beauty"


def load(folder: Path, *, width: int) -> Sequences:
    """Read the sequences and attributes as S3-Rec publishes them.

    Args:
        folder: Where both files lie.
        width: T of the attribute vectors; 0 leaves attributes out.

    Raises:
        DataMissingError: If they do not.
    """
    if not (folder / SEQUENCES).exists() or not (folder / ATTRIBUTES).exists():
        raise DataMissingError(path=folder)
    with gzip.open(folder / SEQUENCES, "rt") as lines:
        people = [np.array([int(item) for item in line.split()[1:]]) for line in lines]
    items = 1 + max(int(person.max()) for person in people)
    with gzip.open(folder / ATTRIBUTES, "rt") as content:
        attributes = {int(item): values for item, values in json.load(content).items()}
    return Sequences(people=people, items=items, described=attribute_vectors(attributes, items=items, width=width))


def attribute_vectors(attributes: dict[int, list[int]], *, items: int, width: int) -> npt.NDArray[np.float32]:
    """Return a unit vector per item: the sum of one random direction for each of its attributes, [items, width].

    >>> mug, cup, chair = attribute_vectors({1: [7, 8], 2: [8, 7], 3: [9]}, items=4, width=64)[1:]
    >>> bool(np.allclose(mug, cup)), bool(abs(mug @ chair) < 0.5)
    (True, True)

    Source: Achlioptas, "Database-friendly random projections", JCSS 2003.
    """
    if not width:
        return np.zeros((items, 1), dtype=np.float32)
    rng = np.random.default_rng(0)
    directions = rng.choice([-1.0, 1.0], size=(1 + max(max(values) for values in attributes.values()), width))
    vectors = np.zeros((items, width))
    for item, values in attributes.items():
        vectors[item] = directions[values].sum(axis=0)
    norms = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit: npt.NDArray[np.float32] = (vectors / np.maximum(norms, 1e-12)).astype(np.float32)
    return unit


def toy(*, people: int = 300, items: int = 60) -> Sequences:
    """A world with a known answer: after item i comes i + 1, round and round."""
    rng = np.random.default_rng(0)
    walks = [(rng.integers(items) + np.arange(rng.integers(5, 12))) % items + 1 for _ in range(people)]
    return Sequences(people=walks, items=items + 1, described=np.zeros((items + 1, 1), dtype=np.float32))


def table(report: dict[str, Any]) -> Table:
    """Our rows beside the published ones."""
    page = Table(title=f"bench static: {report['people']:,} people, {report['items']:,} items, full ranking")
    for name in ("model", "HR@10", "NDCG@10"):
        page.add_column(name, justify="left" if name == "model" else "right")
    for split in ("test", "validation"):
        found = report[split]
        page.add_row(f"ours, {split}", f"{found['hr_10']:.4f}", f"{found['ndcg_10']:.4f}")
        page.add_row(
            f"ours, {split}, seen items left out", f"{found['unseen_hr_10']:.4f}", f"{found['unseen_ndcg_10']:.4f}"
        )
    for name, (hr, ndcg) in PUBLISHED.items():
        page.add_row(name, f"{hr:.4f}", f"{ndcg:.4f}")
    return page


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="alluvium bench static", description=__doc__)
    parser.add_argument("--data", type=Path, default=data_folder(), help="folder of the two files")
    parser.add_argument("--report", type=Path, help="write the figures as JSON")
    parser.add_argument("--toy", action="store_true", help="sixty items in a ring: does it still run?")
    parser.add_argument("--epochs", type=int, default=16)
    parser.add_argument("--patience", type=int, default=4, help="epochs without a better validation NDCG@10")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--heads", type=int, default=2)
    parser.add_argument("--dropout", type=float, default=0.5)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--weight-decay", type=float, default=0.01)
    parser.add_argument("--batch-rows", type=int, default=128)
    parser.add_argument("--batching", choices=get_args(Batching), default="targets", help="equally many a batch")
    parser.add_argument("--negatives", type=int, default=2_048, help="sampled a step; 0: rank the whole catalogue")
    parser.add_argument("--attribute-width", type=int, default=64, help="0: learn from ids alone")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
