"""How fast memory, shared model and mixture do on questions: exact places among all known items."""

from dataclasses import dataclass

import numpy as np

from benchmarks.sessions.data import Questions
from benchmarks.sessions.fast_memory import FastMemory
from benchmarks.sessions.metrics import Ranks, ranks_of
from benchmarks.sessions.opinions import MODEL_EXPERTS, Opinions
from benchmarks.sessions.shared_model import scores_of
from benchmarks.sessions.weights import Lesson, Weights, first_weights, learn_weights, lesson_of
from learners.model import SharedModel

BLOCK = 512  # questions scored at once: their scores fit into memory several times over
WHO = ("mixture", "shared_model", "fast_memory")


@dataclass(frozen=True, slots=True)
class Examined:
    """Who is asked.

    Args:
        memory: The fast memory.
        model: The shared model; None for the fast memory alone.
        memory_weights: Of the fast memory's experts.
        mixture_weights: Of all experts.
    """

    memory: FastMemory
    model: SharedModel | None
    memory_weights: Weights
    mixture_weights: Weights

    def ranks(self, asked: Questions) -> dict[str, Ranks]:
        """Return every target's place by each of `WHO` that there is, [Q]."""
        found: dict[str, list[Ranks]] = {name: [] for name in (WHO if self.model else WHO[-1:])}
        order = np.argsort(asked.lengths, kind="stable")  # blocks of alike length are little padding to the network
        for block in blocks(asked.take(order)):
            opinions = self.opinions(block)
            found["fast_memory"].append(ranks_of(opinions.combined(self.memory_weights), block.targets))
            if opinions.model is not None:
                found["mixture"].append(ranks_of(opinions.combined(self.mixture_weights), block.targets))
                own = opinions.model[:, 1:]  # without padding
                found["shared_model"].append(ranks_of(own, block.targets - 1))
        back = np.argsort(order, kind="stable")
        return {name: np.concatenate([np.zeros(0, np.int64), *parts])[back] for name, parts in found.items()}

    def lesson(self, asked: Questions, *, candidates: int) -> Lesson | None:
        """Return what can be learned from questions whose answers are known by now; None where nothing was asked."""
        weights = self.mixture_weights if self.model else self.memory_weights
        lesson = None
        for block in blocks(asked):
            opinions = self.opinions(block)
            part = lesson_of(opinions, opinions.combined(weights), block, candidates=candidates)
            lesson = part if lesson is None else lesson.joined(part)
        return lesson

    def opinions(self, block: Questions) -> Opinions:
        """Return what all say to a block of questions."""
        model = None if self.model is None else scores_of(self.model, block.histories, block.lengths)
        return self.memory.opinions(block, model=model)


def blocks(asked: Questions) -> list[Questions]:
    """Return questions in blocks."""
    return [asked.take(slice(start, start + BLOCK)) for start in range(0, len(asked), BLOCK)]


def weights_from(lessons: list[Lesson], experts: tuple[str, ...], *, with_model: bool) -> tuple[Weights, Weights]:
    """Return the weights of the fast memory's experts alone, and of all.

    Args:
        lessons: Of periods whose tests have ended.
        experts: Those of the fast memory that may speak.
        with_model: Whether there is a shared model.
    """
    everyone = experts + (MODEL_EXPERTS if with_model else ())
    if not lessons:
        return first_weights(experts), first_weights(everyone)
    lesson = lessons[0]
    for other in lessons[1:]:
        lesson = lesson.joined(other)
    alone = learn_weights(lesson, experts)
    return alone, learn_weights(lesson, everyone) if with_model else alone


def sample(asked: Questions, *, count: int, seed: int) -> Questions:
    """Return an even sample of questions, in their order."""
    rows = np.random.default_rng(seed).permutation(len(asked))[:count]
    return asked.take(np.sort(rows))
