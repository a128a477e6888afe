"""Nested state as one atomic directory: arrays in `arrays.npz`, the rest in `state.json`."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from learners.disk import whole_directory
from learners.errors import CorruptCheckpointError

_ARRAYS, _STATE = "arrays.npz", "state.json"
_REFERENCE = "__array__"
_OLD = ".old"


def save_state(folder: Path, state: dict[str, Any]) -> None:
    """Write nested dicts and lists of plain values and arrays into `folder`, replacing it in one step.

    A kill at any moment leaves the old state or the new one, whole. An existing empty directory belongs to a caller who
    cares for that, and is simply written into.

    Raises:
        ReleaseWriteError: If the disk refuses; the old state is untouched.
    """
    arrays: dict[str, Any] = {}
    plain = _without_arrays(state, arrays)
    if folder.is_dir() and not any(folder.iterdir()):
        _write(folder, plain, arrays)
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    _repair(folder)
    fresh = folder.with_name(folder.name + ".new")
    if fresh.exists():
        shutil.rmtree(fresh)
    with whole_directory(fresh) as target:
        _write(target, plain, arrays)
    old = folder.with_name(folder.name + _OLD)
    if folder.exists():
        folder.rename(old)
    fresh.rename(folder)
    shutil.rmtree(old, ignore_errors=True)


def load_state(folder: Path) -> dict[str, Any] | None:
    """Return what `save_state` wrote last, or None if it never wrote.

    Raises:
        CorruptCheckpointError: If the files cannot be read.
    """
    _repair(folder)
    if not folder.is_dir():
        return None
    try:
        plain = json.loads((folder / _STATE).read_text(encoding="utf-8"))
        with np.load(folder / _ARRAYS, allow_pickle=False) as arrays:
            state: dict[str, Any] = _with_arrays(plain, {name: arrays[name] for name in arrays.files})
    except (OSError, ValueError, KeyError) as error:
        raise CorruptCheckpointError(path=folder, cause=repr(error)) from error
    return state


def _write(folder: Path, plain: Any, arrays: dict[str, Any]) -> None:
    np.savez(folder / _ARRAYS, allow_pickle=False, **arrays)
    (folder / _STATE).write_text(json.dumps(plain), encoding="utf-8")


def _repair(folder: Path) -> None:
    """Finish or undo a replacement that a kill interrupted between its two renames."""
    fresh, old = folder.with_name(folder.name + ".new"), folder.with_name(folder.name + _OLD)
    if not folder.exists():
        if fresh.is_dir():
            fresh.rename(folder)
        elif old.is_dir():
            old.rename(folder)
    if folder.exists() and old.exists():
        shutil.rmtree(old)


def _without_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, np.ndarray):
        name = f"a{len(arrays)}"
        arrays[name] = value
        return {_REFERENCE: name}
    if isinstance(value, dict):
        return {key: _without_arrays(part, arrays) for key, part in value.items()}
    if isinstance(value, list | tuple) and value and isinstance(value[0], dict | np.ndarray):
        return [_without_arrays(part, arrays) for part in value]
    return value


def _with_arrays(value: Any, arrays: dict[str, Any]) -> Any:
    if isinstance(value, dict):
        if _REFERENCE in value:
            return arrays[value[_REFERENCE]]
        return {key: _with_arrays(part, arrays) for key, part in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_with_arrays(part, arrays) for part in value]
    return value
