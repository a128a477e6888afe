"""A learner of tasks on disk: one immutable directory per save and a pointer to the newest, both whole or not there."""

import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from safetensors.torch import save as save_tensors
from torch import Tensor

from learners.disk import sha256_of, sweep, whole_directory, write_whole
from learners.tasks.errors import CorruptTaskError, InvalidTaskError, TaskNotFoundError

CURRENT, MANIFEST, STATE, TENSORS = "CURRENT", "manifest.json", "state.json", "learned.safetensors"
_FORMAT = 1
_OWN = frozenset({"format", "encoder", "sha256"})  # of the manifest; the rest is what is declared


@dataclass(frozen=True, slots=True)
class Saved:
    """What a folder holds of a learner.

    Args:
        declared: What it learns, as plain values: its `task`, or its `tasks` and how they are learned jointly.
        state: JSON-able.
        learned: Tensors by name.
        encoder: Fingerprint of what they were learned beside.
    """

    declared: Mapping[str, Any]
    state: Mapping[str, Any]
    learned: Mapping[str, Tensor]
    encoder: str


def save(
    folder: Path,
    *,
    declared: Mapping[str, Any],
    state: Mapping[str, Any],
    learned: Mapping[str, Tensor],
    encoder: str,
) -> None:
    """Write a new version beside the old one, turn the pointer, and remove the old one.

    Args:
        folder: Created if missing; one writer at a time.
        declared: JSON-able; what is learned.
        state: JSON-able.
        learned: What the model learned.
        encoder: Fingerprint of what it learned beside.

    Raises:
        ReleaseWriteError: If the disk refuses; what was there before is untouched.
    """
    folder = Path(folder)
    sweep(folder)
    contents = {
        STATE: json.dumps(dict(state), sort_keys=True).encode(),
        TENSORS: save_tensors({name: value.detach().cpu().contiguous() for name, value in learned.items()}),
    }
    manifest = {
        "format": _FORMAT,
        **declared,
        "encoder": encoder,
        "sha256": {name: sha256_of(content) for name, content in contents.items()},
    }
    name = f"save-{uuid4().hex}"
    with whole_directory(folder / name) as temporary:
        for file, content in contents.items():
            (temporary / file).write_bytes(content)
        (temporary / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True), encoding="utf-8")
    write_whole(folder / CURRENT, name.encode())
    for old in folder.glob("save-*"):
        if old.name != name:
            shutil.rmtree(old, ignore_errors=True)


def load(folder: Path) -> Saved:
    """Read what `save` wrote, proving every byte.

    Raises:
        TaskNotFoundError: If nothing was saved there.
        CorruptTaskError: If it is not what `save` writes.
    """
    folder = Path(folder)
    if not (folder / CURRENT).exists():
        raise TaskNotFoundError(path=folder)
    with reading(folder):
        current = folder / (folder / CURRENT).read_text(encoding="utf-8")
        manifest = json.loads((current / MANIFEST).read_text(encoding="utf-8"))
        contents = {name: (current / name).read_bytes() for name in (STATE, TENSORS)}
        for name, content in contents.items():
            if sha256_of(content) != manifest["sha256"][name]:
                raise CorruptTaskError(path=current / name, cause="its SHA-256 is not the manifest's")
        declared = {name: value for name, value in manifest.items() if name not in _OWN}
        return Saved(declared, json.loads(contents[STATE]), load_tensors(contents[TENSORS]), manifest["encoder"])


def check_encoder(folder: Path, saved: str, present: str) -> None:
    """Refuse what was learned beside another encoder: it would mean nothing.

    Raises:
        CorruptTaskError: If the fingerprints differ.
    """
    if saved != present:
        raise CorruptTaskError(path=folder, cause=f"learned beside encoder {saved!r}, which is {present!r} here")


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Translate whatever a spoilt folder raises.

    Raises:
        CorruptTaskError: For any of it.
    """
    try:
        yield
    except CorruptTaskError:
        raise
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, SafetensorError, InvalidTaskError) as error:
        raise CorruptTaskError(path=folder, cause=repr(error)) from error
