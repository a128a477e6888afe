"""How experts are weighed: a log-linear model per length of history, learned from questions whose answers are known."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F

from benchmarks.sessions.data import Ints, Questions
from benchmarks.sessions.opinions import CONTEXTS, MEMORY_EXPERTS, MODEL_EXPERTS, Floats, Opinions, contexts_of

# Where nothing is known yet: round numbers, only good enough to choose the candidates of the very first lesson.
FIRST_GUESS = {
    "next": 0.1, "after": 0.1, "before": 0.1, "neighbours": 0.4, "spectral": 3.0, "spectral_last": 1.0,
    "popularity": 0.1, "new": 0.0, "repeat_last": 1.0, "repeat_before": 1.0, "repeat_older": 0.5,
    "model": 0.5, "model_new": 0.0,
}  # fmt: skip
_APART = 1e-3  # how strongly the contexts are held together
_ITERATIONS = 60

Weights = dict[str, Floats]


def first_weights(names: tuple[str, ...]) -> Weights:
    """Return the first guess, the same in every context."""
    return {name: np.full(CONTEXTS, FIRST_GUESS[name], np.float32) for name in names}


@dataclass(frozen=True, slots=True)
class Lesson:
    """Questions with their best candidates, what each expert said to them, and which was true.

    Args:
        features: float16 [M, C, K], in the order of `names`.
        truth: Which candidate was clicked, [M].
        contexts: [M].
        names: The experts, K of them.
    """

    features: npt.NDArray[np.float16]
    truth: Ints
    contexts: Ints
    names: tuple[str, ...]

    def joined(self, other: "Lesson") -> "Lesson":
        """Return both lessons as one; one of a smaller catalogue has its last candidate repeated."""
        most = max(self.features.shape[1], other.features.shape[1])
        padded = [
            np.pad(part.features, ((0, 0), (0, most - part.features.shape[1]), (0, 0)), mode="edge")
            for part in (self, other)
        ]
        return Lesson(
            np.concatenate(padded),
            np.concatenate([self.truth, other.truth]),
            np.concatenate([self.contexts, other.contexts]),
            self.names,
        )

    def only(self, names: tuple[str, ...]) -> "Lesson":
        """Return the lesson as some of the experts see it."""
        kept = [self.names.index(name) for name in names]
        return Lesson(self.features[..., kept], self.truth, self.contexts, names)


def lesson_of(opinions: Opinions, scores: Floats, asked: Questions, *, candidates: int) -> Lesson:
    """Return a lesson: the best candidates by the present weights; without those questions whose answer is not there.

    Args:
        opinions: Of the experts.
        scores: By which candidates are chosen, [Q, N+1].
        asked: The questions.
        candidates: C, at most N.
    """
    count = min(candidates, scores.shape[1] - 1)
    best = torch.from_numpy(scores).topk(count, dim=1).indices.numpy()
    hits = best == asked.targets[:, None]
    kept = np.flatnonzero(hits.any(axis=1))
    names = MEMORY_EXPERTS + (MODEL_EXPERTS if opinions.model is not None else ())
    features = opinions.at(best, names)[kept]
    if opinions.model is not None:  # scores have no zero point; float16 needs one
        features[..., names.index("model")] -= features[..., names.index("model")].max(axis=1, keepdims=True)
    return Lesson(features.astype(np.float16), hits[kept].argmax(axis=1), contexts_of(asked.lengths[kept]), names)


def learn_weights(lesson: Lesson, names: tuple[str, ...]) -> Weights:
    """Return the weights that make the truth likeliest among the candidates, [C] for each expert.

    A context's weights are the common ones plus a difference that is kept small, so that seldom contexts follow the
    common ones.

    Args:
        lesson: At least one question; with none, the first guess is returned.
        names: The experts that may speak.
    """
    start = first_weights(names)
    if not len(lesson.truth):
        return start
    seen = lesson.only(names)
    features = torch.from_numpy(seen.features.astype(np.float32))
    truth, contexts = torch.from_numpy(seen.truth), torch.from_numpy(seen.contexts)
    spread = features.flatten(0, 1).std(dim=0) + 1e-3
    guess = torch.tensor([FIRST_GUESS[name] for name in names])
    common = torch.zeros(len(names), requires_grad=True)  # all in units of an expert's spread
    apart = torch.zeros(CONTEXTS, len(names), requires_grad=True)
    scaled = features / spread
    search = torch.optim.LBFGS([common, apart], max_iter=_ITERATIONS, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        search.zero_grad()
        weights = (guess * spread + common + apart)[contexts]
        scores = (scaled * weights[:, None]).sum(dim=-1)
        loss = F.cross_entropy(scores, truth) + _APART * (apart.square().sum() + common.square().sum() / CONTEXTS)
        loss.backward()
        return loss

    search.step(closure)
    learned = (guess + (common + apart).detach() / spread).numpy()
    return {name: learned[:, place].astype(np.float32) for place, name in enumerate(names)}
