"""What artifacts hold: tensors (safetensors), vectors with keys (the same), or rows (JSON lines).

The same content is always the same bytes, so that it has one address.
"""

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from learners.knowledge.entry import Kind
from learners.knowledge.errors import InvalidEntryError

Floats = npt.NDArray[np.float32]
Row = Mapping[str, Any]
Keeps = Callable[[str, int | None], bool]

OF_THE_CATALOGUE = "id_embedding.weight"  # the one parameter of a shared model that means nothing without its items
TENSORS, VECTORS, ROWS = "tensors", "vectors", "rows"
FORM_OF: Mapping[Kind, str] = {
    "adapter": TENSORS,
    "head": TENSORS,
    "fisher": TENSORS,
    "teacher_logits": TENSORS,
    "prototypes": VECTORS,
    "item_embeddings": VECTORS,
    "user_embeddings": VECTORS,
    "exemplars": ROWS,
    "graph_edges": ROWS,
}
USER, SINCE = "user_id", "since_ms"
_KEYS = "keys"
_UNKNOWN = -1  # in the tensor of `since_ms`: not known


@dataclass(frozen=True, slots=True)
class KeyedVectors:
    """Vectors by key: items by `item_id`, people by `user_id`, prototypes by what they stand for.

    Args:
        keys: n different keys.
        vectors: float32 [n, D].
        since_ms: Of vectors about people: the oldest event that each knows of, int64 [n], -1 where that is not known.

    Raises:
        InvalidEntryError: If the shapes contradict each other, a key comes twice, or a number is not finite.
    """

    keys: tuple[str, ...]
    vectors: Floats
    since_ms: npt.NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        """Check everything once."""
        shape = self.vectors.shape
        if len(shape) != 2 or shape[0] != len(self.keys):
            raise InvalidEntryError(name="vectors", value=f"of shape {shape}", expected=f"[{len(self.keys)}, D]")
        if len(set(self.keys)) != len(self.keys) or any("\0" in key for key in self.keys):
            raise InvalidEntryError(name="keys", value="repeated or with NUL", expected="different keys without NUL")
        if not np.isfinite(self.vectors).all():
            raise InvalidEntryError(name="vectors", value="not finite", expected="finite numbers")
        if self.since_ms is not None and self.since_ms.shape != (len(self.keys),):
            raise InvalidEntryError(name=SINCE, value=f"of shape {self.since_ms.shape}", expected=f"[{len(self.keys)}]")


def encode_tensors(tensors: Mapping[str, Tensor]) -> bytes:
    """Return named tensors as bytes.

    >>> decode_tensors(encode_tensors({"head.weight": torch.ones(2)}))["head.weight"].tolist()
    [1.0, 1.0]
    """
    content: bytes = save_tensors({name: value.detach().cpu().contiguous() for name, value in sorted(tensors.items())})
    return content


def decode_tensors(content: bytes) -> dict[str, Tensor]:
    """Read what `encode_tensors` wrote.

    Raises:
        InvalidEntryError: If the bytes are no safetensors.
    """
    try:
        tensors: dict[str, Tensor] = load_tensors(content)
    except SafetensorError as error:
        raise InvalidEntryError(name="content", value=str(error), expected="safetensors") from error
    return tensors


def encode_vectors(vectors: KeyedVectors) -> bytes:
    """Return vectors and their keys as bytes.

    >>> found = decode_vectors(encode_vectors(KeyedVectors(("mug", "tea"), np.eye(2, dtype=np.float32))))
    >>> found.keys, found.vectors.tolist(), found.since_ms
    (('mug', 'tea'), [[1.0, 0.0], [0.0, 1.0]], None)
    """
    tensors = {VECTORS: torch.from_numpy(np.ascontiguousarray(vectors.vectors, dtype=np.float32))}
    if vectors.since_ms is not None:
        tensors[SINCE] = torch.from_numpy(np.ascontiguousarray(vectors.since_ms, dtype=np.int64))
    content: bytes = save_tensors(tensors, metadata={_KEYS: json.dumps(vectors.keys)})
    return content


def decode_vectors(content: bytes) -> KeyedVectors:
    """Read what `encode_vectors` wrote.

    Raises:
        InvalidEntryError: If the bytes are no vectors with keys.
    """
    tensors = decode_tensors(content)
    try:
        header = json.loads(content[8 : 8 + int.from_bytes(content[:8], "little")])  # as safetensors lays it out
        keys = tuple(str(key) for key in json.loads(header["__metadata__"][_KEYS]))
        since = tensors.get(SINCE)
        return KeyedVectors(keys, tensors[VECTORS].float().numpy(), None if since is None else since.numpy())
    except (KeyError, ValueError, TypeError) as error:
        raise InvalidEntryError(name="content", value=repr(error), expected="vectors with keys") from error


def encode_rows(rows: Iterable[Row]) -> bytes:
    r"""Return rows as JSON lines.

    >>> encode_rows([{"user_id": "ada", "item_id": "mug"}])
    b'{"item_id":"mug","user_id":"ada"}\n'
    """
    lines = (json.dumps(row, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n" for row in rows)
    return "".join(lines).encode()


def decode_rows(content: bytes) -> list[dict[str, Any]]:
    r"""Read what `encode_rows` wrote.

    >>> decode_rows(b'{"item_id":"mug"}\n')
    [{'item_id': 'mug'}]

    Raises:
        InvalidEntryError: If a line is no JSON object.
    """
    try:
        rows = [json.loads(line) for line in content.decode().split("\n") if line]
    except ValueError as error:
        raise InvalidEntryError(name="content", value=str(error), expected="JSON lines") from error
    if not all(isinstance(row, dict) for row in rows):
        raise InvalidEntryError(name="content", value="a line that is no object", expected="a JSON object a line")
    return rows


def check(kind: Kind, content: bytes) -> None:
    """Refuse content that is not what its kind says.

    Raises:
        InvalidEntryError: If it cannot be read, or exemplars do not say whose they are.
    """
    if kind not in FORM_OF:
        raise InvalidEntryError(name="kind", value=kind, expected=f"one of {', '.join(FORM_OF)}")
    _READERS[FORM_OF[kind]](content)
    if kind == "exemplars" and not all(isinstance(row.get(USER), str) for row in decode_rows(content)):
        raise InvalidEntryError(name="content", value=f"a row without {USER}", expected="whose row it is, in each")


def redacted(kind: Kind, content: bytes, keeps: Keeps) -> bytes | None:
    r"""Return the content without the rows of whoever is to be forgotten, or None if it holds none.

    Args:
        kind: `exemplars` or `user_embeddings`.
        content: Its bytes.
        keeps: Of a user_id and the oldest event that a row knows of (None: not known): whether the row may stay.

    >>> rows = encode_rows([{"user_id": "ada", "since_ms": 5}, {"user_id": "bob"}])
    >>> redacted("exemplars", rows, lambda user_id, since_ms: user_id != "ada")
    b'{"user_id":"bob"}\n'
    """
    if kind == "exemplars":
        rows = decode_rows(content)
        stay = [row for row in rows if keeps(row[USER], row.get(SINCE))]
        return None if len(stay) == len(rows) else encode_rows(stay)
    found = decode_vectors(content)
    since: Sequence[int] = [_UNKNOWN] * len(found.keys) if found.since_ms is None else found.since_ms.tolist()
    chosen = [
        index
        for index, (key, oldest) in enumerate(zip(found.keys, since, strict=True))
        if keeps(key, None if oldest == _UNKNOWN else oldest)
    ]
    if len(chosen) == len(found.keys):
        return None
    left = None if found.since_ms is None else found.since_ms[chosen]
    return encode_vectors(KeyedVectors(tuple(found.keys[index] for index in chosen), found.vectors[chosen], left))


def keeper(erasures: Mapping[str, int]) -> Keeps:
    """Return what decides whether a person's row may stay.

    Args:
        erasures: user_id -> time in ms up to which they are forgotten. A row that does not say since when it knows the
            person, or knows them from before, goes.

    >>> keeps = keeper({"ada": 100})
    >>> keeps("ada", 100), keeps("ada", None), keeps("ada", 101), keeps("bob", None)
    (False, False, True, True)
    """

    def keeps(user_id: str, since_ms: int | None) -> bool:
        until_ms = erasures.get(user_id)
        return until_ms is None or (since_ms is not None and since_ms > until_ms)

    return keeps


_READERS: Mapping[str, Callable[[bytes], Any]] = {
    TENSORS: decode_tensors,
    VECTORS: decode_vectors,
    ROWS: decode_rows,
}
