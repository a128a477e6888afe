"""The model of a task: encoder, its adaptation, pooling and head, all by name."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learners.tasks.adapters import ADAPTATIONS
from learners.tasks.backbones import Backbone, StateCache, by_length, sharing_copy
from learners.tasks.examples import Example
from learners.tasks.layers import HEAD_LAYERS, POOLING_LAYERS, MeanPooling, together
from learners.tasks.task import Task

Floats = np.ndarray[Any, np.dtype[np.float32]]
_BATCH = 128
_LEAST_SPREAD = 1e-6
_MEASURES = ("number_means", "number_spreads", "label_mean", "label_spread")


class TaskModel(nn.Module):
    """encoder -> adaptation -> pooling -> head, for one task.

    Frozen encoders are shared between all models of a process and their states remembered.

    Args:
        task: The declaration.
        encoder: Of the task's texts.
        cache: Of states, where the encoder is frozen; None: one of its own.
    """

    number_means: Tensor
    number_spreads: Tensor
    label_mean: Tensor
    label_spread: Tensor

    def __init__(self, task: Task, encoder: Backbone, *, cache: StateCache | None = None) -> None:
        super().__init__()
        self.task, self.encoder = task, encoder
        self._cache = (cache or StateCache(),)  # in a tuple: copies of the model share it
        width = encoder.width if task.inputs else 0
        self.adapter: nn.Module = (
            ADAPTATIONS[task.training.encoder](encoder.network(), task.training) if width else nn.Identity()
        )
        self.pooling = POOLING_LAYERS[task.head.pooling](width) if width else nn.Identity()
        self.sides = 2 if task.kind == "pair" and task.head.interaction != "cross" else 1
        read = 4 * width if self.sides > 1 else width + 2 * len(task.numbers)
        self.head = HEAD_LAYERS[task.head.kind](read, max(len(task.classes), 1), task.head)
        if self.sides > 1:
            self.similarity = nn.Parameter(torch.ones(()))  # so that an untrained pair model ranks as the encoder does
        if task.head.interaction == "cosine":
            self.head.requires_grad_(requires_grad=False)  # stays zero
        for name, count in (("number", len(task.numbers)), ("label", 1)):
            plural = "s" if name == "number" else ""
            self.register_buffer(f"{name}_mean{plural}", torch.zeros(count))
            self.register_buffer(f"{name}_spread{plural}", torch.ones(count))

    def standardise(self, examples: Sequence[Example]) -> None:
        """Fix what numbers and labels are measured in, from the first examples that are learned."""
        self.measure_numbers([example.numbers for example in examples])
        self.measure_labels(examples)

    def measure_numbers(self, rows: Sequence[Sequence[float]]) -> None:
        """Fix what numbers are measured in, from rows of them."""
        if self.task.numbers:
            numbers = np.array(rows, dtype=np.float64)
            with np.errstate(all="ignore"):
                filled = np.where(np.isfinite(numbers), numbers, np.nan)
                known = np.isfinite(filled).any(axis=0)
                means = np.where(known, np.nanmean(np.where(known, filled, 0.0), axis=0), 0.0)
                spreads = np.where(known, np.nanstd(np.where(known, filled, 0.0), axis=0), 1.0)
            self.number_means.copy_(torch.from_numpy(means))
            self.number_spreads.copy_(torch.from_numpy(np.where(spreads > _LEAST_SPREAD, spreads, 1.0)))

    def measure_labels(self, examples: Sequence[Example]) -> None:
        """Fix what labels are measured in."""
        if self.task.kind in {"score", "pair"} and self.task.loss != "binary":
            labels = np.array([example.label for example in examples], dtype=np.float64)
            self.label_mean.fill_(float(labels.mean()))
            self.label_spread.fill_(max(float(labels.std()), _LEAST_SPREAD) if labels.std() > _LEAST_SPREAD else 1.0)

    def forward(self, examples: Sequence[Example]) -> Tensor:
        """Return what the head says: log odds [B, C] for `classify`, otherwise one number each, [B]."""
        return self.answer(self.features(examples))

    def features(self, examples: Sequence[Example]) -> Tensor:
        """Return what the head reads, [B, F]: pooled texts (of a pair both sides), then numbers."""
        if self.sides > 1:
            return torch.cat([self.pooled([example.texts[side] for example in examples]) for side in (0, 1)], dim=-1)
        parts = []
        if self.task.inputs:
            parts.append(self.pooled([self.encoder.separator.join(example.texts) for example in examples]))
        if self.task.numbers:
            parts.append(self._numbers(examples))
        return torch.cat(parts, dim=-1)

    def answer(self, features: Tensor) -> Tensor:
        """Return [B, C] or [B] from features [B, F]."""
        if self.sides > 1:
            left, right = features.chunk(2, dim=-1)
            alike = self.similarity * F.cosine_similarity(left, right, dim=-1)
            if self.task.head.interaction == "cosine":
                return alike
            said: Tensor = self.head(together(left, right))[..., 0]
            return said + alike
        outputs: Tensor = self.head(features)
        return outputs if self.task.kind == "classify" else outputs[..., 0]

    def pooled(self, texts: Sequence[str]) -> Tensor:
        """Return one vector per text, [B, D]; the same text is read once."""
        different = list(dict.fromkeys(texts))
        states, mask = self._states(different)
        vectors: Tensor = self.pooling(states, mask)
        if len(different) == len(texts):
            return vectors
        places = {text: place for place, text in enumerate(different)}
        return vectors[torch.tensor([places[text] for text in texts])]

    def described(self, texts: Sequence[str]) -> Floats:
        """Return what the untouched encoder says of texts, mean-pooled, float32 [n, D]."""
        if not texts:
            return np.zeros((0, self.encoder.width), dtype=np.float32)
        states, mask = self._cache[0].states(self.encoder, texts, most=self.task.training.max_tokens)
        vectors: Floats = MeanPooling(states.shape[-1])(states, mask).numpy()
        return vectors

    def forget_states(self) -> None:
        """Forget every text whose states are remembered; they are computed again when needed."""
        self._cache[0].clear()

    def scores(self, examples: Sequence[Example]) -> Floats:
        """Return what is predicted, without gradients, in the order given.

        Returns:
            `classify`: chances [n, C]; otherwise one number each, in the label's units, [n].
        """
        wide = (len(self.task.classes),) if self.task.kind == "classify" else ()
        found = np.zeros((len(examples), *wide), dtype=np.float32)
        was_training = self.training
        self.eval()
        with torch.inference_mode():
            for rows in by_length([" ".join(example.texts) for example in examples], _BATCH):
                found[rows] = self._in_units(self([examples[row] for row in rows])).float().numpy()
        self.train(was_training)
        return found

    def train(self, mode: bool = True) -> "TaskModel":  # noqa: FBT001, FBT002 - torch's own signature
        """As torch does, but the encoder never drops anything: rounds are short, and dropping costs time."""
        super().train(mode)
        self.adapter.eval()
        return self

    def copy(self) -> "TaskModel":
        """Return a copy to train; what is frozen is shared."""
        copied: Any = sharing_copy(self)
        return copied  # type: ignore[no-any-return]

    def __deepcopy__(self, memo: dict[int, Any]) -> "TaskModel":
        """Share encoder and cache, which nobody changes."""
        memo[id(self.encoder)], memo[id(self._cache)] = self.encoder, self._cache
        twin = self.__class__.__new__(self.__class__)
        memo[id(self)] = twin
        twin.__dict__.update({name: copy.deepcopy(value, memo) for name, value in self.__dict__.items()})
        return twin

    def trained(self) -> dict[str, nn.Parameter]:
        """Return the parameters that learn, by name."""
        return {name: value for name, value in self.named_parameters() if value.requires_grad}

    def changing(self) -> dict[str, Tensor]:
        """Return all that learning changes, by name; the tensors themselves."""
        return {**self.trained(), **{name: getattr(self, name) for name in _MEASURES}}

    def learned(self) -> dict[str, Tensor]:
        """Return copies of all that learning changes, by name; `restore` takes it."""
        return {name: value.detach().clone() for name, value in self.changing().items()}

    def restore(self, learned: Mapping[str, Tensor]) -> None:
        """Become what `learned` described.

        Raises:
            KeyError: If something is missing.
            RuntimeError: If a shape is another.
        """
        with torch.no_grad():
            for name, value in self.changing().items():
                value.copy_(learned[name])

    def _states(self, texts: Sequence[str]) -> tuple[Tensor, Tensor]:
        most = self.task.training.max_tokens
        if self.task.training.encoder == "frozen":
            return self._cache[0].states(self.encoder, texts, most=most)
        tokens, mask = self.encoder.tokens(texts, most=most)
        return self.adapter(tokens, mask), mask

    def _numbers(self, examples: Sequence[Example]) -> Tensor:
        numbers = torch.tensor([example.numbers for example in examples], dtype=torch.float32)
        missing = numbers.isnan()
        standard = ((numbers - self.number_means) / self.number_spreads).clamp(-10, 10)
        return torch.cat([standard.masked_fill(missing, 0.0), missing.float()], dim=-1)

    def _in_units(self, outputs: Tensor) -> Tensor:
        if self.task.kind == "classify":
            return outputs.softmax(dim=-1)
        if self.task.loss == "binary":
            return outputs.sigmoid()
        if self.task.loss in {"mse", "huber"}:
            return outputs * self.label_spread + self.label_mean
        return outputs
