"""Collection and comparison: what is worth little and old goes, what is needed stays, and both are said."""

from pathlib import Path

import pytest

from learners.knowledge import tables
from learners.knowledge.collection import DAY_MS, Collected, CollectionConfig, collect, total_bytes
from learners.knowledge.difference import difference
from learners.knowledge.entry import Entry, Lineage
from learners.knowledge.errors import KnowledgeNotFoundError
from learners.knowledge.forgetting import forget
from learners.knowledge.store import KnowledgeStore
from tests.learners.knowledge_data import deposit_head, exemplars, head, items, open_store

NOW_MS = 1_700_000_000_000
SIZE = len(head(1))


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def keep(store: KnowledgeStore, seed: int, *, days: float = 0, ndcg: float | None = None, **lineage: object) -> Entry:
    """Deposit a head so many days ago."""
    store.clock_ms = lambda: NOW_MS - round(days * DAY_MS)
    values = {"task": "sequence"} | lineage
    worth = {} if ndcg is None else {"newest_ndcg_10": ndcg}
    entry = deposit_head(store, seed, lineage=Lineage(**values), worth=worth)  # type: ignore[arg-type]
    store.clock_ms = lambda: NOW_MS
    return entry


def run(store: KnowledgeStore, *, keep_entries: int, **options: object) -> Collected:
    serving = options.pop("serving", lambda _: None)
    dry_run = bool(options.pop("dry_run", False))
    config = CollectionConfig(max_bytes=keep_entries * SIZE, **options)  # type: ignore[arg-type]
    return collect(store, config, serving=serving, dry_run=dry_run)  # type: ignore[arg-type]


def test_what_fits_stays(store: KnowledgeStore) -> None:
    entries = [keep(store, seed, days=1_000) for seed in range(3)]

    done = run(store, keep_entries=3)

    assert (done.removed, done.held, done.over_bytes) == ((), {}, 0)
    assert done.bytes_before == done.bytes_after == 3 * SIZE
    assert len(store.entries()) == len(entries)


def test_the_least_worth_goes_first_and_its_artifact_with_it(store: KnowledgeStore) -> None:
    poor, good, unmeasured = keep(store, 1, ndcg=0.1), keep(store, 2, ndcg=0.3), keep(store, 3)

    done = run(store, keep_entries=1)

    assert done.removed == (unmeasured, poor)
    assert (done.bytes_before, done.bytes_after, done.over_bytes) == (3 * SIZE, SIZE, 0)
    assert store.entries() == [good]
    assert [name for name, _ in store.artifacts.names()] == [good.sha256]
    with pytest.raises(KnowledgeNotFoundError):
        store.read(poor.entry_id)


def test_worth_halves_with_age(store: KnowledgeStore) -> None:
    old_best, new_second = keep(store, 1, ndcg=0.3, days=90), keep(store, 2, ndcg=0.2)

    assert run(store, keep_entries=1, half_life_days=30, dry_run=True).removed == (old_best,)
    assert run(store, keep_entries=1, half_life_days=900).removed == (new_second,)


def test_figures_of_different_tasks_do_not_compete_places_do(store: KnowledgeStore) -> None:
    """A hard task's best is worth more than an easy task's second, whatever their figures are."""
    hard_best = keep(store, 1, ndcg=0.05, task="hard")
    easy_best, easy_second = keep(store, 2, ndcg=0.9, task="easy"), keep(store, 3, ndcg=0.8, task="easy")

    assert run(store, keep_entries=2).removed == (easy_second,)
    assert {entry.entry_id for entry in store.entries()} == {hard_best.entry_id, easy_best.entry_id}


def test_what_is_too_old_goes_even_where_there_is_room(store: KnowledgeStore) -> None:
    old, young = keep(store, 1, ndcg=0.9, days=100), keep(store, 2, days=99)

    assert run(store, keep_entries=9, max_age_days=99.5).removed == (old,)
    assert store.entries() == [young]


def test_a_parent_goes_last_and_is_said_to_be_one(store: KnowledgeStore) -> None:
    parent = keep(store, 1, days=500)
    child = keep(store, 2, ndcg=0.5, parents=(parent.entry_id,))
    other = keep(store, 3, ndcg=0.4)

    assert run(store, keep_entries=2, dry_run=True).removed == (other,)
    done = run(store, keep_entries=9, max_age_days=30)
    assert done.removed == (parent,)
    assert done.bereaved == {parent.entry_id: child.entry_id}
    assert done.held == {}
    assert store.read(child.entry_id) == head(2)


def test_a_parent_stays_while_its_child_lives_where_that_is_asked_for(store: KnowledgeStore) -> None:
    parent = keep(store, 1, days=500)
    child = keep(store, 2, ndcg=0.5, parents=(parent.entry_id,))

    done = run(store, keep_entries=9, max_age_days=30, hold_parents=True)

    assert (done.removed, done.bereaved) == ((), {})
    assert done.held == {parent.entry_id: f"parent of {child.entry_id}"}
    assert len(store.entries()) == 2


def test_a_chain_of_releases_does_not_keep_the_store_from_shrinking(store: KnowledgeStore) -> None:
    parent, chain = None, []
    for version in range(1, 7):
        lineage = {} if parent is None else {"parents": (parent.entry_id,)}
        parent = keep(store, version, days=10 - version, ndcg=0.1, model_version=version, **lineage)
        chain.append(parent)

    done = run(store, keep_entries=3, serving=lambda entry: "serves" if entry.lineage.model_version in (5, 6) else None)
    assert done.removed == tuple(chain[:3])
    assert done.bereaved == {chain[2].entry_id: chain[3].entry_id}  # the others' children went with them
    assert done.over_bytes == 0


def test_a_parent_goes_after_its_child_when_room_is_needed(store: KnowledgeStore) -> None:
    parent = keep(store, 1)
    child = keep(store, 2, ndcg=0.1, parents=(parent.entry_id,))
    better = keep(store, 3, ndcg=0.5)

    assert run(store, keep_entries=1).removed == (child, parent)
    assert store.entries() == [better]


def test_the_parent_of_a_redacted_child_and_a_redacted_parent_stay(store: KnowledgeStore) -> None:
    raw = store.deposit(
        exemplars(("ada", 1), ("bob", 1)), kind="exemplars", privacy="personal", lineage=Lineage(task="sequence")
    )
    child = keep(store, 2, ndcg=0.5, parents=(raw.entry_id,))
    redacted = forget(store, {"ada": 9}).replaced[raw.entry_id]

    done = run(store, keep_entries=0, dry_run=True)
    assert done.removed == (child, store.show(redacted))
    held = run(
        store, keep_entries=0, hold_parents=True, serving=lambda entry: "serves" if entry.kind == "head" else None
    ).held
    assert held == {child.entry_id: "serves", redacted: f"parent of {child.entry_id}"}


def test_what_serves_stays_and_the_report_says_how_far_above_the_bound_it_is(store: KnowledgeStore) -> None:
    serving, other = keep(store, 1, model_version=4), keep(store, 2, ndcg=0.9)

    done = run(
        store,
        keep_entries=0,
        serving=lambda entry: "used by release 4" if entry.lineage.model_version == 4 else None,
    )

    assert done.removed == (other,)
    assert done.held == {serving.entry_id: "used by release 4"}
    assert done.over_bytes == SIZE
    assert store.read(serving.entry_id)


def test_an_artifact_of_two_entries_counts_once_and_stays_with_the_last(store: KnowledgeStore) -> None:
    one, twin = keep(store, 1, task="a", days=40), keep(store, 1, task="b", ndcg=0.5)
    other = keep(store, 2, task="c", ndcg=0.5)
    assert total_bytes(store.entries()) == 2 * SIZE

    assert run(store, keep_entries=2).removed == ()
    assert run(store, keep_entries=2, max_age_days=30).removed == (one,)
    assert store.read(twin.entry_id) == head(1)
    assert store.read(other.entry_id) == head(2)


def test_a_dry_run_removes_nothing_and_a_real_one_sweeps_what_killed_writers_left(
    store: KnowledgeStore, tmp_path: Path
) -> None:
    entry = keep(store, 1)
    orphan, half = head(2), f".tmp-{entry.sha256}-0a1b2c3d"
    with tables.writing(store.postgres_url) as connection:
        address = store.write(connection, orphan)
    (tmp_path / "artifacts" / half).write_bytes(b"12345")

    assert run(store, keep_entries=0, dry_run=True).removed == (entry,)
    assert len(store.entries()) == 1
    assert sorted(run(store, keep_entries=1).swept) == [(half, 5), (address, len(orphan))]
    assert run(store, keep_entries=1).swept == ()
    assert store.read(entry.entry_id)


def test_what_the_tables_know_nothing_of_is_left_alone(
    store: KnowledgeStore, database_url: str, tmp_path: Path
) -> None:
    """Tables of another installation, pointed at the wrong place, must not empty it."""
    entry = keep(store, 1)
    (tmp_path / "artifacts" / ".tmp-half").write_bytes(b"12345")
    stranger = open_store(database_url, tmp_path / "artifacts")

    assert run(stranger, keep_entries=0).swept == ()
    forget(stranger, {"ada": 1})
    assert store.read(entry.entry_id)
    assert (tmp_path / "artifacts" / ".tmp-half").exists()


# ---- differences


def test_a_difference_names_fields_and_how_far_each_tensor_moved(store: KnowledgeStore) -> None:
    one = deposit_head(store, 1, worth={"ndcg_10": 0.1}, embedding=[1.0, 0.0])
    other = deposit_head(store, 2, worth={"ndcg_10": 0.2}, embedding=[0.0, 2.0], lineage=Lineage(task="uk"))

    found = difference(store, one.entry_id, other.entry_id)

    assert found.fields["worth.ndcg_10"] == (0.1, 0.2)
    assert found.fields["lineage.task"] == ("sequence", "uk")
    assert "kind" not in found.fields
    assert [(change.name, change.detail) for change in found.tensors] == [("bias", "[1]"), ("weight", "[4]")]
    assert (found.tensors[0].distance, found.tensors[0].relative) == (0.0, 0.0)
    assert found.tensors[1].distance > 0.5
    assert found.alike == pytest.approx(0.0)
    assert difference(store, one.entry_id, one.entry_id).fields == {}


def test_a_difference_of_vectors_and_rows_names_what_came_and_went(store: KnowledgeStore) -> None:
    def vectors(**values: list[float]) -> str:
        return store.deposit(
            items(**values), kind="item_embeddings", privacy="shop", lineage=Lineage(task="sequence")
        ).entry_id

    def rows(*values: tuple[str, int]) -> str:
        return store.deposit(
            exemplars(*values), kind="exemplars", privacy="personal", lineage=Lineage(task="sequence")
        ).entry_id

    found = difference(store, vectors(mug=[1.0, 0.0], tea=[1.0, 1.0]), vectors(mug=[1.0, 3.0], cup=[1.0, 1.0]))
    assert (found.only_first, found.only_second, found.common) == (("tea",), ("cup",), 1)
    assert found.tensors[0].distance == pytest.approx(3.0)

    found = difference(store, rows(("ada", 1), ("bob", 1), ("bob", 1)), rows(("bob", 1), ("eve", 1)))
    assert (found.only_first, found.only_second, found.common) == (("2 rows",), ("1 rows",), 1)
    mixed = difference(store, rows(("ada", 1)), deposit_head(store).entry_id)
    assert (mixed.tensors, mixed.fields["kind"]) == ((), ("exemplars", "head"))


def test_a_tensor_of_another_shape_is_said_to_be_one(store: KnowledgeStore) -> None:
    one = store.deposit(head(1, size=2), kind="head", privacy="shop", lineage=Lineage(task="a"))
    other = store.deposit(head(1, size=3), kind="head", privacy="shop", lineage=Lineage(task="a"))

    moved = difference(store, one.entry_id, other.entry_id).tensors[1]
    assert (moved.distance, moved.detail) == (None, "[2] became [3]")
