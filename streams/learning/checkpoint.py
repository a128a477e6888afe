"""The learner's checkpoint: state and position in one directory that is there whole or not at all."""

import shutil
from collections.abc import Callable
from pathlib import Path

import msgspec
import structlog

from learners.disk import TEMPORARY_PREFIX, sweep, whole_directory
from streams.learning.errors import UnknownCheckpointError
from streams.learning.position import CHECKPOINT_FORMAT, Position

log = structlog.get_logger(__name__)

STATE, POSITION = "learner", "position.json"


class Checkpoints:
    """Numbered checkpoints under one directory; the highest number is the newest.

    Writing has two halves, so that learning stands still only for the first: `stage` writes the state while nobody
    changes it, `commit` makes it durable and the newest. A kill in either leaves the one before.

    Args:
        root: Its directory, made if need be. What killed writers left there is removed.
    """

    def __init__(self, root: Path) -> None:
        root.mkdir(parents=True, exist_ok=True)
        sweep(root)
        self._root = root

    def newest(self) -> tuple[Path, Position] | None:
        """Return the learner's state directory and position of the newest checkpoint, or None if there is none.

        Raises:
            UnknownCheckpointError: If another version of this program wrote it.
        """
        if not (numbers := self._numbers()):
            return None
        folder = self._folder(numbers[-1])
        content = (folder / POSITION).read_bytes()
        try:
            position = msgspec.json.decode(content, type=Position)
        except msgspec.ValidationError as error:
            raise UnknownCheckpointError(path=folder, found=str(error), expected=CHECKPOINT_FORMAT) from error
        if position.format != CHECKPOINT_FORMAT:
            raise UnknownCheckpointError(path=folder, found=position.format, expected=CHECKPOINT_FORMAT)
        return folder / STATE, position

    def stage(self, save: Callable[[Path], None]) -> Path:
        """Let `save` write the state into a directory that it makes; pass what is returned to `commit`."""
        staged = self._root / f"{TEMPORARY_PREFIX}staged"
        shutil.rmtree(staged, ignore_errors=True)
        staged.mkdir()
        save(staged / STATE)
        return staged / STATE

    def commit(self, staged: Path, position: Position) -> int:
        """Make a staged state durable, and the newest; returns its size in bytes. Older checkpoints are removed.

        Only one is kept: an older one would hold what a person asked to have forgotten.
        """
        numbers = self._numbers()
        with whole_directory(self._folder(numbers[-1] + 1 if numbers else 1)) as folder:
            staged.rename(folder / STATE)
            (folder / POSITION).write_bytes(msgspec.json.encode(position))
            size_bytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        for left in (staged.parent, *map(self._folder, numbers)):
            shutil.rmtree(left, ignore_errors=True)
        return size_bytes

    def _numbers(self) -> list[int]:
        return sorted(int(path.name) for path in self._root.iterdir() if path.name.isdigit())

    def _folder(self, number: int) -> Path:
        return self._root / f"{number:08d}"
