"""`alluvium knowledge reuse` and `share` against a real store, on markets that are files."""

import json
import random
from dataclasses import dataclass
from pathlib import Path

import pytest

from infra.cli.app import run
from infra.composition import knowledge_store
from infra.market import read_markets
from infra.settings import leaves, load_settings
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.archive import export_archive
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.entry import Entry
from learners.knowledge.keys import load_signing_key
from learners.knowledge.store import KnowledgeStore
from learners.releases.release import load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import run_round
from tests.learners.knowledge_data import deposit_head, write_keys
from tests.learners.test_knowledge_reuse import record_of

pytestmark = pytest.mark.usefixtures("logs_restored")
ITEMS = 24
SMALL = {
    "MODEL__WIDTH": "16",
    "MODEL__LAYERS": "1",
    "MODEL__HEADS": "1",
    "MODEL__HISTORY_LENGTH": "8",
    "MODEL__SPARE_ROWS": "0",
    "MODEL__DROPOUT": "0",
    "MODEL__TEXT_ENCODER": "hash",
    "LEARNING__FIRST_EPOCHS": "8",
    "LEARNING__BATCH_ROWS": "16",
    "GATE__POPULARITY_FLOOR": "0",
}


@dataclass(frozen=True)
class Taught:
    """A market that was learned: its files, its round, its release."""

    log: Path
    catalog: Path
    round_input: RoundInput
    release: Path

    def keep(self, store: KnowledgeStore, name: str) -> Entry:
        """Deposit it as the learner would; returns the trunk's entry."""
        kept = Accumulation(store, collection=CollectionConfig(max_bytes=10**9), task=name, encoder="hash")
        release = load_release(self.release)
        return kept.keep(record_of(self.release), release, self.round_input, round_key=f"{name}-1").entries[0]


def small(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Settings of a small model."""
    for variable, _ in leaves():
        monkeypatch.delenv(variable, raising=False)
    for name, value in SMALL.items():
        monkeypatch.setenv(f"ALLUVIUM_{name}", value)
    monkeypatch.setenv("ALLUVIUM_DATA_DIR", str(folder / "data"))


@pytest.fixture(scope="module")
def taught(tmp_path_factory: pytest.TempPathFactory) -> list[Taught]:
    """Two markets, each learned from scratch."""
    folder, found = tmp_path_factory.mktemp("taught"), []
    with pytest.MonkeyPatch.context() as monkeypatch:
        small(monkeypatch, folder)
        for seed, name in enumerate(("one", "other"), start=1):
            log, catalog = market(folder, name, people=24, seed=seed)
            (round_input,) = read_markets([log], [catalog], load_settings()).rounds
            (folder / name).mkdir()
            run_round(round_input, folder / name)
            found.append(Taught(log, catalog, round_input, folder / name / "candidate"))
    return found


@pytest.fixture
def store(database_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> KnowledgeStore:
    small(monkeypatch, tmp_path)
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    monkeypatch.setenv("COLUMNS", "200")
    store = knowledge_store(load_settings())
    store.create()
    return store


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert run(["knowledge", *map(str, words)]) == code
    shown = capsys.readouterr()
    return shown.out if code == 0 else shown.err


def market(folder: Path, name: str, *, people: int, seed: int, first: int = 0) -> tuple[Path, Path]:
    """People who walk along a ring of items, as a log and a catalogue; who comes in between is seen in between."""
    rng, events = random.Random(seed), []
    places = {f"{name}-{person}": rng.randrange(ITEMS) for person in range(people)}
    for step in range(7):
        for person, place in places.items():
            item = first + (place + step) % ITEMS
            events.append({"user_id": person, "item_id": f"i{item}", "event_type": "purchase"})
    log, catalog = folder / f"{name}.jsonl", folder / f"{name}-items.jsonl"
    lines = [json.dumps(event | {"event_time": 1_700_000_000 + 60 * place}) for place, event in enumerate(events)]
    log.write_text("\n".join(lines))
    titles = [{"item_id": f"i{item}", "title": f"thing {item}"} for item in range(first, first + ITEMS)]
    catalog.write_text("\n".join(map(json.dumps, titles)))
    return log, catalog


def test_a_market_starts_from_the_nearest_entry_and_says_what_was_tried(
    store: KnowledgeStore, taught: list[Taught], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    donor, bad = taught[0].keep(store, "one"), taught[1].keep(store, "other")
    file = tmp_path / "data" / "knowledge" / bad.sha256
    file.write_bytes(file.read_bytes()[:-1] + b"!")
    log, catalog = market(tmp_path, "new", people=12, seed=3)

    words = ("reuse", log, "--catalog", catalog, "--out", tmp_path / "release", "--report", tmp_path / "r.json")
    shown = said(capsys, *words)

    assert f"from {donor.entry_id[:12]}: newest NDCG@10" in shown
    assert bad.entry_id[:12] in shown
    report = json.loads((tmp_path / "r.json").read_text())
    trials = {trial["entry_id"]: trial for trial in report["start"]["trials"]}
    assert trials[donor.entry_id]["ndcg_10"] > trials[None]["ndcg_10"]
    assert "is corrupt: sha256" in trials[bad.entry_id]["refused"]
    assert {plan["epochs"] for plan in report["start"]["planned"]} == {0, 2, 8}
    release = load_release(tmp_path / "release")
    assert release.manifest["facts"]["start"]["entry_id"] == donor.entry_id
    assert "exists; expected a directory that is yet to be made" in said(capsys, *words, code=2)


def test_what_is_missing_or_too_small_is_said_and_without_donors_the_start_is_from_scratch(
    store: KnowledgeStore, taught: list[Taught], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    taught[0].keep(store, "one")
    log, catalog = market(tmp_path, "new", people=2, seed=2)
    words = ("--catalog", catalog, "--out", tmp_path / "release")
    assert "EVENTS is" in said(capsys, "reuse", tmp_path / "no.csv", *words, code=2)
    assert "from scratch: newest NDCG@10" in said(capsys, "reuse", log, *words, "--donors", 0)
    log.write_text(log.read_text().split("\n")[0])
    assert "too few events" in said(capsys, "reuse", log, *words[:-1], tmp_path / "other", code=2)
    assert not (tmp_path / "other").exists()


def test_a_directory_and_an_archive_become_one_model(
    store: KnowledgeStore, taught: list[Taught], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    one, other = taught[0], taught[1].keep(store, "other")
    archive, (private, public) = tmp_path / "k.tar", write_keys(tmp_path, "shop")
    ids = [entry.entry_id for entry in store.entries()]
    export_archive(store, archive, entry_ids=ids, key=load_signing_key(private), shop=True)

    words = ("--events", one.log, "--catalog", one.catalog, "--out", tmp_path / "fused", "--method", "composition")
    shown = said(capsys, "share", one.release, archive, *words, "--trusted", public, "--report", tmp_path / "r.json")

    assert "chosen on validation, weights: [" in shown
    report = json.loads((tmp_path / "r.json").read_text())
    assert len(report["alone"]) == 2
    assert other.entry_id in report["parents"]
    assert report["fused"][0] >= 0.8 * min(figures[0] for figures in report["alone"].values())
    release = load_release(tmp_path / "fused")
    assert release.manifest["facts"]["shared"]["method"] == "composition"
    assert release.item_ids == one.round_input.item_ids


def test_what_cannot_be_fused_is_refused_by_name(
    store: KnowledgeStore,
    taught: list[Taught],
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    one, adapter, head = taught[0], taught[0].keep(store, "one"), deposit_head(store)
    words = ("--events", one.log, "--catalog", one.catalog, "--out", tmp_path / "fused")

    assert "--method is 'magic'" in said(capsys, "share", one.release, "x", *words, "--method", "magic", code=2)
    assert "expected at least 2" in said(capsys, "share", one.release, *words, code=1)
    assert "of kind head; expected an adapter" in said(capsys, "share", one.release, head.entry_id, *words, code=2)
    assert "no knowledge entry 'ffff'" in said(capsys, "share", one.release, "ffff", *words, code=1)
    monkeypatch.setenv("ALLUVIUM_MODEL__WIDTH", "8")
    assert "does not fit" in said(capsys, "share", one.release, adapter.entry_id, *words, code=1)
    assert not (tmp_path / "fused").exists()


def test_a_private_trunk_says_what_it_cost_and_is_what_an_export_with_privacy_lets_leave(
    store: KnowledgeStore, taught: list[Taught], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    pytest.importorskip("opacus")
    taught[0].keep(store, "one")
    log, catalog = market(tmp_path, "new", people=12, seed=3)
    (private, _), archive = write_keys(tmp_path, "shop"), tmp_path / "k.tar"

    shown = said(capsys, "privatize", log, "--catalog", catalog, "--epsilon", 4, "--steps", 2, "--sample-rate", 0.5)

    (entry,) = (entry for entry in store.entries() if entry.lineage.model == "private")
    assert shown.startswith(f"{entry.entry_id[:12]}: epsilon 3.9")
    assert "at delta 1e-05, unit person" in shown
    assert entry.worth == {}
    words = ("export", archive, "--shop", "--key", private, "--privacy", "dp")
    assert "at epsilon 3.9" in said(capsys, *words, "--max-epsilon", 1, code=1)
    assert not archive.exists()
    shown = said(capsys, *words)
    assert "1 entries in" in shown
    assert "differential privacy of it all: epsilon 3.9" in shown
    other = next(each.entry_id for each in store.entries() if each.lineage.model != "private")
    assert "states no epsilon" in said(capsys, "export", archive, other, *words[2:], code=1)
    assert "--privacy is 'much'" in said(capsys, "export", archive, "--key", private, "--privacy", "much", code=2)
