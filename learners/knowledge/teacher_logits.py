"""What a release says, kept so that a model of any other shape can learn from it when the network is long gone.

The histories that it is asked about are its own: each begins at an item that was learned and goes on with what the
release itself says comes next. So they name nobody, and say of people no more than the kept trunk does.

Source: Yue et al., "Black-Box Attacks on Sequential Recommenders via Data-Free Model Extraction", RecSys 2021,
    section 4.1.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor

from learners.knowledge.contents import decode_tensors, encode_tensors
from learners.knowledge.errors import InvalidEntryError
from learners.model import SharedModel
from learners.releases.release import LoadedRelease

MOST_HISTORIES, MOST_LENGTH, MOST_SAID = 512, 8, 100
_SHAPES: Mapping[str, int] = {"histories": 2, "top": 2, "log_probabilities": 2, "remaining": 1, "items": 1}


@dataclass(frozen=True, slots=True)
class TeacherLogits:
    """The likeliest next items of H histories, over items of their own numbering.

    Args:
        item_ids: What the numbers mean; number 0 is padding, number n is `item_ids[n - 1]`.
        histories: Numbers, oldest first, right-padded with 0, int32 [H, L].
        top: The k likeliest next items, the likeliest first, numbers, int32 [H, k].
        log_probabilities: Theirs, among all items that could be ranked, float32 [H, k].
        remaining: Probability of all other items together, float32 [H].
    """

    item_ids: tuple[str, ...]
    histories: npt.NDArray[np.int32]
    top: npt.NDArray[np.int32]
    log_probabilities: npt.NDArray[np.float32]
    remaining: npt.NDArray[np.float32]


def said_by(
    release: LoadedRelease, counts: npt.NDArray[np.integer[Any]], active: npt.NDArray[np.bool_], *, k: int = MOST_SAID
) -> TeacherLogits | None:
    """Ask a release what comes next; None where it learned no item that may be ranked. The same each time.

    Args:
        release: The teacher.
        counts: How often each item was learned, [N]; the most frequent begin histories.
        active: Which items may be ranked, bool [N].
        k: Most items kept of each answer; at least 1.
    """
    allowed = active.copy()
    allowed[0] = False
    learned = np.flatnonzero(allowed & (counts > 0))
    if not len(learned):
        return None
    length = min(MOST_LENGTH, release.model.config.history_length)
    begun = learned[np.argsort(-counts[learned], kind="stable")][: max(MOST_HISTORIES // length, 1)]
    histories, answers, rest = [], [], []
    grown = [[int(item)] for item in begun]
    for _ in range(length):
        log_probabilities = _asked(release, grown, allowed)
        best = np.argsort(-log_probabilities, axis=1, kind="stable")[:, : min(k, int(allowed.sum()))]
        values = np.take_along_axis(log_probabilities, best, axis=1)
        histories += [list(row) for row in grown]
        answers += list(zip(best, values, strict=True))
        rest.append(np.clip(1.0 - np.exp(values.astype(np.float64)).sum(axis=1), 0.0, 1.0))
        grown = [[*row, _next(row, said)] for row, said in zip(grown, best, strict=True)]
    top = np.array([items for items, _ in answers])
    padded = np.array([row + [0] * (length - len(row)) for row in histories])
    met = np.unique(np.concatenate([padded[padded > 0], top.ravel()]))
    number = np.zeros(len(allowed), dtype=np.int32)
    number[met] = np.arange(1, len(met) + 1)
    return TeacherLogits(
        item_ids=tuple(release.item_ids[item] for item in met),
        histories=number[padded],
        top=number[top],
        log_probabilities=np.array([values for _, values in answers], dtype=np.float32),
        remaining=np.concatenate(rest).astype(np.float32),
    )


def encode_logits(said: TeacherLogits) -> bytes:
    """Return them as bytes; the same content is always the same bytes.

    >>> one = np.ones((1, 1), dtype=np.int32)
    >>> sure, no_more = np.zeros((1, 1), dtype=np.float32), np.zeros(1, dtype=np.float32)
    >>> kept = TeacherLogits(item_ids=("mug",), histories=one, top=1 * one, log_probabilities=sure, remaining=no_more)
    >>> decode_logits(encode_logits(kept)).item_ids
    ('mug',)
    """
    ids = np.frombuffer(json.dumps(said.item_ids).encode(), dtype=np.uint8).copy()
    arrays = {name: getattr(said, name) for name in _SHAPES if name != "items"}
    return encode_tensors({name: torch.from_numpy(value) for name, value in {**arrays, "items": ids}.items()})


def decode_logits(content: bytes) -> TeacherLogits:
    """Read what `encode_logits` wrote.

    Raises:
        InvalidEntryError: If it is something else, or contradicts itself.
    """
    tensors = decode_tensors(content)
    shapes = {name: tuple(value.shape) for name, value in tensors.items()}
    if {name: len(shape) for name, shape in shapes.items()} != dict(_SHAPES):
        raise InvalidEntryError(name="content", value=shapes, expected=f"tensors {', '.join(_SHAPES)}")
    count = shapes["histories"][0]
    try:
        ids = json.loads(tensors["items"].numpy().tobytes())
    except ValueError as error:
        raise InvalidEntryError(name="items", value=str(error), expected="JSON") from error
    numbers = torch.cat([tensors["histories"].ravel(), tensors["top"].ravel()])
    agree = shapes["top"] == shapes["log_probabilities"] and shapes["top"][0] == count == shapes["remaining"][0]
    if not agree or not isinstance(ids, list) or (len(numbers) and not 0 <= numbers.min() <= numbers.max() <= len(ids)):
        raise InvalidEntryError(name="content", value=shapes, expected="as many answers as histories, of known items")
    arrays = {name: tensors[name].numpy() for name in _SHAPES if name != "items"}
    return TeacherLogits(item_ids=tuple(map(str, ids)), **arrays)


def learn_logits(
    student: SharedModel,
    said: TeacherLogits,
    *,
    item_ids: list[str],
    text_vectors: npt.NDArray[np.float32],
    epochs: int = 30,
    batch: int = 32,
    learning_rate: float = 5e-3,
    seed: int = 0,
) -> list[float]:
    """Train a model of any shape, where it is, to say what a teacher said; returns the loss of each step.

    What the student does not know of a history is left out; of an answer, too, and the rest of it is scaled up.

    Args:
        student: Its capacity holds the items.
        said: The teacher's answers.
        item_ids: Of the student, N of them; index 0 is padding.
        text_vectors: Of the items, [N, T].
        epochs: Passes over the histories.
        batch: Histories per step.
        learning_rate: AdamW's, falling to 0 on a cosine.
        seed: Of the order.

    Raises:
        InvalidEntryError: If the student knows nothing of what the teacher spoke of.
    """
    index = {item_id: place for place, item_id in enumerate(item_ids) if place}
    own = torch.tensor([0, *(index.get(item_id, 0) for item_id in said.item_ids)])
    rows = [own[row][own[row] > 0] for row in torch.from_numpy(said.histories).long()]
    top, spoken = own[torch.from_numpy(said.top).long()], torch.from_numpy(said.log_probabilities).exp()
    spoken = spoken.masked_fill(top == 0, 0.0)
    usable = torch.tensor([len(row) > 0 for row in rows]) & (spoken.sum(dim=1) > 0)
    if not usable.any():
        raise InvalidEntryError(name="items", value=len(said.item_ids), expected="some that the student knows")
    places = usable.nonzero()[:, 0]
    texts, every = torch.from_numpy(text_vectors), torch.arange(len(item_ids))
    optimizer = torch.optim.AdamW(student.parameters(), lr=learning_rate, weight_decay=0.01)
    steps = epochs * math.ceil(len(places) / batch)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    generator, losses = torch.Generator().manual_seed(seed), []
    student.requires_grad_(requires_grad=True).eval()  # nothing is dropped: the answers are exact
    for _ in range(epochs):
        for chosen in places[torch.randperm(len(places), generator=generator)].split(batch):
            vectors = student.item_vectors(texts, every)
            vectors = torch.cat([torch.zeros_like(vectors[:1]), vectors[1:]])
            asked = [rows[place][-student.config.history_length :] for place in chosen.tolist()]
            lengths = torch.tensor([len(row) for row in asked])
            padded = torch.nn.utils.rnn.pad_sequence(asked, batch_first=True)
            logits = (student.newest(vectors[padded], lengths) @ vectors.T).index_fill(1, every[:1], -torch.inf)
            loss = top_k_loss(logits, top[chosen], spoken[chosen], torch.from_numpy(said.remaining)[chosen])
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    return losses


def top_k_loss(logits: Tensor, top: Tensor, probabilities: Tensor, remaining: Tensor) -> Tensor:
    """Return the cross entropy of a student against k items and all others together, a scalar.

    Args:
        logits: Of the student, [B, N]; minus infinity where nothing may be said.
        top: Indexes of the items that were spoken of, int64 [B, k]; 0: the student does not know it.
        probabilities: The teacher's, [B, k]; 0 at such places.
        remaining: Of all other items, [B].

    >>> logits = torch.tensor([[-torch.inf, 0.0, 0.0, 0.0]])
    >>> loss = top_k_loss(logits, torch.tensor([[1]]), torch.tensor([[1 / 3]]), torch.tensor([2 / 3]))
    >>> round(loss.item(), 4)  # the entropy of (1/3, 2/3): student and teacher agree
    0.6365
    """
    said = F.log_softmax(logits, dim=1)
    spoken = said.gather(1, top).masked_fill(probabilities == 0, 0.0)
    others = (1.0 - (spoken.exp() * (probabilities > 0)).sum(dim=1)).clamp(min=1e-6).log()
    total = probabilities.sum(dim=1) + remaining
    return (-((probabilities * spoken).sum(dim=1) + remaining * others) / total).mean()


def _asked(release: LoadedRelease, histories: list[list[int]], allowed: npt.NDArray[np.bool_]) -> Any:
    scores = release.encode_users(histories).astype(np.float64) @ release.item_matrix.T.astype(np.float64)
    scores[:, ~allowed] = -np.inf
    scores -= scores.max(axis=1, keepdims=True)
    return scores - np.log(np.exp(scores).sum(axis=1, keepdims=True))


def _next(history: list[int], said: npt.NDArray[np.integer[Any]]) -> int:
    """The likeliest item that the history does not have; the likeliest where it has them all."""
    return next((int(item) for item in said if int(item) not in history), int(said[0]))
