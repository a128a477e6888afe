"""`sequence` tasks: what a person turns to next. A declaration over the shared model and its rounds.

An example is an interaction. It is judged before it is learned, as everything that the shared model learns, so
`evaluate` needs no examples of its own. Behind Kafka such a task is `alluvium learner`.
"""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from learners.catalog import Catalog
from learners.encoder import Encoder, open_encoder
from learners.errors import DivergedError
from learners.gate import Verdict
from learners.interactions import Observation
from learners.learner import Learner, LearnerConfig
from learners.ranker import RankRequest
from learners.releases import LoadedRelease, load_release
from learners.rounds import run_round
from learners.tasks.errors import InvalidTaskError
from learners.tasks.examples import RejectedExample
from learners.tasks.learner import Prediction, RoundOutcome
from learners.tasks.task import Task
from learners.text_vectors import TextVectors
from learners.triggers import Trigger

USER, ITEM, TIME_MS, TITLE, TYPE = "user_id", "item_id", "event_time_ms", "title", "event_type"
_INTERESTED = "click"  # an interaction that does not say what it was
_MIXTURE = "mixture"


class SequenceLearner:
    """The shared model's learner behind the verbs of a task.

    Args:
        task: Of kind `sequence`, with inputs `user_id` and `item_id`, and the number `event_time_ms`.
        folder: Where releases lie; must outlive the learner.
        seed: Of every random choice.
        config: Of the shared model and its rounds.
        encoder: Of titles; None: the one that the task names, as wide as the configuration says.

    Raises:
        InvalidTaskError: If the declaration is not of that form.
    """

    def __init__(
        self,
        task: Task,
        *,
        folder: Path,
        seed: int = 0,
        config: LearnerConfig | None = None,
        encoder: Encoder | None = None,
    ) -> None:
        if task.kind != "sequence":
            raise InvalidTaskError(name="kind", value=task.kind, expected="sequence")
        if task.inputs != (USER, ITEM) or task.numbers != (TIME_MS,):
            value = (*task.inputs, *task.numbers)
            raise InvalidTaskError(name="inputs", value=value, expected=f"{USER} and {ITEM}; numbers: {TIME_MS}")
        self.task, self.folder = task, folder
        config = config or LearnerConfig()
        self.learner = Learner(catalog=Catalog(), config=config, seed=seed)
        self._vectors = TextVectors(encoder or open_encoder(task.text_encoder, width=config.model.text_width))
        self._incumbent: Path | None = None

    @property
    def version(self) -> int:
        """Of the release in use; 0 for none."""
        return self.learner.model_version

    def learn(self, examples: Sequence[Mapping[str, Any]]) -> RoundOutcome:
        """Score and take in interactions, oldest first, then run a round over them.

        Args:
            examples: With `user_id`, `item_id` and `event_time_ms`; `title` and `event_type` if they are known.
        """
        began = time.perf_counter()
        checked = [(values, self.task.validate({self.task.target: 0.0, **values})) for values in examples]
        rejected = tuple(each for _, each in checked if isinstance(each, RejectedExample))
        usable = [values for values, each in checked if not isinstance(each, RejectedExample) and values.get(TIME_MS)]
        for values in usable:
            if values.get(TITLE):
                self.learner.catalog.upsert(values[ITEM], title=str(values[TITLE]))
        observed = self.learner.observe([_observation(values) for values in usable])
        if not observed:
            return RoundOutcome(released=False, reason="nothing to learn from", version=self.version, rejected=rejected)
        outcome = self._round(observed, now_ms=int(usable[-1][TIME_MS]))
        return RoundOutcome(
            **outcome,
            version=self.version,
            learned=observed,
            rejected=rejected,
            seconds=time.perf_counter() - began,
        )

    def predict(self, examples: Sequence[Mapping[str, Any]]) -> list[Prediction]:
        """Return each person's likeliest next item; `chances` has the ten likeliest.

        Args:
            examples: With `user_id`, and `event_time_ms` of the moment to predict for.
        """
        requests = [self._request(values) for values in examples]
        found = []
        for ranking in self.learner.ranker.rank(requests, 10):
            chances = {ranked.item_id: ranked.score for ranked in ranking}
            best = ranking[0] if ranking else None
            found.append(
                Prediction(
                    value=best.item_id if best else None,
                    score=best.score if best else float("nan"),
                    chances=chances,
                    version=self.version,
                    rejected="" if best else "the catalogue is empty",
                )
            )
        return found

    def evaluate(self) -> dict[str, float]:
        """Return the mixture's figures over all interactions so far, each judged before it was learned."""
        return dict(self.learner.totals().get(_MIXTURE, {}))

    def _round(self, observed: int, *, now_ms: int) -> dict[str, Any]:
        learner = self.learner
        self._vectors.update(learner.catalog)
        out = self.folder / f"round-{learner.rounds + 1:04d}"
        out.mkdir(parents=True)
        trigger = Trigger(kind="count", interactions=observed, at_ms=now_ms)
        round_input = learner.round_input(
            trigger, text_vectors=self._vectors.matrix(learner.catalog), incumbent=self._incumbent
        )
        try:
            result = run_round(round_input, out)
        except DivergedError as error:
            learner.abandon_round()
            return {"released": False, "reason": str(error)}
        passed = result.outcome == "passed" and result.candidate is not None
        if passed and result.candidate is not None:
            self._incumbent = result.candidate
            learner.adopt(self._released(result.candidate))
        else:
            learner.abandon_round()
        reasons = tuple(result.verdict.get("reasons", ()))
        verdict = Verdict(passed=passed, reasons=reasons, evidence=dict(result.verdict.get("evidence", {})))
        why = "; ".join(reasons) or result.outcome
        return {"released": passed, "reason": why, "verdict": verdict, "metrics": dict(result.metrics)}

    def _released(self, candidate: Path) -> LoadedRelease:
        """The candidate under the number that it gets here: on disk it has none."""
        found = load_release(candidate)
        return LoadedRelease(
            version=self.version + 1,
            item_ids=found.item_ids,
            model=found.model,
            item_matrix=torch.from_numpy(found.item_matrix),
            manifest=found.manifest,
        )

    def _request(self, values: Mapping[str, Any]) -> RankRequest:
        past = self.learner.histories.past(str(values[USER]))
        newest = int(past.times_ms[-1]) if len(past.times_ms) else 0
        return RankRequest(
            item_ids=[self.learner.catalog.item_ids[index] for index in past.items],
            times_ms=past.times_ms.tolist(),
            now_ms=int(values.get(TIME_MS) or newest),
        )


def _observation(values: Mapping[str, Any]) -> Observation:
    return Observation(
        user_id=values[USER],
        item_id=values[ITEM],
        event_type=str(values.get(TYPE) or _INTERESTED),
        event_time_ms=int(values[TIME_MS]),
    )
