"""What changed between two entries: what they say of themselves, and their contents."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from learners.knowledge import contents
from learners.knowledge.entry import Entry
from learners.knowledge.store import KnowledgeStore

_UNINTERESTING = frozenset({"entry_id", "embedding"})


@dataclass(frozen=True, slots=True)
class TensorChange:
    """How far one tensor moved.

    Args:
        name: Of the tensor.
        distance: L2 norm of the difference; None if the shapes differ.
        relative: The same, divided by the norm of the first; None if the shapes differ, infinite if that norm is 0.
        detail: Shapes.
    """

    name: str
    distance: float | None
    relative: float | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What changed from one entry to another.

    Args:
        fields: Field -> its value in the first and in the second, where they differ; `a.b` for what is inside.
        tensors: Of weights and of vectors: how far each moved.
        only_first: Names (tensors, keys) or rows that only the first has; of rows, how many.
        only_second: The same of the second.
        common: How many both have.
        alike: Cosine of the tasks' vectors; None if one has none.
    """

    fields: Mapping[str, tuple[Any, Any]]
    tensors: tuple[TensorChange, ...] = ()
    only_first: tuple[str, ...] = field(default_factory=tuple)
    only_second: tuple[str, ...] = field(default_factory=tuple)
    common: int = 0
    alike: float | None = None


def difference(store: KnowledgeStore, first_id: str, second_id: str) -> Difference:
    """Compare two entries and their artifacts.

    Raises:
        KnowledgeNotFoundError: If one of them is not there.
        CorruptKnowledgeError: If an artifact is damaged.
    """
    first, second = store.show(first_id), store.show(second_id)
    fields, alike = changed_fields(first, second), _cosine(first.embedding, second.embedding)
    form = contents.FORM_OF[first.kind]
    if contents.FORM_OF[second.kind] != form:
        return Difference(fields=fields, alike=alike)
    one, other = store.verified(first), store.verified(second)
    if form == contents.ROWS:
        rows, others = (Counter(content.splitlines()) for content in (one, other))
        return Difference(
            fields=fields,
            only_first=_rows_left(rows - others),
            only_second=_rows_left(others - rows),
            common=(rows & others).total(),
            alike=alike,
        )
    named, others_named = (_tensors(form, content) for content in (one, other))
    common = [name for name in named if name in others_named]
    return Difference(
        fields=fields,
        tensors=tuple(change(name, named[name], others_named[name]) for name in common),
        only_first=tuple(name for name in named if name not in others_named),
        only_second=tuple(name for name in others_named if name not in named),
        common=len(common),
        alike=alike,
    )


def changed_fields(first: Entry, second: Entry) -> dict[str, tuple[Any, Any]]:
    """Return what two entries say differently of themselves."""
    one, other = _flat(first.as_dict()), _flat(second.as_dict())
    names = [*one, *(name for name in other if name not in one)]
    return {
        name: (one.get(name), other.get(name))
        for name in names
        if name not in _UNINTERESTING and one.get(name) != other.get(name)
    }


def change(name: str, first: Tensor, second: Tensor) -> TensorChange:
    """Measure how far a tensor moved.

    >>> change("w", torch.tensor([3.0, 4.0]), torch.tensor([3.0, 3.0]))
    TensorChange(name='w', distance=1.0, relative=0.2, detail='[2]')
    """
    if first.shape != second.shape:
        return TensorChange(name, None, None, f"{list(first.shape)} became {list(second.shape)}")
    distance = float((second.double() - first.double()).norm())
    length = float(first.double().norm())
    relative = distance / length if length else (0.0 if distance == 0 else float("inf"))
    return TensorChange(name, distance, relative, str(list(first.shape)))


def _tensors(form: str, content: bytes) -> dict[str, Tensor]:
    """Return what an artifact names: weights by name, vectors by key."""
    if form == contents.TENSORS:
        return dict(sorted(contents.decode_tensors(content).items()))
    found = contents.decode_vectors(content)
    return {key: torch.from_numpy(vector) for key, vector in zip(found.keys, found.vectors, strict=True)}


def _rows_left(rows: Counter[bytes]) -> tuple[str, ...]:
    return (f"{rows.total()} rows",) if rows else ()


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested mappings as one.

    >>> _flat({"worth": {"ndcg_10": 0.1}, "kind": "head"})
    {'worth.ndcg_10': 0.1, 'kind': 'head'}
    """
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {prefix + name: value}
    return flat


def _cosine(first: tuple[float, ...], second: tuple[float, ...]) -> float | None:
    one, other = np.array(first), np.array(second)
    lengths = float(np.linalg.norm(one) * np.linalg.norm(other)) if len(one) == len(other) else 0.0
    return float(one @ other / lengths) if lengths else None
