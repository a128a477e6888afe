"""The knowledge store under fire: kills, races, flipped bytes, a full disk. Nothing half-written is ever readable."""

import multiprocessing
import random
import resource
import time
from pathlib import Path

import pytest

from learners.knowledge import tables
from learners.knowledge.entry import Lineage
from learners.knowledge.errors import CorruptKnowledgeError, KnowledgeWriteError
from learners.knowledge.forgetting import forget
from learners.knowledge.store import KnowledgeStore
from tests.learners.knowledge_data import deposit_head, exemplars, head, open_store

FORK = multiprocessing.get_context("fork")


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def names(store: KnowledgeStore) -> set[str]:
    return {name for name, _ in store.artifacts.names()}


def sweep(store: KnowledgeStore) -> list[tuple[str, int]]:
    with tables.removing(store.postgres_url) as connection:
        return store.sweep(connection)


def killed_at(step: str, store: KnowledgeStore) -> None:
    """Deposit in a child process that is killed (-9) when it reaches a step."""
    reached = FORK.Event()

    def stop(*_: object) -> None:
        reached.set()
        time.sleep(600)

    def child() -> None:
        if step == "before the rename":
            store.artifacts._rename = stop  # type: ignore[method-assign,assignment]
        else:
            tables.insert = stop  # type: ignore[assignment]
        deposit_head(store, 99)

    process = FORK.Process(target=child)
    process.start()
    assert reached.wait(30)
    process.kill()
    process.join()
    assert process.exitcode == -9


@pytest.mark.parametrize("step", ["before the rename", "before the row"])
def test_a_kill_in_mid_deposit_leaves_nothing_readable_and_a_sweep_removes_the_rest(
    store: KnowledgeStore, step: str
) -> None:
    kept = deposit_head(store, 1)

    killed_at(step, store)

    assert store.entries() == [kept]
    left = names(store) - {kept.sha256}
    assert len(left) == 1
    assert (left.pop().startswith(".tmp-")) == (step == "before the rename")
    assert [size for _, size in sweep(store)] == [len(head(99))]
    assert names(store) == {kept.sha256}
    again = deposit_head(store, 99)
    assert store.read(again.entry_id) == head(99)


def test_writers_killed_at_random_moments_leave_only_whole_entries(store: KnowledgeStore) -> None:
    rng = random.Random(7)

    def write(first: int, done: object) -> None:
        for seed in range(first, first + 10_000):
            store.deposit(head(seed, size=20_000), kind="head", privacy="shop", lineage=Lineage(task="sequence"))
            done.value += 1

    kills = 0
    while kills < 6:
        done = FORK.Value("i", 0)
        writer = FORK.Process(target=write, args=(kills * 10_000, done))
        writer.start()
        while writer.is_alive() and done.value < 2:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.03)
        writer.kill()
        writer.join()
        assert writer.exitcode == -9
        kills += 1
        entries = store.entries()
        for entry in entries:
            assert len(store.read(entry.entry_id)) == entry.size_bytes
    assert len(entries) >= 2 * kills
    sweep(store)
    assert names(store) == {entry.sha256 for entry in entries}


def test_writers_of_the_same_content_at_once_all_succeed_with_one_artifact(store: KnowledgeStore) -> None:
    barrier, results = FORK.Barrier(4), FORK.Queue()

    def write(number: int) -> None:
        barrier.wait()
        for seed in range(10):
            task = "shared" if number < 2 else f"own-{number}"
            results.put((number, seed, deposit_head(store, seed, task=task).entry_id))

    writers = [FORK.Process(target=write, args=(number,)) for number in range(4)]
    for writer in writers:
        writer.start()
    found = [results.get(timeout=60) for _ in range(40)]
    for writer in writers:
        writer.join()
        assert writer.exitcode == 0
    ids = {(number, seed): entry_id for number, seed, entry_id in found}
    assert all(ids[0, seed] == ids[1, seed] for seed in range(10))
    assert len(store.entries()) == 30
    assert len(names(store)) == 10
    for entry in store.entries():
        store.read(entry.entry_id)


def test_a_flipped_byte_is_found_and_both_sums_are_named(store: KnowledgeStore, tmp_path: Path) -> None:
    entry = deposit_head(store)
    path = tmp_path / "artifacts" / entry.sha256
    content = bytearray(path.read_bytes())
    for position in (0, len(content) // 2, len(content) - 1):
        damaged = bytearray(content)
        damaged[position] ^= 1
        path.write_bytes(damaged)
        with pytest.raises(CorruptKnowledgeError) as raised:
            store.read(entry.entry_id)
        assert raised.value.expected == entry.sha256
        message = str(raised.value)
        assert entry.entry_id in message
        assert entry.sha256 in message
        assert raised.value.found.removeprefix("sha256 ") in message
        assert raised.value.found != f"sha256 {entry.sha256}"
    path.unlink()
    with pytest.raises(CorruptKnowledgeError, match=f"{entry.entry_id} is corrupt: there is no file"):
        store.read(entry.entry_id)
    assert deposit_head(store) == entry  # whoever has the content can mend it
    assert store.read(entry.entry_id) == head()


def test_a_full_disk_is_named_and_leaves_nothing_readable(store: KnowledgeStore) -> None:
    kept = deposit_head(store, 1)
    results = FORK.Queue()

    def write() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4_096, 4_096))  # as on a full disk, SIGXFSZ being ignored
        try:
            store.deposit(head(2, size=50_000), kind="head", privacy="shop", lineage=Lineage(task="sequence"))
        except KnowledgeWriteError as error:
            results.put(str(error))

    writer = FORK.Process(target=write)
    writer.start()
    message = results.get(timeout=30)
    writer.join()

    assert "File too large" in message
    assert "nothing of it can be read" in message
    assert store.entries() == [kept]
    assert names(store) == {kept.sha256}
    large = store.deposit(head(2, size=50_000), kind="head", privacy="shop", lineage=Lineage(task="sequence"))
    assert store.read(large.entry_id) == head(2, size=50_000)


def test_a_disk_that_fills_up_while_somebody_is_forgotten_changes_nothing(
    store: KnowledgeStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = store.deposit(
        exemplars(*[(f"user-{number}", 1) for number in range(200)]),
        kind="exemplars",
        privacy="personal",
        lineage=Lineage(task="sequence"),
    )
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_024, hard))
    try:
        with pytest.raises(KnowledgeWriteError, match="File too large"):
            forget(store, {"user-7": 100})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert store.entries() == [entry]

    assert forget(store, {"user-7": 100}).replaced.keys() == {entry.entry_id}
    assert b'user-7"' not in store.read(entry.entry_id)


def test_a_kill_while_somebody_is_forgotten_is_made_good_by_the_next_call(store: KnowledgeStore) -> None:
    entry = store.deposit(
        exemplars(("ada", 1), ("bob", 1)), kind="exemplars", privacy="personal", lineage=Lineage(task="sequence")
    )
    reached = FORK.Event()

    def child() -> None:
        def stop(_: object) -> None:
            reached.set()
            time.sleep(600)

        store.sweep = stop  # type: ignore[method-assign,assignment]
        forget(store, {"ada": 100})

    process = FORK.Process(target=child)
    process.start()
    assert reached.wait(30)
    process.kill()
    process.join()
    assert b"ada" not in store.read(entry.entry_id)
    assert entry.sha256 in names(store)  # no row names it, but it is still on the disk

    forget(store, {"ada": 100})

    assert names(store) == {one.sha256 for one in store.entries()}


def test_whoever_removes_waits_for_deposits_under_way_and_sweeps_none_of_them(store: KnowledgeStore) -> None:
    renamed, go_on, swept = FORK.Event(), FORK.Event(), FORK.Queue()

    def write() -> None:
        insert = tables.insert

        def slow(*values: object) -> bool:
            renamed.set()
            go_on.wait()
            return insert(*values)  # type: ignore[arg-type]

        tables.insert = slow  # type: ignore[assignment]
        deposit_head(store, 5)

    writer = FORK.Process(target=write)
    writer.start()
    assert renamed.wait(30)
    sweeper = FORK.Process(target=lambda: swept.put(sweep(store)))
    sweeper.start()
    time.sleep(0.3)
    assert swept.empty()  # it waits
    go_on.set()
    assert swept.get(timeout=30) == []
    writer.join()
    sweeper.join()
    (entry,) = store.entries()
    assert store.read(entry.entry_id) == head(5)
