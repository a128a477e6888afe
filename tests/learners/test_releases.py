"""Releases on disk: whole or absent, proven when loaded, and serving the same vectors wherever they are loaded."""

import json
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.disk import sweep, whole_directory, write_whole
from learners.errors import CorruptReleaseError, ReleaseNotFoundError, ReleaseWriteError
from learners.model import ModelConfig, SharedModel
from learners.releases.release import (
    LoadedRelease,
    Pointer,
    load_release,
    read_manifest,
    read_pointer,
    save_candidate,
    write_pointer,
)

CONFIG = ModelConfig(width=16, layers=2, heads=2, history_length=6, text_width=5, spare_rows=4, hash_buckets=2)
ITEM_IDS = ["", *(f"item-{number}" for number in range(1, 8))]


def save(folder: Path) -> torch.Tensor:
    torch.manual_seed(1)
    model = SharedModel(CONFIG, capacity=12)
    model.admit(0, torch.zeros(8, 5))
    torch.nn.init.normal_(model.newcomer)
    items = torch.randn(8, 16)
    items[0] = 0
    save_candidate(folder, model=model, item_matrix=items, item_ids=ITEM_IDS, parent=None, facts={"rounds": 1})
    return items


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save(tmp_path / "release")
    return tmp_path / "release"


@pytest.fixture
def release(folder: Path) -> LoadedRelease:
    return load_release(folder)


def test_what_is_loaded_is_what_was_saved(tmp_path: Path) -> None:
    items = save(tmp_path / "a")
    release = load_release(tmp_path / "a")
    assert release.item_ids == ITEM_IDS
    assert release.index_of["item-3"] == 3
    assert release.manifest["facts"] == {"rounds": 1}
    np.testing.assert_array_equal(release.item_matrix, items.numpy())
    again = load_release((tmp_path / "a").as_uri())
    np.testing.assert_array_equal(again.encode_users([[1, 2]]), release.encode_users([[1, 2]]))


def test_the_same_model_makes_the_same_bytes(tmp_path: Path) -> None:
    save(tmp_path / "a")
    save(tmp_path / "b")
    assert {path.name: path.read_bytes() for path in (tmp_path / "a").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "b").iterdir()
    }


@pytest.mark.parametrize("name", ["model.safetensors", "items.json"])
def test_one_flipped_bit_anywhere_is_found(folder: Path, name: str) -> None:
    whole = (folder / name).read_bytes()
    for position in np.random.default_rng(0).integers(len(whole), size=8):
        damaged = bytearray(whole)
        damaged[position] ^= 0x10
        (folder / name).write_bytes(damaged)
        with pytest.raises(CorruptReleaseError, match=f"{name} is corrupt: found|{name} is corrupt: sha256"):
            load_release(folder)


def test_a_manifest_other_than_the_record_promises_is_found(folder: Path) -> None:
    with pytest.raises(CorruptReleaseError, match=r"manifest\.json is corrupt: sha256 .*expected 00"):
        load_release(folder, sha256="00" * 32)
    (folder / "manifest.json").write_text("{}")
    with pytest.raises(CorruptReleaseError, match="expected a manifest"):
        load_release(folder)


def test_a_truncated_or_missing_file_is_named(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes((folder / "model.safetensors").read_bytes()[:100])
    with pytest.raises(CorruptReleaseError, match="model"):
        load_release(folder)
    (folder / "model.safetensors").unlink()
    with pytest.raises(ReleaseNotFoundError, match=r"model\.safetensors"):
        load_release(folder)
    with pytest.raises(ReleaseNotFoundError):
        load_release(folder.parent / "nowhere")


def test_weights_of_another_shape_are_refused_even_with_the_right_digest(folder: Path) -> None:
    manifest = read_manifest(folder)
    manifest["model"]["config"]["width"] = 32
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(CorruptReleaseError, match="this model's weights"):
        load_release(folder)


def test_histories_are_encoded_alike_alone_and_in_a_crowd(release: LoadedRelease) -> None:
    rng = np.random.default_rng(0)
    histories = [rng.integers(1, 8, size=length) for length in (0, 1, 6, 3, 40, 2, 5)]
    together = release.encode_users(histories)
    alone = np.concatenate([release.encode_users([history]) for history in histories])
    assert together.shape == (7, 16)
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(together[4], release.encode_users([histories[4][-6:]])[0], atol=1e-5)
    np.testing.assert_allclose(together[0], release.model.newcomer.numpy())


def test_padding_and_items_from_the_future_are_left_out_of_histories(release: LoadedRelease) -> None:
    np.testing.assert_allclose(release.encode_users([[0, 3, 99, 4]]), release.encode_users([[3, 4]]), atol=1e-6)
    assert release.encode_users([]).shape == (0, 16)


def test_new_items_are_appended_without_touching_the_release(release: LoadedRelease) -> None:
    text = np.random.default_rng(0).normal(size=(2, 5)).astype(np.float32)
    extended = release.extended(["new-1", "new-2"], text)
    assert (len(release.item_ids), len(extended.item_ids), extended.index_of["new-2"]) == (8, 10, 9)
    np.testing.assert_array_equal(extended.item_matrix[:8], release.item_matrix)
    np.testing.assert_allclose(extended.item_matrix[8:], release.encode_new_items(text))
    assert not np.allclose(extended.encode_users([[9]]), release.encode_users([[9]]))


def test_the_pointer_moves_whole_and_is_absent_when_unreadable(tmp_path: Path) -> None:
    assert read_pointer(tmp_path) is None
    write_pointer(tmp_path, Pointer(version=3, sequence=5))
    assert read_pointer(tmp_path) == Pointer(version=3, sequence=5)
    (tmp_path / "CURRENT").write_bytes(b'{"version":')
    assert read_pointer(tmp_path) is None


def test_a_failure_while_writing_leaves_nothing(tmp_path: Path) -> None:
    def write() -> None:
        with whole_directory(tmp_path / "target") as folder:
            (folder / "half").write_text("x")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert list(tmp_path.iterdir()) == []


def test_an_existing_directory_is_never_overwritten(folder: Path) -> None:
    before = (folder / "manifest.json").read_bytes()
    with pytest.raises(ReleaseWriteError, match="incumbent is untouched"):
        save(folder)
    assert (folder / "manifest.json").read_bytes() == before
    assert [path.name for path in folder.parent.iterdir()] == ["release"]


def test_what_a_kill_left_behind_is_swept(tmp_path: Path) -> None:
    (tmp_path / ".tmp-7-abc").mkdir()
    (tmp_path / ".tmp-CURRENT-abc").write_text("x")
    (tmp_path / "7").mkdir()
    assert [path.name for path in sweep(tmp_path)] == [".tmp-7-abc", ".tmp-CURRENT-abc"]
    assert [path.name for path in tmp_path.iterdir()] == ["7"]
    assert sweep(tmp_path / "absent") == []


@contextmanager
def full_disk() -> Iterator[None]:
    """Let no file grow beyond 64 bytes; Python ignores SIGXFSZ, so writes fail as on a full disk.

    Around the failing call alone: the limit holds for pytest's own output too, wherever that is a file.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (64, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_disk_that_takes_no_more_is_a_clear_error_and_leaves_nothing(tmp_path: Path) -> None:
    with full_disk(), pytest.raises(ReleaseWriteError, match=r"release: .*File too large; the incumbent is untouched"):
        save(tmp_path / "release")
    assert list(tmp_path.iterdir()) == []


def test_a_pointer_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    write_pointer(tmp_path, Pointer(version=1, sequence=1))
    with full_disk(), pytest.raises(ReleaseWriteError, match="CURRENT"):
        write_whole(tmp_path / "CURRENT", b"x" * 100)
    assert read_pointer(tmp_path) == Pointer(version=1, sequence=1)
    assert [path.name for path in tmp_path.iterdir()] == ["CURRENT"]
