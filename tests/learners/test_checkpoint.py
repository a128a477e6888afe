"""Checkpoints of nested state: whole or not at all, and exact."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learners.checkpoint import load_state, save_state
from learners.errors import CorruptCheckpointError, ReleaseWriteError

STATE: dict[str, Any] = {
    "number": 0.1 + 0.2,
    "big": 2**127 + 1,  # as random generators keep them
    "nested": {"array": np.array([0.1, np.inf], np.float64), "list": [{"inner": np.arange(3, dtype=np.int8)}, {}]},
    "text": "naïve \u0000 ☃",
    "empty": [],
}


def assert_same(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one["nested"]["array"].tobytes() == other["nested"]["array"].tobytes()
    assert one["nested"]["list"][0]["inner"].dtype == np.int8
    for name in ("number", "big", "text", "empty"):
        assert one[name] == other[name]


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    save_state(tmp_path / "state", STATE)
    loaded = load_state(tmp_path / "state")
    assert loaded is not None
    assert_same(loaded, STATE)


def test_an_empty_directory_of_the_caller_is_written_into(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    save_state(tmp_path / "state", STATE)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["state"]
    assert load_state(tmp_path / "state") is not None


def test_a_failed_save_leaves_the_older_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_state(tmp_path / "state", STATE)

    def full(*_args: object, **_kwargs: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(ReleaseWriteError, match="No space left"):
        save_state(tmp_path / "state", {"number": 1})
    loaded = load_state(tmp_path / "state")
    assert loaded is not None
    assert_same(loaded, STATE)


@pytest.mark.parametrize("left", [("state.new",), ("state.old",), ("state", "state.old"), ("state.new", "state.old")])
def test_a_kill_between_any_two_steps_of_a_replacement_is_mended(tmp_path: Path, left: tuple[str, ...]) -> None:
    for name in left:
        save_state(tmp_path / name, {"number": name})
    loaded = load_state(tmp_path / "state")
    assert loaded is not None
    assert loaded["number"] == ("state" if "state" in left else left[0])  # the newest that is whole
    save_state(tmp_path / "state", {"number": "after"})
    assert load_state(tmp_path / "state") == {"number": "after"}
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_damaged_state_says_so(tmp_path: Path) -> None:
    save_state(tmp_path / "state", STATE)
    (tmp_path / "state" / "state.json").write_text("{", encoding="utf-8")
    with pytest.raises(CorruptCheckpointError, match="state cannot be read"):
        load_state(tmp_path / "state")
