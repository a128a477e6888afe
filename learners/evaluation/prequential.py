"""Prequential evaluation of a log without Kafka: the same learner, rounds in line, everything from one seed."""

import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from importlib.metadata import version
from itertools import islice
from pathlib import Path
from typing import Any

import torch

from learners.errors import DivergedError
from learners.interactions import Interaction
from learners.items.shelf import Shelf
from learners.learner import Learner, LearnerConfig
from learners.quality.examiner import Witness
from learners.releases.release import LoadedRelease, load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import RoundResult, run_round
from learners.rounds.triggers import Trigger

RunRound = Callable[[RoundInput, Path], RoundResult]

_CALL = 256  # interactions per call of `observe`; no result depends on it
_PROGRESS_EVERY = 2_048


@dataclass(slots=True)
class _Rounds:
    """What came of the rounds so far."""

    folder: Path
    done: int = 0
    rollbacks: int = 0
    versions: dict[int, Path] = field(default_factory=dict)
    gates: list[dict[str, Any]] = field(default_factory=list)
    rolled_back: list[dict[str, Any]] = field(default_factory=list)

    def load(self, number: int) -> LoadedRelease:
        """Return a release under the number it got here: candidates on disk have none."""
        candidate = load_release(self.versions[number])
        return LoadedRelease(
            version=number,
            item_ids=candidate.item_ids,
            model=candidate.model,
            item_matrix=torch.from_numpy(candidate.item_matrix),
            manifest=candidate.manifest,
        )


def evaluate(
    events: Iterable[Interaction],
    shelf: Shelf,
    *,
    config: LearnerConfig | None = None,
    seed: int = 0,
    strategy: str = "default",
    folder: Path | None = None,
    progress: Callable[[int], None] = lambda _done: None,
    witness: Witness | None = None,
    run: RunRound = run_round,
) -> dict[str, Any]:
    """Score every interaction before learning it, with rounds in between, and report.

    Args:
        events: Interactions in the order of the log.
        shelf: The items that are known in advance, and what describes them.
        config: See `LearnerConfig`; its model's layout is the shelf's.
        seed: Source of every random choice.
        strategy: A name of `learners.strategies.STRATEGIES`.
        folder: Where releases are written; None: a temporary directory.
        progress: Called with the interactions done so far, now and then.
        witness: Called with every judgement and its outcome before anything learns from it.
        run: Runs a round, as `run_round` does; a benchmark may time it, or change what it is given.

    Returns:
        JSON-able: `quality` as in a replay's report, `rounds`, `releases`, `rollbacks`, `gates`, `drift`, `curve`
        and what the run was made with.

    Raises:
        UnknownStrategyError: If there is no such strategy.
    """
    config = config or LearnerConfig()
    config = replace(config, training=replace(config.training, strategy=strategy))
    started, done = time.perf_counter(), 0
    catalog = shelf.catalogue()
    learner = Learner(catalog=catalog, config=config, seed=seed)
    learner.examiner.witness = witness
    curve: list[dict[str, Any]] = []
    drift: list[dict[str, Any]] = []
    with ExitStack() as stack:
        rounds = _Rounds(folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="alluvium-"))))
        stream = iter(events)
        while part := list(islice(stream, _CALL)):
            learner.observe(part)
            done += len(part)
            if (trigger := learner.due(part[-1].event_time_ms)) is not None:
                _round(learner, trigger, shelf, rounds, run)
            if (rollback := learner.should_roll_back()) is not None:
                learner.adopt(rounds.load(rollback.version), shadow=False)
                rounds.rollbacks += 1
                rounds.rolled_back.append({"interactions": learner.interactions, **asdict(rollback)})
            curve.extend(asdict(value) for value in learner.metrics())
            drift.extend(asdict(event) for event in learner.drifts())
            if done % _PROGRESS_EVERY < _CALL:
                progress(done)
        progress(done)
        learner.examiner.quality.close()
        curve.extend(asdict(value) for value in learner.metrics())
        return {
            "strategy": strategy,
            "seed": seed,
            "events": done,
            "interactions": learner.interactions,
            "items": len(catalog) - 1,
            "wall_s": time.perf_counter() - started,
            "quality": {
                expert: figures | {"count": learner.examiner.quality.counts()[expert]}
                for expert, figures in learner.totals().items()
            },
            "rounds": rounds.done,
            "releases": len(rounds.versions),
            "rollbacks": rounds.rollbacks,
            "gates": rounds.gates,
            "rolled_back": rounds.rolled_back,
            "drift": [event for event in drift if event["level"] != "value"],
            "curve": curve,
            "versions": {name: version(name) for name in ("numpy", "river", "torch")},
        }


def _round(learner: Learner, trigger: Trigger, shelf: Shelf, rounds: _Rounds, run: RunRound) -> None:
    """Run one round in line; adopt what the gate lets through."""
    incumbent = rounds.versions.get(learner.model_version)
    rounds.done += 1
    round_input = learner.round_input(
        trigger,
        text_vectors=shelf.vectors,
        incumbent=incumbent,
        facts={"round": f"{learner.config.training.strategy}-{rounds.done:04d}"},
    )
    out_dir = rounds.folder / f"round-{rounds.done:04d}"
    out_dir.mkdir(parents=True)
    gate: dict[str, Any] = {"round": rounds.done, "trigger": trigger.kind, "interactions": learner.interactions}
    rounds.gates.append(gate)
    began_s = time.thread_time()
    try:
        result = run(round_input, out_dir)
    except DivergedError as error:
        learner.abandon_round()
        gate |= {"error": str(error), "cpu_s": time.thread_time() - began_s}
        return
    gate["cpu_s"] = time.thread_time() - began_s
    gate |= {"outcome": result.outcome, "verdict": dict(result.verdict), "training": dict(result.training)}
    if result.outcome == "passed" and result.candidate is not None:
        number = len(rounds.versions) + 1
        rounds.versions[number] = result.candidate
        learner.adopt(rounds.load(number))
    else:
        learner.abandon_round()


def plot_quality(report: Mapping[str, Any], target: Path) -> None:
    """Draw hit rate over time per expert, with releases and drift alarms, as PNG.

    Raises:
        ModuleNotFoundError: If matplotlib is not installed (`pip install alluvium[plots]`).
    """
    from matplotlib.figure import Figure  # noqa: PLC0415 - an optional dependency

    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots()
    for expert in ("mixture", "fast_memory", "shared_model", "popularity"):
        points = [
            (point["interactions"], point["value"])
            for point in report["curve"]
            if point["expert"] == expert and point["metric"] == "hit_rate_10"
        ]
        if points:
            axes.plot(*zip(*points, strict=True), label=expert)
    for gate in report["gates"]:
        if gate.get("outcome") == "passed":
            axes.axvline(gate["interactions"], color="green", alpha=0.2)
    for event in report["drift"]:
        if event["level"] == "alarm":
            axes.axvline(event["interactions"], color="red", alpha=0.4, linestyle=":")
    axes.set(xlabel="interactions", ylabel="hit rate@10", title="quality (green: release, red: drift alarm)")
    axes.legend()
    figure.savefig(target, dpi=120)
