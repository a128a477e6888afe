"""`alluvium knowledge` against a real store."""

import json
import os
import re
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from infra.cli.app import run
from infra.composition import knowledge_store
from infra.settings import leaves, load_settings
from learners.knowledge import tables
from learners.knowledge.entry import Lineage
from learners.knowledge.graph import KnowledgeGraph
from learners.knowledge.store import KnowledgeStore
from learners.releases.registry import Registry
from tests.learners.graph_data import shop
from tests.learners.knowledge_data import deposit_head, exemplars
from tests.learners.test_registry import candidate

pytestmark = pytest.mark.usefixtures("logs_restored")


@pytest.fixture
def store(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnowledgeStore:
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    monkeypatch.setenv("COLUMNS", "250")
    store = knowledge_store(load_settings())
    store.create()
    return store


@pytest.fixture
def keys(tmp_path: Path) -> tuple[Path, Path]:
    key = Ed25519PrivateKey.generate()
    private, public = tmp_path / "private.pem", tmp_path / "public.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert run(["knowledge", *map(str, words)]) == code
    shown = capsys.readouterr()
    return shown.out if code == 0 else shown.err


def test_a_new_installation_knows_nothing(store: KnowledgeStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert "privacy" in said(capsys, "list")
    assert "no knowledge entry 'abc'" in said(capsys, "show", "abc", code=1)
    assert said(capsys, "gc") == "0 bytes before, 0 after, bound 2147483648\n"


def test_entries_are_listed_filtered_and_found_by_likeness(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str]
) -> None:
    uk = deposit_head(store, 1, task="uk", worth={"newest_ndcg_10": 0.1234}, embedding=[1.0, 0.0])
    france = deposit_head(store, 2, task="france", kind="adapter", embedding=[1.0, 1.0])

    shown = said(capsys, "list")
    assert uk.entry_id[:12] in shown
    assert "newest_ndcg_10 0.1234" in shown
    assert france.entry_id[:12] in shown
    assert uk.entry_id[:12] not in said(capsys, "list", "--kind", "adapter")
    assert france.entry_id[:12] not in said(capsys, "list", "--task", "uk")
    found = said(capsys, "list", "--like", uk.entry_id[:12])
    assert found.index("1.000") < found.index("0.707")
    assert "--kind is 'model'; expected one of adapter" in said(capsys, "list", "--kind", "model", code=2)


def test_show_prints_everything_and_finds_a_flipped_byte(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    entry = deposit_head(store, 1)
    assert json.loads(said(capsys, "show", entry.entry_id[:12])) == json.loads(json.dumps(entry.as_dict()))
    path = tmp_path / "data" / "knowledge" / entry.sha256
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))

    error = said(capsys, "show", entry.entry_id, code=1)
    assert re.fullmatch(
        rf"alluvium: artifact of knowledge entry {entry.entry_id} is corrupt: sha256 [0-9a-f]{{64}}; "
        rf"expected sha256 {entry.sha256}\n",
        error,
    )


def test_diff_says_what_changed(store: KnowledgeStore, capsys: pytest.CaptureFixture[str]) -> None:
    one, other = deposit_head(store, 1, worth={"ndcg_10": 0.1}), deposit_head(store, 2, worth={"ndcg_10": 0.2})

    shown = said(capsys, "diff", one.entry_id, other.entry_id)
    assert "worth.ndcg_10" in shown
    assert "weight" in shown
    assert "2 in common, only the first: nothing, only the second: nothing" in shown


def test_knowledge_travels_signed_and_what_is_personal_stays(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    public, own = deposit_head(store, 1, privacy="public"), deposit_head(store, 2)
    raw = store.deposit(exemplars(("ada", 1)), kind="exemplars", privacy="personal", lineage=Lineage(task="a"))
    archive, (private, trusted) = tmp_path / "k.tar", keys

    assert "SIGNING_KEY is missing" in said(capsys, "export", archive, code=2)
    assert "1 entries in" in (shown := said(capsys, "export", archive, "--key", private))
    assert "2 stayed because of their privacy label" in shown
    assert "personal" in said(capsys, "export", archive, raw.entry_id, "--key", private, "--shop", code=1)
    assert "2 entries in" in said(capsys, "export", archive, "--shop", "--key", private)
    with tables.removing(store.postgres_url) as connection:
        tables.delete(connection, [public.entry_id, own.entry_id])
        store.sweep(connection)
    assert "TRUSTED_KEYS is missing" in said(capsys, "import", archive, code=2)
    assert "2 entries added, 0 known already" in said(capsys, "import", archive, "--trusted", trusted)
    assert store.read(own.entry_id)
    archive.write_bytes(archive.read_bytes().replace(b'"public"', b'"shop"  '))
    assert "no trusted key signed its manifest" in said(capsys, "import", archive, "--trusted", trusted, code=1)


def test_an_export_of_nothing_is_wrong_usage(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    deposit_head(store)
    error = said(capsys, "export", tmp_path / "k.tar", "--key", keys[0], code=2)
    assert "nothing to export: 1 entries stay because of their privacy label" in error
    assert "is unusable" in said(capsys, "export", tmp_path / "k.tar", "--key", tmp_path / "none.pem", code=1)


def test_an_archive_that_cannot_be_written_is_one_line(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, keys: tuple[Path, Path]
) -> None:
    deposit_head(store)
    error = said(capsys, "export", keys[0] / "k.tar", "--shop", "--key", keys[0], code=1)
    assert error.startswith("alluvium: cannot write ")
    assert "Not a directory" in error
    os.mkfifo(tmp_path / "pipe")  # as /dev/stdout may be
    error = said(capsys, "export", tmp_path / "pipe", "--shop", "--key", keys[0], code=1)
    assert "it is there, and is no file" in error
    assert (tmp_path / "pipe").is_fifo()


def test_gc_keeps_what_serves_and_says_so(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], tmp_path: Path, database_url: str
) -> None:
    registry = Registry(postgres_url=database_url, root=tmp_path / "data" / "models")
    registry.create()
    registry.publish(
        candidate(tmp_path / "candidate", parent=None), offsets={}, metrics={}, verdict={}, triggered_at_ms=1
    )
    serving = deposit_head(store, 1, lineage=Lineage(task="sequence", model_version=1))
    old = deposit_head(store, 2, lineage=Lineage(task="sequence", model_version=7))
    left = f".tmp-{serving.sha256}-left"
    (tmp_path / "data" / "knowledge" / left).write_bytes(b"123")

    assert "would go" in said(capsys, "gc", "--max-bytes", 0, "--dry-run")
    assert len(store.entries()) == 2
    shown = said(capsys, "gc", "--max-bytes", 0)
    assert old.entry_id[:12] in shown
    assert f"held: {serving.entry_id[:12]} used by release 1" in shown
    assert f"swept: {left} (3 bytes)" in shown
    assert f"{serving.size_bytes} above the bound" in shown
    assert store.entries() == [serving]


def test_the_graph_is_counted_and_asked_by_path(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    assert "edges" in said(capsys, "graph")
    shop(KnowledgeGraph(postgres_url=database_url))

    assert re.search(r"co_purchase\D+10", said(capsys, "graph"))
    found = said(capsys, "graph", "item:mug", "--path", "co_purchase/category")
    assert re.search(r"category:Kitchen > Tea\D+0\.(4999|5000)\D+item:tea", found)  # half, decay aside
    assert "'mug'; expected one of item, " in said(capsys, "graph", "mug", code=2)
    assert "path is 'likes'; expected 1 to 4 of category" in said(
        capsys, "graph", "item:mug", "--path", "likes", code=1
    )


def test_the_graph_suggests_candidates_neighbours_of_a_new_item_and_bundles(
    store: KnowledgeStore, capsys: pytest.CaptureFixture[str], database_url: str
) -> None:
    graph = KnowledgeGraph(postgres_url=database_url)
    graph.create()
    shop(graph)

    strongest = said(capsys, "suggest", "mug", "--k", "1")
    assert re.search(r"tea\s+│ \d\.\d+\s+│ co_purchase\s+│ item:mug > item:tea", strongest)
    assert not re.search(r"│ (tea|mug) ", said(capsys, "suggest", "tea", "mug"))  # nobody is offered what they have
    assert re.search(r"cup\s+│ 0\.\d+", said(capsys, "suggest", "mug", "--as", "cold-start"))
    bundle = said(capsys, "suggest", "mug", "--as", "bundle", "--k", "3")
    assert bundle.index("mug") < bundle.index("tea") < bundle.index("pot")
    assert "2 items; expected one for bundle" in said(capsys, "suggest", "mug", "tea", "--as", "bundle", code=2)
