"""A round: fine-tune a copy of the incumbent, judge it, and write a candidate release.

`run_round` is the whole of it, in this process; `learners.rounds.process` runs it in a child that may be killed.
"""

import json
import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import torch

from learners.errors import DivergedError
from learners.loggers import RoundRecord, logger_named
from learners.loggers.record import weight_norms
from learners.model import SharedModel, capacity_for
from learners.releases.release import LoadedRelease, load_kept, load_release, save_candidate
from learners.rounds.gate import FROZEN, NEWEST, Ranks, Verdict, judge
from learners.rounds.material import RoundConfig, RoundInput
from learners.rounds.rows import prepare
from learners.rounds.training import Beat, Curve, Teacher, Trainer
from learners.rounds.warm_start import warm_start
from learners.strategies import strategy_named

__all__ = ["RoundConfig", "RoundInput", "RoundResult", "judge_releases", "run_round"]

Outcome = Literal["passed", "refused", "empty"]
CANDIDATE, RESULT = "candidate", "result.json"
_SHAPE = (
    "width",
    "layers",
    "heads",
    "feed_forward",
    "history_length",
    "text_width",
    "hash_buckets",
    "image_width",
    "attribute_width",
)
_RANK_ROWS = 256  # score rows held at once while ranking


@dataclass(frozen=True, slots=True, kw_only=True)
class RoundResult:
    """What came of a round.

    Args:
        outcome: `passed` (release the candidate), `refused` (the gate says no) or `empty` (nothing to learn from).
        candidate: Directory of the candidate release; None when `empty`.
        verdict: The gate's decision and evidence, JSON-able.
        metrics: The candidate's figures, flat: `newest_hit_rate_10`, `frozen_ndcg_10`, ...
        training: Steps, epochs, losses, device and seconds.
        facts: What the round input said about itself.
    """

    outcome: Outcome
    candidate: Path | None = None
    verdict: Mapping[str, Any] = field(default_factory=dict)
    metrics: Mapping[str, float] = field(default_factory=dict)
    training: Mapping[str, Any] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    def save(self, folder: Path) -> None:
        """Write the result beside its candidate."""
        content = asdict(self) | {"candidate": self.candidate and self.candidate.name}
        (folder / RESULT).write_text(json.dumps(content), encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> "RoundResult":
        """Read what `save` wrote."""
        content = json.loads((folder / RESULT).read_text(encoding="utf-8"))
        return cls(**content | {"candidate": content["candidate"] and folder / content["candidate"]})


def run_round(round_input: RoundInput, out_dir: Path, *, beat: Beat = lambda _step, _steps: None) -> RoundResult:
    """Train, judge, and write the candidate under `out_dir`.

    On a CPU the result depends on the input alone, its seed included.

    Args:
        round_input: What to learn from; see there.
        out_dir: An existing directory that receives `candidate/` and `result.json`.
        beat: Called after every optimizer step with the step and the most steps there can be.

    Raises:
        DivergedError: If the loss stops being finite; nothing is written.
        CorruptReleaseError: If the incumbent on disk is damaged.
        ReleaseWriteError: If the disk refuses.
    """
    started = time.perf_counter()
    config, device = round_input.training, _device(round_input.training)
    strategy = strategy_named(config.strategy, config.strategy_settings)
    logger = logger_named(config.logger, Path(config.log_dir or "."))
    incumbent = _loaded(round_input.incumbent)
    round_input = strategy.choose(round_input, incumbent)
    rows, validation = prepare(round_input, np.random.default_rng(round_input.seed))
    if not len(rows):
        result = RoundResult(outcome="empty", facts=round_input.facts)
        result.save(out_dir)
        return result
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(round_input.seed)
        parent = None if strategy.from_scratch else incumbent
        start = None if strategy.from_scratch or incumbent is not None else _loaded(round_input.start)
        model, from_scratch = _copy_of(parent or start, round_input)
        first = from_scratch or parent is None
        how = config.of_first_round() if first else config
        trainer = Trainer(
            model.to(device),
            text_vectors=torch.from_numpy(round_input.text_vectors).to(device),
            active=torch.from_numpy(round_input.active).to(device),
            config=how,
            strategy=strategy,
            epochs=config.first_epochs if first else config.epochs,
            learning_rate=how.learning_rate,
            epsilon=how.adam_epsilon,
            seed=round_input.seed,
            teacher=None if parent is None else _teacher(parent, device),
            held={} if round_input.incumbent is None or first else load_kept(round_input.incumbent),
        )
        curve = trainer.train(rows, validation, beat=beat) if trainer.epochs else Curve()
    candidate = _served(model.cpu(), round_input)
    if not _is_finite(candidate):
        raise DivergedError(step=len(curve.losses), loss=math.nan)  # the very last step broke it
    verdict = judge_releases(candidate, incumbent, round_input)
    training = _summary(
        curve, strategy=config.strategy, from_scratch=from_scratch, rows=len(rows), device=str(device), started=started
    )
    save_candidate(
        out_dir / CANDIDATE,
        model=candidate.model,
        item_matrix=torch.from_numpy(candidate.item_matrix),
        item_ids=candidate.item_ids,
        parent=None if incumbent is None else incumbent.version,
        facts={**round_input.facts, "training": training, "verdict": verdict.as_dict()},
        kept=trainer.kept,
    )
    result = RoundResult(
        outcome="passed" if verdict.passed else "refused",
        candidate=out_dir / CANDIDATE,
        verdict=verdict.as_dict(),
        metrics=_flat(verdict),
        training=training,
        facts=round_input.facts,
    )
    result.save(out_dir)
    logger.log(_record(result, candidate, curve, round_input))
    return result


def judge_releases(candidate: LoadedRelease, incumbent: LoadedRelease | None, round_input: RoundInput) -> Verdict:
    """Hold a candidate against the incumbent (or popularity) on the gate's windows of a round."""
    return judge(
        _ranks(candidate, round_input),
        None if incumbent is None else _ranks(_extended(incumbent, round_input), round_input),
        popularity=_popularity_ranks(round_input),
        config=round_input.gate,
    )


def _loaded(folder: Path | None) -> LoadedRelease | None:
    return None if folder is None else load_release(folder)


def _device(config: RoundConfig) -> torch.device:
    if config.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(config.device)


def _copy_of(incumbent: LoadedRelease | None, round_input: RoundInput) -> tuple[SharedModel, bool]:
    """Return the model to train and whether it starts from scratch: nothing to start from, or of another shape."""
    config, items = round_input.model, len(round_input.item_ids)
    if incumbent is None or any(getattr(incumbent.model.config, name) != getattr(config, name) for name in _SHAPE):
        model = SharedModel(config, capacity=capacity_for(config, items))
        model.admit(0, torch.from_numpy(round_input.text_vectors))
        model.look_at(torch.from_numpy(round_input.text_vectors))
        return model, True
    capacity = incumbent.model.capacity
    model = SharedModel(config, capacity=capacity)
    model.load_state_dict(incumbent.model.state_dict())
    if items > capacity:
        model = model.grown(capacity_for(config, items))
    model.look_at(torch.from_numpy(round_input.text_vectors))
    known = len(incumbent.item_ids)
    model.admit(known, torch.from_numpy(round_input.text_vectors[known:]))
    if len(round_input.learned) and round_input.incumbent is not None:
        warm_start(
            model,
            learned=torch.from_numpy(round_input.learned),
            text_vectors=model.comparable(torch.from_numpy(round_input.text_vectors)),
            neighbours=torch.from_numpy(round_input.neighbours).long(),
            strengths=torch.from_numpy(round_input.strengths),
        )
    return model, False


def _teacher(incumbent: LoadedRelease, device: torch.device) -> Teacher:
    return Teacher(incumbent.model.to(device), torch.from_numpy(incumbent.item_matrix).to(device))


def _served(model: SharedModel, round_input: RoundInput) -> LoadedRelease:
    """Return the model as it would serve."""
    with torch.no_grad():
        items = model.item_vectors(torch.from_numpy(round_input.text_vectors), torch.arange(len(round_input.item_ids)))
        items[0] = 0
    return LoadedRelease(version=0, item_ids=round_input.item_ids, model=model, item_matrix=items, manifest={})


def _is_finite(release: LoadedRelease) -> bool:
    """Return whether a full and an empty history score every item with a number, whatever the gate has to look at."""
    length = release.model.config.history_length
    users = release.encode_users([list(range(1, len(release.item_ids)))[:length], []])
    with np.errstate(over="ignore", invalid="ignore"):
        return bool(np.isfinite(users @ release.item_matrix.T).all())


def _extended(incumbent: LoadedRelease, round_input: RoundInput) -> LoadedRelease:
    """Return the incumbent as it serves today: items it never saw stand in by their text."""
    incumbent.model.cpu()
    known = len(incumbent.item_ids)
    rows = round_input.text_vectors[known:]
    return incumbent.extended(round_input.item_ids[known:], rows, layout=round_input.model.layout)


def _ranks(release: LoadedRelease, round_input: RoundInput) -> dict[str, Ranks]:
    """Rank both windows' targets with a release."""
    active, items = round_input.active, release.item_matrix
    found = {}
    for window, histories, targets in _windows(round_input):
        users = release.encode_users(list(histories))
        scores = (users[start : start + _RANK_ROWS] @ items.T for start in range(0, len(users), _RANK_ROWS))
        found[window] = _rank(scores, targets, active)
    return found


def _popularity_ranks(round_input: RoundInput) -> dict[str, Ranks]:
    """Rank both windows' targets by how often each item was interacted with in the new rows."""
    learned = round_input.tokens[:, 1:][round_input.loss_mask]
    counts = np.bincount(learned, minlength=len(round_input.item_ids)).astype(np.float32)
    found = {}
    for window, _, targets in _windows(round_input):
        blocks = range(0, len(targets), _RANK_ROWS)
        scores = (np.tile(counts, (len(targets[start : start + _RANK_ROWS]), 1)) for start in blocks)
        found[window] = _rank(scores, targets, round_input.active)
    return found


def _windows(round_input: RoundInput) -> tuple[tuple[str, npt.NDArray[np.int32], npt.NDArray[np.int32]], ...]:
    return (
        (NEWEST, round_input.newest_histories, round_input.newest_targets),
        (FROZEN, round_input.frozen_histories, round_input.frozen_targets),
    )


def _rank(blocks: Any, targets: npt.NDArray[np.int32], active: npt.NDArray[np.bool_]) -> Ranks:
    """Return each target's place among the active items and itself; ties count against it."""
    ranks, finite, done = np.zeros(len(targets), np.int64), True, 0
    for scores in blocks:
        true = targets[done : done + len(scores)]
        finite = finite and bool(np.isfinite(scores).all())
        own = scores[np.arange(len(true)), true][:, None]
        ahead = (scores >= own) & active
        ahead[np.arange(len(true)), true] = False
        ranks[done : done + len(true)] = 1 + ahead.sum(axis=1)
        done += len(true)
    return Ranks(ranks, finite)


def _flat(verdict: Verdict) -> dict[str, float]:
    return _figures(verdict.evidence["candidate"])


def _figures(windows: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    return {f"{window}_{name}": value for window, figures in windows.items() for name, value in figures.items()}


def _record(result: RoundResult, candidate: LoadedRelease, curve: Curve, round_input: RoundInput) -> RoundRecord:
    """Return what a logger is told."""
    incumbent = result.verdict["evidence"]["incumbent"]
    interactions = int(round_input.facts.get("interactions", 0))
    return RoundRecord(
        key=str(round_input.facts.get("round", f"round-{interactions}")),
        interactions=interactions,
        outcome=result.outcome,
        strategy=round_input.training.strategy,
        losses=curve.losses,
        gradient_norms=curve.gradient_norms,
        weight_norms=weight_norms(candidate.model),
        metrics={**result.metrics, **{f"incumbent_{name}": value for name, value in _figures(incumbent).items()}},
        item_vectors=candidate.item_matrix,
        item_ids=candidate.item_ids,
    )


def _summary(
    curve: Curve, *, strategy: str, from_scratch: bool, rows: int, device: str, started: float
) -> dict[str, Any]:
    return {
        "strategy": strategy,
        "from_scratch": from_scratch,
        "rows": rows,
        "steps": len(curve.gradient_norms),
        "epochs": len(curve.validation) or curve.best_epoch,
        "best_epoch": curve.best_epoch,
        "first_loss": curve.losses[0] if curve.losses else None,
        "last_loss": curve.losses[-1] if curve.losses else None,
        "validation": curve.validation,
        "device": device,
        "wall_s": round(time.perf_counter() - started, 3),
    }
