"""The knowledge store: what goes in comes out, is found by likeness, proves itself, and forgets people."""

from pathlib import Path

import numpy as np
import psycopg
import pytest

from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.contents import (
    KeyedVectors,
    decode_rows,
    decode_tensors,
    decode_vectors,
    encode_rows,
    encode_vectors,
)
from learners.knowledge.entry import KINDS, Entry, Lineage
from learners.knowledge.errors import (
    ArtifactStoreError,
    InvalidEntryError,
    KnowledgeNotFoundError,
    KnowledgeUnavailableError,
)
from learners.knowledge.forgetting import forget
from learners.knowledge.store import KnowledgeStore
from tests.learners.knowledge_data import deposit_head, exemplars, head, items, open_store


@pytest.fixture
def store(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "artifacts")


def test_an_entry_comes_back_as_it_went_in(store: KnowledgeStore) -> None:
    parent = deposit_head(store, 1)
    lineage = Lineage(
        task="sequence/uk",
        model_version=3,
        offsets={"0": 7, "1": 9},
        parents=(parent.entry_id,),
        notes={"market": "Großbritannien"},
    )
    entry = store.deposit(
        head(2),
        kind="adapter",
        lineage=lineage,
        privacy="public",
        worth={"ndcg_10": 0.1, "tiny": 1e-7},
        embedding=[0.1, -0.0],
    )

    assert store.show(entry.entry_id) == entry
    assert store.show(entry.entry_id[:10]) == entry
    assert store.entries() == sorted([parent, entry], key=lambda one: one.entry_id)
    assert Entry.from_dict(entry.as_dict()) == entry
    assert (entry.lineage, entry.worth["tiny"], entry.size_bytes) == (lineage, 1e-7, len(head(2)))
    assert entry.embedding == (float(np.float32(0.1)), 0.0)
    assert store.read(entry.entry_id) == head(2)
    assert store.entries(kind="head") == [parent]
    assert store.entries(task="sequence/uk") == [entry]


def test_every_kind_keeps_its_content_and_refuses_another(store: KnowledgeStore) -> None:
    vectors = items(mug=[1.0, 0.0], tea=[0.0, 1.0])
    good = {
        "adapter": head(),
        "head": head(),
        "fisher": head(),
        "teacher_logits": head(),
        "prototypes": vectors,
        "item_embeddings": vectors,
        "user_embeddings": vectors,
        "exemplars": exemplars(("ada", 1)),
        "graph_edges": encode_rows([{"source": "item:mug", "relation": "co_view", "target": "item:tea", "weight": 1}]),
    }
    assert good.keys() == set(KINDS)
    for kind, content in good.items():
        privacy = "personal" if kind in {"exemplars", "user_embeddings"} else "shop"
        entry = store.deposit(content, kind=kind, privacy=privacy, lineage=Lineage(task=kind))
        assert store.read(entry.entry_id) == content
        with pytest.raises(InvalidEntryError, match="content"):
            store.deposit(b"\x07rubbish", kind=kind, privacy=privacy, lineage=Lineage(task=kind))
    assert decode_tensors(good["head"])["weight"].shape == (4,)
    assert decode_vectors(vectors).keys == ("mug", "tea")
    assert len(store.entries()) == len(KINDS)


@pytest.mark.parametrize("kind", ["exemplars", "user_embeddings"])
@pytest.mark.parametrize("privacy", ["public", "shop"])
def test_what_is_about_people_is_personal(store: KnowledgeStore, kind: str, privacy: str) -> None:
    content = exemplars(("ada", 1)) if kind == "exemplars" else items(ada=[1.0])
    with pytest.raises(InvalidEntryError, match=f"privacy is '{privacy}'; expected 'personal'"):
        store.deposit(content, kind=kind, privacy=privacy, lineage=Lineage(task="sequence"))
    assert store.entries() == []
    assert list(store.artifacts.names()) == []


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"kind": "model"}, "kind is 'model'; expected one of adapter, head"),
        ({"worth": {"ndcg_10": float("nan")}}, r"worth\['ndcg_10'\] is nan; expected a finite number"),
        ({"embedding": [1.0, float("inf")]}, "embedding is"),
        ({"privacy": "secret"}, "privacy is 'secret'; expected one of public, shop, personal"),
    ],
)
def test_a_wrong_field_is_named_and_nothing_is_written(store: KnowledgeStore, changes: dict, message: str) -> None:
    with pytest.raises(InvalidEntryError, match=message):
        deposit_head(store, **changes)
    assert list(store.artifacts.names()) == []


def test_a_lineage_refuses_names_that_are_none() -> None:
    with pytest.raises(InvalidEntryError, match="task is ''"):
        Lineage(task="")
    with pytest.raises(InvalidEntryError, match=r"parent is '\.\./x'"):
        Lineage(task="a", parents=("../x",))


def test_the_same_deposit_again_is_the_same_entry(store: KnowledgeStore) -> None:
    first = deposit_head(store)
    store.clock_ms = lambda: first.created_at_ms + 5_000

    assert deposit_head(store) == first
    assert len(store.entries()) == 1


def test_the_same_bytes_for_two_tasks_are_two_entries_and_one_artifact(store: KnowledgeStore) -> None:
    one, other = deposit_head(store, task="uk"), deposit_head(store, task="france")

    assert one.entry_id != other.entry_id
    assert one.sha256 == other.sha256
    assert [name for name, _ in store.artifacts.names()] == [one.sha256]


def test_an_id_that_is_none_or_stands_for_several_is_refused(store: KnowledgeStore) -> None:
    for seed in range(17):  # 16 first digits: two entries share one
        deposit_head(store, seed)
    firsts = [entry.entry_id[0] for entry in store.entries()]
    double = next(digit for digit in firsts if firsts.count(digit) > 1)

    with pytest.raises(KnowledgeNotFoundError, match="more than one begins with it"):
        store.show(double)
    with pytest.raises(KnowledgeNotFoundError):
        store.read("0" * 64)
    with pytest.raises(KnowledgeNotFoundError, match="hexadecimal"):
        store.show("%")


def test_nearest_entries_come_by_the_likeness_of_their_tasks(store: KnowledgeStore) -> None:
    near = deposit_head(store, 1, task="near", embedding=[1.0, 0.1, 0.0])
    far = deposit_head(store, 2, task="far", embedding=[0.0, 1.0, 0.0])
    deposit_head(store, 3, task="other-width", embedding=[1.0, 0.0])
    deposit_head(store, 4, task="zero", embedding=[0.0, 0.0, 0.0])
    deposit_head(store, 5, task="none")
    adapter = deposit_head(store, 6, task="adapter", kind="adapter", embedding=[1.0, 0.0, 0.0])

    found = store.nearest([2.0, 0.0, 0.0])
    assert [match.entry for match in found] == [adapter, near, far]
    assert [match.similarity for match in found] == pytest.approx([1.0, 1 / 1.01**0.5, 0.0], abs=1e-6)
    assert [match.entry for match in store.nearest([2.0, 0.0, 0.0], kind="head", k=1)] == [near]
    assert store.nearest([1.0]) == []


def test_nearest_items_and_prototypes_come_by_likeness_but_never_people(store: KnowledgeStore) -> None:
    def keep(kind: str, content: bytes, privacy: str = "shop") -> str:
        return store.deposit(content, kind=kind, privacy=privacy, lineage=Lineage(task=kind)).entry_id  # type: ignore[arg-type]

    shop = keep("item_embeddings", items(mug=[1.0, 0.0], tea=[0.0, 1.0], cup=[1.0, 0.2]))
    groups = keep("prototypes", items(kitchen=[0.9, 0.1]))
    keep("user_embeddings", items(ada=[1.0, 0.0]), "personal")

    assert [(match.key, match.entry_id) for match in store.nearest_keys([1.0, 0.0], k=3)] == [
        ("mug", shop),
        ("kitchen", groups),
        ("cup", shop),
    ]
    assert [match.key for match in store.nearest_keys([1.0, 0.0], entry_ids=[groups])] == ["kitchen"]
    assert store.nearest_keys([1.0, 0.0], entry_ids=[]) == []


def test_artifacts_live_wherever_fsspec_reaches(knowledge_url: str) -> None:
    store = KnowledgeStore(postgres_url=knowledge_url, artifacts=ArtifactStore("memory://knowledge-test/deep"))
    store.create()
    entry = deposit_head(store)

    assert store.read(entry.entry_id) == head()
    assert [name for name, _ in store.artifacts.names()] == [entry.sha256]


@pytest.mark.parametrize("url", ["nonsense://bucket/x", "http2://x"])
def test_an_unknown_protocol_is_named(url: str) -> None:
    with pytest.raises(ArtifactStoreError, match=url):
        ArtifactStore(url)


def test_a_database_that_does_not_answer_is_named_with_a_remedy(tmp_path: Path) -> None:
    store = KnowledgeStore(
        postgres_url="postgresql://nobody@127.0.0.1:1/none", artifacts=ArtifactStore((tmp_path / "a").as_uri())
    )
    with pytest.raises(KnowledgeUnavailableError, match="retry after 5 s") as raised:
        deposit_head(store)
    assert raised.value.retry_after_s == 5
    assert list(store.artifacts.names()) == []


def test_tables_are_created_once_however_often_and_by_however_many(knowledge_url: str, tmp_path: Path) -> None:
    entry = deposit_head(open_store(knowledge_url, tmp_path / "artifacts"))
    assert open_store(knowledge_url, tmp_path / "artifacts").entries() == [entry]


# ---- forgetting people


def keep_exemplars(store: KnowledgeStore, *rows: tuple[str, int]) -> Entry:
    return store.deposit(exemplars(*rows), kind="exemplars", privacy="personal", lineage=Lineage(task="sequence"))


def users(store: KnowledgeStore, entry: Entry) -> list[str]:
    return [row["user_id"] for row in decode_rows(store.read(entry.entry_id))]


def test_forgetting_a_person_replaces_what_holds_their_rows_and_the_old_bytes_are_gone(store: KnowledgeStore) -> None:
    old = keep_exemplars(store, ("ada", 10), ("bob", 10), ("ada", 900))
    untouched = keep_exemplars(store, ("bob", 11))
    vectors = KeyedVectors(("ada", "bob"), np.eye(2, dtype=np.float32), np.array([-1, 5], dtype=np.int64))
    embedded = store.deposit(
        encode_vectors(vectors), kind="user_embeddings", privacy="personal", lineage=Lineage(task="sequence")
    )
    item = deposit_head(store)

    done = forget(store, {"ada": 100})

    assert done.replaced.keys() == {old.entry_id, embedded.entry_id}
    assert done.removed == ()
    new = store.show(old.entry_id)  # the old id leads to what took its place
    assert (new.entry_id, new.lineage.replaces) == (done.replaced[old.entry_id], old.entry_id)
    assert users(store, new) == ["bob", "ada"]  # what she did since she asked is not covered
    left = decode_vectors(store.read(done.replaced[embedded.entry_id]))
    assert (left.keys, left.since_ms.tolist()) == (("bob",), [5])
    assert users(store, untouched) == ["bob"]
    assert store.read(item.entry_id) == head()
    assert {name for name, _ in store.artifacts.names()} == {entry.sha256 for entry in store.entries()}
    assert not {old.sha256, embedded.sha256} & {name for name, _ in store.artifacts.names()}
    assert old.entry_id not in {entry.entry_id for entry in store.entries()}


def test_what_is_deposited_after_a_request_is_redacted_on_its_way_in(store: KnowledgeStore) -> None:
    first = keep_exemplars(store, ("ada", 10), ("bob", 10))
    done = forget(store, {"ada": 100})

    again = keep_exemplars(store, ("ada", 10), ("bob", 10))  # the same deposit, repeated after a crash
    later = keep_exemplars(store, ("ada", 11), ("ada", 101), ("eve", 1))

    assert again.entry_id == done.replaced[first.entry_id]
    assert users(store, later) == ["ada", "eve"]


def test_forgetting_twice_changes_nothing_and_a_later_request_reaches_further(store: KnowledgeStore) -> None:
    entry = keep_exemplars(store, ("ada", 10), ("ada", 150), ("bob", 1))
    forget(store, {"ada": 100, "nobody": 5})

    assert forget(store, {"ada": 100}).replaced == {}
    assert users(store, entry) == ["ada", "bob"]
    forget(store, {"ada": 200})
    assert users(store, entry) == ["bob"]


def test_a_damaged_artifact_about_people_goes_whole_when_somebody_is_forgotten(store: KnowledgeStore) -> None:
    entry = keep_exemplars(store, ("ada", 10), ("bob", 10))
    path = Path(store.artifacts.url.removeprefix("file://")) / entry.sha256
    path.write_bytes(b"x" + path.read_bytes()[1:])

    done = forget(store, {"eve": 100})

    assert (done.replaced, done.removed) == ({}, (entry.entry_id,))
    assert not path.exists()


def test_rows_written_by_hand_against_the_rules_are_refused_by_the_table(store: KnowledgeStore) -> None:
    deposit_head(store)
    with psycopg.connect(store.postgres_url) as connection, pytest.raises(psycopg.errors.CheckViolation):
        connection.execute("UPDATE knowledge_entries SET privacy = 'whatever'")
