"""Search relevance: a pair task learns which titles answer a query, and is compared with counting words.

Pairs of some hundred queries teach; the titles of other queries are ranked by BM25, by the encoder as it comes, by a
head that learned on top of it, and by low-rank additions to the encoder (LoRA) that learned with the head.
"""

import argparse
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from examples.common import canvas, leave, options_of, show_table, spread
from examples.search.pairs import Pair, bm25, read_pairs, split_by_query
from learners.tasks.learner import TaskLearner
from learners.tasks.metrics import measure
from learners.tasks.task import Task

TASK = Path(__file__).with_name("task.toml")
LEARN, JUDGE = 120, 150  # queries; each has 6 to 16 titles
WAYS = ("random order", "BM25", "encoder as it is", "frozen, head learned", "LoRA")
METRICS = ("ndcg_10", "rmse")

Found = dict[str, dict[str, list[float]]]  # way -> metric -> a value each seed


def main(arguments: list[str] | None = None) -> None:
    """Rank by every way, print and draw."""
    options = options_of("search", __doc__, arguments, seeds=2)
    pairs = read_pairs(options.data_dir)
    found: Found = {way: {metric: [] for metric in METRICS} for way in WAYS}
    for seed in options.seeds:
        learn, judge = split_by_query(pairs, learn=_few(options, LEARN), judge=_few(options, JUDGE), seed=seed)
        for way, figures in ways(learn, judge, pairs, task_of(options), seed).items():
            for metric in METRICS:
                found[way][metric] += [figures[metric]] if metric in figures else []
    print(f"{len(learn)} pairs learned, {len(judge)} pairs of {len({pair['query'] for pair in judge})} queries judge")
    rows = [[way, *(spread(found[way][metric]) if found[way][metric] else "-" for metric in METRICS)] for way in WAYS]
    show_table(("way", "NDCG@10", "RMSE"), rows)
    leave("search", draw(found), found, options.out)


def task_of(options: argparse.Namespace) -> Task:
    """Return the task; a toy run knows no language."""
    task = Task.from_toml(TASK)
    return replace(task, text_encoder="hash") if options.toy else task


def ways(
    learn: list[Pair], judge: list[Pair], pairs: list[Pair], task: Task, seed: int
) -> Mapping[str, Mapping[str, float]]:
    """Return the figures of every way on the pairs that judge."""
    frozen = TaskLearner(task, seed=seed)
    untaught = frozen.evaluate(judge)
    adapted = TaskLearner(replace(task, training=replace(task.training, encoder="lora", epochs=2)), seed=seed)
    for name, learner in (("frozen", frozen), ("LoRA", adapted)):
        outcome = learner.learn(learn)
        trained = sum(value.numel() for value in learner.model.trained().values())
        print(f"seed {seed}, {name}: {trained:,} numbers trained in {outcome.seconds:.0f} s; {outcome.reason}")
    rng = np.random.default_rng(seed)
    return {
        "random order": {"ndcg_10": _shuffled(np.zeros(len(judge)), judge, rng)},
        "BM25": {"ndcg_10": _shuffled(bm25(judge, [str(pair["title"]) for pair in pairs]), judge, rng)},
        "encoder as it is": {"ndcg_10": untaught["ndcg_10"]},  # a similarity has no unit in which to be wrong
        "frozen, head learned": frozen.evaluate(judge),
        "LoRA": adapted.evaluate(judge),
    }


def draw(found: Found) -> Figure:
    """NDCG@10 of every way: a dot each seed, a bar at their mean."""
    figure, (plot,) = canvas(width=6.5, height=3.0)
    for place, way in enumerate(WAYS):
        values = found[way]["ndcg_10"]
        plot.plot(values, [place] * len(values), "o", color="tab:blue" if place > 2 else "0.5", alpha=0.7)
        plot.plot(np.mean(values), place, "k|", markersize=14)
        plot.annotate(f"{np.mean(values):.3f}", (max(values), place), (8, -4), textcoords="offset points")
    plot.set_yticks(range(len(WAYS)), WAYS)
    plot.set_xlim(right=plot.get_xlim()[1] + 0.01)
    plot.set_xlabel("NDCG@10 on queries that nobody learned")
    plot.grid(axis="x", alpha=0.3)
    plot.set_ylim(len(WAYS) - 0.5, -0.5)
    return figure


def _shuffled(scores: np.ndarray, judge: list[Pair], rng: np.random.Generator) -> float:
    """Break ties by chance, which words alone often leave (a third of BM25's scores); the metric would do its worst."""
    drawn = [scores + 1e-6 * rng.random(len(scores)) for _ in range(20)]
    return float(np.mean([_ranked(each, judge) for each in drawn]))


def _ranked(scores: np.ndarray, judge: list[Pair]) -> float:
    labels = np.array([float(pair["relevance"]) for pair in judge])
    return measure("pair", scores, labels, [str(pair["query"]) for pair in judge])["ndcg_10"]


def _few(options: argparse.Namespace, count: int) -> int:
    return 25 if options.toy else count


if __name__ == "__main__":
    main()
