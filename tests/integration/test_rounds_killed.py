"""A release is never half new: the publisher is killed with -9 at every step, and the next start puts things right."""

import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from learners.model import ModelConfig, SharedModel
from learners.releases.registry import VERSIONS, Registry
from learners.releases.release import Pointer, load_release, read_pointer, save_candidate

CONFIG = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=6, spare_rows=0, hash_buckets=1)

BEFORE_THE_ROW = (
    "while files are copied",
    "before the directory is renamed",
    "after the directory is renamed",
    "after the row is written, not committed",
)
AFTER_THE_ROW = (
    "after the row is committed",
    "while the pointer is written",
    "after the pointer has moved",
    "before it is marked as sent",
)


def publish_and_die(step: str, registry: Registry, folder: Path) -> int:
    """Publish in a process of its own that kills itself at one step; returns how it ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        owner, name, kill = {
            "while files are copied": (shutil, "copyfile", after),
            "before the directory is renamed": (Path, "rename", before),
            "after the directory is renamed": (Path, "rename", after),
            "after the row is written, not committed": (Registry, "_insert", after),
            "after the row is committed": (Registry, "_point", before),
            "while the pointer is written": (Path, "replace", before),
            "after the pointer has moved": (Registry, "_point", after),
            "before it is marked as sent": (Registry, "mark_published", before),
        }[step]
        setattr(owner, name, kill(getattr(owner, name)))
        record = registry.publish(folder, offsets={}, metrics={}, verdict={}, triggered_at_ms=1)
        registry.mark_published(record.sequence)
    finally:
        os._exit(0)  # the child must never go on as a second test run


def before(_function: Callable[..., Any]) -> Callable[..., None]:
    return lambda *_arguments, **_options: os.kill(os.getpid(), signal.SIGKILL)


def after(function: Callable[..., Any]) -> Callable[..., None]:
    def call(*arguments: Any, **options: Any) -> None:
        function(*arguments, **options)
        os.kill(os.getpid(), signal.SIGKILL)

    return call


def candidate(folder: Path, *, parent: int | None) -> Path:
    torch.manual_seed(parent or 0)
    model, items = SharedModel(CONFIG, capacity=4), torch.randn(3, 8)
    save_candidate(folder, model=model, item_matrix=items, item_ids=["", "a", "b"], parent=parent, facts={})
    return folder


@pytest.mark.parametrize("step", BEFORE_THE_ROW + AFTER_THE_ROW)
def test_a_publisher_killed_at_any_step_leaves_a_whole_release_and_the_next_start_recovers(
    step: str, database_url: str, tmp_path: Path
) -> None:
    registry = Registry(postgres_url=database_url, root=tmp_path / "models")
    registry.create()
    first = registry.publish(
        candidate(tmp_path / "one", parent=None), offsets={}, metrics={}, verdict={}, triggered_at_ms=1
    )
    registry.mark_published(first.sequence)

    assert publish_and_die(step, registry, candidate(tmp_path / "two", parent=1)) == -signal.SIGKILL

    serving = read_pointer(registry.root)
    assert serving is not None
    assert load_release(registry.root / VERSIONS / str(serving.version)).version == serving.version

    repair = registry.repair()
    assert repair.current is not None
    assert repair.current.version == (1 if step in BEFORE_THE_ROW else 2)
    assert read_pointer(registry.root) == Pointer(repair.current.version, repair.current.sequence)
    assert [row.version for row in repair.unpublished] == ([] if step in BEFORE_THE_ROW else [2])
    assert load_release(repair.current.uri, sha256=repair.current.sha256).version == repair.current.version
    assert not list(registry.root.rglob(".tmp-*"))

    again = registry.publish(
        candidate(tmp_path / "again", parent=repair.current.version),
        offsets={},
        metrics={},
        verdict={},
        triggered_at_ms=1,
    )
    assert again.sequence == repair.current.sequence + 1
    assert again.version > repair.current.version
