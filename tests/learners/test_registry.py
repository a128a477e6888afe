"""The registry: Postgres decides, pointer and outbox follow, and a kill between any two steps is put right."""

import resource
import threading
from pathlib import Path

import psycopg
import pytest
import torch

from learners.errors import (
    CorruptReleaseError,
    RegistryUnavailableError,
    ReleaseNotFoundError,
    ReleaseWriteError,
    StaleCandidateError,
)
from learners.model import ModelConfig, SharedModel
from learners.releases.registry import VERSIONS, Registry, ReleaseRecord
from learners.releases.release import STRATEGY, Pointer, load_kept, load_release, path_of, read_pointer, save_candidate

CONFIG = ModelConfig(width=8, layers=1, heads=1, history_length=4, text_width=6, spare_rows=0, hash_buckets=1)


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Registry:
    registry = Registry(postgres_url=database_url, root=tmp_path / "models", clock_ms=lambda: 1_700_000_000_000)
    registry.create()
    return registry


def candidate(folder: Path, *, parent: int | None) -> Path:
    torch.manual_seed(parent or 0)
    save_candidate(
        folder,
        model=SharedModel(CONFIG, capacity=4),
        item_matrix=torch.randn(3, 8),
        item_ids=["", "a", "b"],
        parent=parent,
        facts={},
    )
    return folder


def release(registry: Registry, folder: Path) -> ReleaseRecord:
    current = registry.current()
    parent = None if current is None else current.version
    return registry.publish(
        candidate(folder / f"candidate-{parent}", parent=parent),
        offsets={"0": 7},
        metrics={"newest_ndcg_10": 0.5},
        verdict={"passed": True},
        triggered_at_ms=1,
    )


def test_versions_and_sequences_rise_and_each_release_names_its_parent(registry: Registry, tmp_path: Path) -> None:
    first, second = release(registry, tmp_path), release(registry, tmp_path)

    assert [(row.version, row.sequence, row.parent) for row in (first, second)] == [(1, 1, None), (2, 2, 1)]
    assert registry.list() == [first, second]
    assert registry.show(1) == first
    assert registry.current() == second
    assert second.offsets == {"0": 7}
    assert read_pointer(registry.root) == Pointer(version=2, sequence=2)
    assert load_release(second.uri, sha256=second.sha256).version == 2


def test_what_a_strategy_keeps_goes_with_its_release_and_proves_itself(registry: Registry, tmp_path: Path) -> None:
    save_candidate(
        tmp_path / "candidate",
        model=SharedModel(CONFIG, capacity=4),
        item_matrix=torch.randn(3, 8),
        item_ids=["", "a", "b"],
        parent=None,
        facts={},
        kept={"fisher.newcomer": torch.arange(8.0)},
    )
    record = registry.publish(
        tmp_path / "candidate", offsets={}, metrics={}, verdict={"passed": True}, triggered_at_ms=1
    )
    assert load_kept(record.uri)["fisher.newcomer"].tolist() == list(range(8))
    (path_of(record.uri) / STRATEGY).write_bytes(b"damaged")
    with pytest.raises(CorruptReleaseError, match=r"strategy\.safetensors"):
        load_kept(record.uri)


def test_a_record_stays_unpublished_until_it_is_acknowledged(registry: Registry, tmp_path: Path) -> None:
    first, second = release(registry, tmp_path), release(registry, tmp_path)
    assert registry.unpublished() == [first, second]

    registry.mark_published(first.sequence)

    assert registry.unpublished() == [second]
    assert registry.show(1).published


def test_a_rollback_is_a_new_row_with_a_higher_sequence(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    release(registry, tmp_path)

    back = registry.rollback(reason={"alarm": "hit_rate_10:mixture"})

    assert (back.kind, back.version, back.sequence, back.parent) == ("rollback", 1, 3, 2)
    assert back.verdict == {"rollback": {"alarm": "hit_rate_10:mixture"}, "from_version": 2}
    assert read_pointer(registry.root) == Pointer(version=1, sequence=3)
    assert registry.unpublished()[-1] == back


def test_two_rollbacks_go_back_two_releases_and_a_third_has_nowhere_to_go(registry: Registry, tmp_path: Path) -> None:
    for _ in range(3):
        release(registry, tmp_path)

    assert [registry.rollback().version, registry.rollback().version] == [2, 1]
    with pytest.raises(ReleaseNotFoundError, match="no release before the current one"):
        registry.rollback()


def test_promote_makes_a_named_version_current(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    release(registry, tmp_path)
    registry.rollback()

    assert registry.promote(2).version == 2
    assert registry.current() == registry.list()[-1]
    with pytest.raises(ReleaseNotFoundError, match="no release 9"):
        registry.promote(9)


def test_a_candidate_judged_against_another_version_is_not_published(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    release(registry, tmp_path)
    late = candidate(tmp_path / "late", parent=2)
    registry.rollback()

    with pytest.raises(StaleCandidateError, match="judged against version 2, but 1 serves"):
        registry.publish(late, offsets={}, metrics={}, verdict={}, triggered_at_ms=1)
    assert [path.name for path in sorted((registry.root / VERSIONS).iterdir())] == ["1", "2"]


def test_a_damaged_version_is_neither_published_nor_returned_to(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    second = release(registry, tmp_path)
    weights = registry.root / VERSIONS / "1" / "model.safetensors"
    damaged = bytearray(weights.read_bytes())
    damaged[-1] ^= 1
    weights.write_bytes(damaged)

    with pytest.raises(CorruptReleaseError, match=r"model\.safetensors is corrupt"):
        registry.rollback()
    assert registry.current() == second


def test_a_kill_before_the_row_leaves_the_incumbent_and_a_number_that_is_never_given_again(
    registry: Registry, tmp_path: Path
) -> None:
    first = release(registry, tmp_path)
    orphan = registry.root / VERSIONS / "2"
    candidate(orphan, parent=1)
    half = registry.root / VERSIONS / ".tmp-3-deadbeef"
    half.mkdir()

    repair = registry.repair()

    assert repair.current == first
    assert repair.orphans == (orphan,)
    assert repair.swept == (half,)
    assert not half.exists()
    assert release(registry, tmp_path).version == 3


def test_a_kill_before_the_pointer_moves_is_put_right_at_the_next_start(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    old = (registry.root / "CURRENT").read_bytes()
    second = release(registry, tmp_path)
    (registry.root / "CURRENT").write_bytes(old)

    repair = registry.repair()

    assert repair.pointer_moved
    assert read_pointer(registry.root) == Pointer(version=2, sequence=2)
    assert not registry.repair().pointer_moved
    assert repair.unpublished[-1] == second


def test_a_lost_or_garbled_pointer_is_written_again(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    (registry.root / "CURRENT").write_bytes(b"{half")

    assert registry.repair().pointer_moved
    assert read_pointer(registry.root) == Pointer(version=1, sequence=1)


def test_repair_of_a_fresh_registry_creates_it_and_finds_nothing(database_url: str, tmp_path: Path) -> None:
    repair = Registry(postgres_url=database_url, root=tmp_path / "fresh").repair()

    assert (repair.current, repair.pointer_moved, repair.unpublished, repair.orphans) == (None, False, (), ())


def test_two_writers_at_once_get_different_sequences(registry: Registry, tmp_path: Path) -> None:
    release(registry, tmp_path)
    release(registry, tmp_path)
    threads = [threading.Thread(target=registry.promote, args=(version,)) for version in (1, 2, 1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    rows = registry.list()
    assert [row.sequence for row in rows] == [1, 2, 3, 4, 5, 6]
    assert read_pointer(registry.root) == Pointer(version=rows[-1].version, sequence=6)


def test_old_directories_go_but_never_the_current_one_its_parent_or_their_rows(
    registry: Registry, tmp_path: Path
) -> None:
    for _ in range(5):
        release(registry, tmp_path)

    assert registry.prune(keep=1) == (1, 2, 3)
    assert sorted(path.name for path in (registry.root / VERSIONS).iterdir()) == ["4", "5"]
    assert len(registry.list()) == 5
    assert registry.rollback().version == 4
    with pytest.raises(ReleaseNotFoundError):
        registry.rollback()


def test_a_database_that_does_not_answer_is_named_with_a_remedy(tmp_path: Path) -> None:
    registry = Registry(postgres_url="postgresql://nobody@127.0.0.1:1/none", root=tmp_path)

    with pytest.raises(RegistryUnavailableError, match="retry after 5 s") as raised:
        registry.current()
    assert raised.value.retry_after_s == 5


def test_two_models_share_a_table_without_mixing(registry: Registry, database_url: str, tmp_path: Path) -> None:
    other = Registry(postgres_url=database_url, root=tmp_path / "other", model="search")
    other.create()
    release(registry, tmp_path)

    assert other.current() is None
    assert release(other, tmp_path / "x").version == 1


def test_a_failed_insert_leaves_the_incumbent_in_place(registry: Registry, tmp_path: Path, database_url: str) -> None:
    first = release(registry, tmp_path)
    with psycopg.connect(database_url) as connection:
        connection.execute("ALTER TABLE releases ADD CONSTRAINT full_table CHECK (sequence < 2)")

    with pytest.raises(psycopg.errors.CheckViolation):
        release(registry, tmp_path)
    assert registry.current() == first
    assert read_pointer(registry.root) == Pointer(version=1, sequence=1)


def test_a_disk_that_takes_no_more_refuses_the_release_and_keeps_the_incumbent(
    registry: Registry, tmp_path: Path
) -> None:
    first = release(registry, tmp_path)
    second = candidate(tmp_path / "second", parent=1)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (256, hard))  # Python ignores SIGXFSZ: writes fail as on a full disk
    try:
        with pytest.raises(ReleaseWriteError, match=r"versions/2: .*File too large.*the incumbent is untouched"):
            registry.publish(second, offsets={}, metrics={}, verdict={}, triggered_at_ms=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))

    assert registry.repair().current == first
    assert read_pointer(registry.root) == Pointer(version=1, sequence=1)
    assert [path.name for path in (registry.root / VERSIONS).iterdir()] == ["1"]
    assert release(registry, tmp_path / "later").version == 2
