"""Releases on disk: immutable directories that prove themselves when they are loaded, and a pointer to the current one.

A release directory holds `model.safetensors` (weights and the item matrix), `items.json` (`item_index` -> `item_id`)
and `manifest.json` (configuration, lineage, and the SHA-256 of the other two). Nothing in it is ever written again.
"""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlparse

import numpy as np
import numpy.typing as npt
import torch
from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from learners.disk import sha256_of, whole_directory, write_whole
from learners.errors import CorruptReleaseError, ReleaseNotFoundError
from learners.items.layout import Layout
from learners.model import ModelConfig, SharedModel

Floats = npt.NDArray[np.float32]

WEIGHTS, ITEMS, MANIFEST = "model.safetensors", "items.json", "manifest.json"
STRATEGY = "strategy.safetensors"  # there if the strategy keeps something from round to round
_FORMAT = 1
_ENCODE_ROWS = 512  # histories in one forward pass: bounds memory, and longer batches gain nothing on a CPU core


class LoadedRelease:
    """A model ready to serve: users in, vectors out, items as one matrix. Never changes; share it between threads.

    Args:
        version: Its number; 0 while it is a candidate.
        item_ids: `item_index` -> `item_id` as the model learned them; index 0 is padding.
        model: The network, in evaluation mode.
        item_matrix: Item vectors [N, D]; row 0 is zero.
        manifest: What `manifest.json` says.
    """

    def __init__(
        self,
        *,
        version: int,
        item_ids: Sequence[str],
        model: SharedModel,
        item_matrix: Tensor,
        manifest: Mapping[str, Any],
    ) -> None:
        self.version = version
        self.item_ids = list(item_ids)
        self.index_of = {item_id: index for index, item_id in enumerate(self.item_ids) if index}
        self.model = model.eval().requires_grad_(requires_grad=False)
        self.manifest = dict(manifest)
        self._items = item_matrix.detach()

    @property
    def item_matrix(self) -> Floats:
        """Item vectors, float32 [N, D]; row 0 (padding) is zero. Scores are `encode_users(...) @ item_matrix.T`."""
        matrix: Floats = self._items.numpy()
        return matrix

    def encode_users(self, histories: Sequence[Sequence[int] | npt.NDArray[np.integer[Any]]]) -> Floats:
        """Return the user vector of each history, float32 [B, D].

        Args:
            histories: Item indexes of this release, oldest first; only the last `history_length` are read. Index 0 and
                indexes this release does not know are left out. An empty history gets the newcomer's vector.
        """
        rows = [_known(history, len(self._items), self.model.config.history_length) for history in histories]
        users = torch.empty(len(rows), self.model.config.width)
        by_length = sorted(range(len(rows)), key=lambda row: len(rows[row]))  # alike lengths together: little padding
        with torch.inference_mode():
            for batch in _batches(by_length, rows):
                padded, lengths = right_padded([rows[row] for row in batch])
                users[batch] = self.model.newest(self._items[padded], lengths)
        encoded: Floats = users.numpy()
        return encoded

    def encode_new_items(self, text_vectors: Floats) -> Floats:
        """Return vectors, float32 [n, D], for items never seen, from what describes them, [n, T], alone."""
        with torch.inference_mode():
            projected: Floats = self.model.described(torch.as_tensor(text_vectors, dtype=torch.float32)).numpy()
        return projected

    def extended(
        self, item_ids: Sequence[str], text_vectors: Floats, *, layout: Layout | None = None
    ) -> "LoadedRelease":
        """Return this release with new items appended to its matrix, so that they can be ranked and stand in histories.

        Args:
            item_ids: Items it does not know, in the order of their new indexes.
            text_vectors: What describes them, [n, T] or wider; zeros for what they lack.
            layout: Of these rows, where it may be another than this model's; what the model does not know is left out.
        """
        if layout is not None:
            text_vectors = layout.fitted(text_vectors, self.model.config.layout)
        added = torch.from_numpy(self.encode_new_items(text_vectors))
        return LoadedRelease(
            version=self.version,
            item_ids=[*self.item_ids, *item_ids],
            model=self.model,
            item_matrix=torch.cat([self._items, added]),
            manifest=self.manifest,
        )


def save_candidate(
    target: Path,
    *,
    model: SharedModel,
    item_matrix: Tensor,
    item_ids: Sequence[str],
    parent: int | None,
    facts: Mapping[str, Any],
    kept: Mapping[str, Tensor] | None = None,
) -> None:
    """Write an unnumbered release directory; it gets its number from the registry.

    Args:
        target: Must not exist yet; its parent is created.
        model: The network to keep.
        item_matrix: Item vectors [N, D] that the network was judged with.
        item_ids: `item_index` -> `item_id`, N of them.
        parent: Version that it was trained from and judged against; None for a first release.
        facts: JSON-able lineage and evidence, kept in the manifest under `facts`.
        kept: What the strategy needs to know in the next round.

    Raises:
        ReleaseWriteError: If the disk refuses; nothing is left at `target`.
    """
    weights = {f"model.{name}": value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    weights["item_matrix"] = item_matrix.detach().cpu().contiguous()
    files = {WEIGHTS: save_tensors(weights), ITEMS: json.dumps({"item_ids": list(item_ids)}).encode()}
    if kept:
        files[STRATEGY] = save_tensors({name: value.detach().cpu().contiguous() for name, value in kept.items()})
    manifest = {
        "format": _FORMAT,
        "version": 0,
        "parent": parent,
        "model": {"config": asdict(model.config), "capacity": model.capacity, "items": len(item_ids)},
        "files": {name: {"sha256": sha256_of(content), "bytes": len(content)} for name, content in files.items()},
        "facts": dict(facts),
    }
    with whole_directory(target) as folder:
        for name, content in files.items():
            (folder / name).write_bytes(content)
        (folder / MANIFEST).write_bytes(encode_manifest(manifest))


def load_kept(location: Path | str) -> dict[str, Tensor]:
    """Return what a release's strategy keeps from round to round, verified; empty if it keeps nothing.

    Raises:
        CorruptReleaseError: If the file differs from what the manifest promises.
    """
    folder = path_of(location)
    promised = read_manifest(folder)["files"].get(STRATEGY)
    return {} if promised is None else load_tensors(_verified(folder / STRATEGY, promised["sha256"]))


def encode_manifest(manifest: Mapping[str, Any]) -> bytes:
    """Return the manifest's bytes, the same for the same content."""
    return json.dumps(manifest, sort_keys=True, indent=1).encode()


def load_release(location: Path | str, *, sha256: str | None = None) -> LoadedRelease:
    """Load a release and verify every byte of it.

    Args:
        location: The directory, as a path or a `file://` URI.
        sha256: What the manifest's digest must be, where the registry or `models.releases` said.

    Raises:
        ReleaseNotFoundError: If there is no such directory.
        CorruptReleaseError: If any file differs from what the manifest (or `sha256`) promises.
    """
    folder = path_of(location)
    content = _read(folder / MANIFEST)
    if sha256 is not None and sha256_of(content) != sha256:
        raise CorruptReleaseError(path=folder / MANIFEST, found=f"sha256 {sha256_of(content)}", expected=sha256)
    try:
        manifest = json.loads(content)
        promised = {name: manifest["files"][name]["sha256"] for name in (WEIGHTS, ITEMS)}
        shape = manifest["model"]
        config, capacity = ModelConfig(**shape["config"]), int(shape["capacity"])
    except (ValueError, KeyError, TypeError) as error:
        raise CorruptReleaseError(path=folder / MANIFEST, found=repr(error), expected="a manifest") from error
    # The bytes that were verified are the bytes that are used: no file is mapped, none is read twice.
    files = {name: _verified(folder / name, promised[name]) for name in promised}
    try:
        tensors = load_tensors(files[WEIGHTS])
        item_matrix = tensors.pop("item_matrix")
        model = SharedModel(config, capacity=capacity)
        model.load_state_dict({name.removeprefix("model."): value for name, value in tensors.items()})
        item_ids = json.loads(files[ITEMS])["item_ids"]
    except (SafetensorError, RuntimeError, KeyError, ValueError) as error:
        raise CorruptReleaseError(path=folder / WEIGHTS, found=repr(error), expected="this model's weights") from error
    return LoadedRelease(
        version=int(manifest["version"]), item_ids=item_ids, model=model, item_matrix=item_matrix, manifest=manifest
    )


def read_manifest(location: Path | str) -> dict[str, Any]:
    """Return a release's manifest, unverified."""
    manifest: dict[str, Any] = json.loads(_read(path_of(location) / MANIFEST))
    return manifest


def path_of(location: Path | str) -> Path:
    """Return the directory that a path or a `file://` URI names.

    >>> path_of("file:///data/versions/3").as_posix()
    '/data/versions/3'
    """
    if isinstance(location, str) and location.startswith("file:"):
        return Path(unquote(urlparse(location).path))
    return Path(location)


@dataclass(frozen=True, slots=True)
class Pointer:
    """What `CURRENT` says: which version serves, and by which record."""

    version: int
    sequence: int


def read_pointer(root: Path) -> Pointer | None:
    """Return what `CURRENT` under `root` says, or None if it is absent or unreadable (the registry repairs it)."""
    try:
        content = json.loads((root / "CURRENT").read_bytes())
        return Pointer(version=int(content["version"]), sequence=int(content["sequence"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def write_pointer(root: Path, pointer: Pointer) -> None:
    """Move `CURRENT` under `root`, in one step.

    Raises:
        ReleaseWriteError: If the disk refuses; the old pointer stands.
    """
    write_whole(root / "CURRENT", json.dumps(asdict(pointer)).encode())


def right_padded(rows: Sequence[npt.NDArray[np.int64]]) -> tuple[Tensor, Tensor]:
    """Return histories as one right-padded tensor [B, longest] and their lengths [B].

    >>> right_padded([np.array([7, 8]), np.array([], dtype=np.int64)])[0].tolist()
    [[7, 8], [0, 0]]
    """
    lengths = torch.tensor([len(row) for row in rows])
    padded = np.zeros((len(rows), max(1, int(lengths.max()))), dtype=np.int64)
    for position, row in enumerate(rows):
        padded[position, : len(row)] = row
    return torch.from_numpy(padded), lengths


def _known(
    history: Sequence[int] | npt.NDArray[np.integer[Any]], items: int, history_length: int
) -> npt.NDArray[np.int64]:
    row = np.asarray(history, dtype=np.int64)
    return row[(row > 0) & (row < items)][-history_length:]


def _batches(by_length: list[int], rows: Sequence[npt.NDArray[np.int64]]) -> Iterable[list[int]]:
    """Cut rows, sorted by length, where a batch is full or padding would outgrow a quarter of the longest row."""
    batch: list[int] = []
    for row in by_length:
        if batch and (len(batch) == _ENCODE_ROWS or len(rows[row]) > 8 + 1.25 * len(rows[batch[0]])):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise ReleaseNotFoundError(
            model=path.parent.parent.name, version=path.parent.name, detail=str(error)
        ) from error


def _verified(path: Path, promised: str) -> bytes:
    content = _read(path)
    if (found := sha256_of(content)) != promised:
        raise CorruptReleaseError(path=path, found=f"sha256 {found}", expected=promised)
    return content
