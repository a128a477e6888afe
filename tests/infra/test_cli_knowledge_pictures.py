"""`alluvium knowledge share|reuse|privatize` where models are told of pictures, and where only some of them are."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from infra.cli.app import run
from infra.composition import knowledge_store
from infra.market import Markets, read_markets
from infra.settings import load_settings
from learners.knowledge.accumulation import Accumulation
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import decode_tensors
from learners.knowledge.layouts import layout_of
from learners.releases.release import load_release
from learners.rounds.round import run_round
from tests.infra.picture_shop import settings, shop
from tests.learners.test_knowledge_reuse import record_of

pytestmark = pytest.mark.usefixtures("logs_restored")
PICTURES, TEXT = "text 384 + image 975", "text 384"
SOLD = {"one": ("red", "green"), "other": ("blue", "yellow")}


@dataclass(frozen=True)
class Shops:
    """Two shops that sell different things, in different colours.

    Args:
        folder: Where their pictures lie.
        files: A log and a catalogue each.
        told: A release each, of a model that was told of pictures.
        text_only: The first one's, of a model that was not.
        market: The first one's, as it learned.
    """

    folder: Path
    files: list[tuple[Path, Path]]
    told: list[Path]
    text_only: Path
    market: Markets

    @property
    def words(self) -> list[str]:
        """What `share` is told of them."""
        return [str(word) for log, catalog in self.files for word in ("--events", log, "--catalog", catalog)]


def learned(log: Path, catalog: Path, out: Path) -> tuple[Path, Markets]:
    market = read_markets([log], [catalog], load_settings())
    out.mkdir()
    result = run_round(market.rounds[0], out)
    assert result.candidate is not None
    return result.candidate, market


@pytest.fixture(scope="module")
def shops(tmp_path_factory: pytest.TempPathFactory) -> Shops:
    folder = tmp_path_factory.mktemp("shops")
    files = [shop(folder, name, colours=colours, items=16, people=40) for name, colours in SOLD.items()]
    (folder / "one" / "0.png").unlink()
    with pytest.MonkeyPatch.context() as monkeypatch:
        settings(monkeypatch, folder)
        (one, market), (other, _) = [learned(*each, folder / f"told-{n}") for n, each in enumerate(files)]
        settings(monkeypatch, folder, pictures=False)
        text_only, _ = learned(*files[0], folder / "text")
    return Shops(folder, files, [one, other], text_only, market)


def said(capsys: pytest.CaptureFixture[str], *words: object, code: int = 0) -> str:
    assert run(["knowledge", *map(str, words)]) == code
    shown = capsys.readouterr()
    return shown.out + shown.err


def fused(
    shops: Shops, method: str, folder: Path, capsys: pytest.CaptureFixture[str], *models: Path
) -> dict[str, object]:
    words = (*shops.words, "--out", folder / method, "--method", method, "--report", folder / f"{method}.json")
    assert "pictures: 63 looked at, 1 rejected (missing 1)" in said(capsys, "share", *models, *words)
    report: dict[str, object] = json.loads((folder / f"{method}.json").read_text())
    assert report["pictures"] == {"encoded": 63, "missing": 1}
    return report


def test_shops_with_different_catalogues_meet_in_pictures(
    shops: Shops, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(monkeypatch, shops.folder)
    market = shops.market.rounds[0]
    assert market.text_vectors.shape == (len(market.item_ids), 384 + 975)
    assert market.text_vectors[2:, 384:].any(axis=1).all()
    assert not market.text_vectors[1, 384:].any()  # its picture is missing
    for method in ("uniform", "composition", "distillation"):
        report = fused(shops, method, tmp_path, capsys, *shops.told)
        alone = np.array(list(report["alone"].values()))
        print(method, alone.round(3).tolist(), np.round(report["fused"], 3).tolist())
        assert np.mean(report["fused"]) > max(alone.mean(axis=1))  # it serves both better than either does
        release = load_release(tmp_path / method)
        assert str(release.model.config.layout) == PICTURES
        assert (release.model.state_dict()["scale.spread"] > 0).all()


def test_a_model_without_pictures_teaches_one_with_them_by_logits_alone(
    shops: Shops, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings(monkeypatch, shops.folder)
    report = fused(shops, "distillation", tmp_path, capsys, shops.text_only, shops.told[1])
    assert [each["image"] for each in report["layouts"].values()] == [0, 975]
    release = load_release(tmp_path / "distillation")
    assert str(release.model.config.layout) == PICTURES
    alone = np.array(list(report["alone"].values()))
    print(alone.round(3).tolist(), np.round(report["fused"], 3).tolist())
    assert alone[0, 1] < alone[1, 0]  # of items that it never met, titles that are all alike tell nothing
    assert np.mean(report["fused"]) > max(alone.mean(axis=1))

    words = (*shops.words, "--out", tmp_path / "no")
    shown = said(capsys, "share", shops.text_only, shops.told[1], *words, "--method", "soup", code=1)
    assert f"one is told of {TEXT}, the settings' model of {PICTURES}: soup needs models" in shown
    shown = said(capsys, "share", shops.text_only, shops.text_only, *words, code=1)
    assert f"all are told of {TEXT}, the settings' model of {PICTURES}" in shown
    settings(monkeypatch, shops.folder, pictures=False)
    shown = said(capsys, "share", *shops.told, *words, "--method", "uniform", code=1)
    assert f"one is told of {PICTURES}, the settings' model of {TEXT}" in shown
    monkeypatch.setenv("ALLUVIUM_MODEL__WIDTH", "8")
    assert "differ in name or shape" in said(capsys, "share", *shops.told, *words, code=1)
    assert not (tmp_path / "no").exists()


def test_reuse_takes_a_donor_that_was_told_of_pictures_and_names_both_layouts_of_one_that_was_not(
    shops: Shops,
    database_url: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    settings(monkeypatch, shops.folder)
    monkeypatch.setenv("ALLUVIUM_POSTGRES__URL", database_url)
    monkeypatch.setenv("COLUMNS", "300")
    store = knowledge_store(load_settings())
    store.create()
    donors = {}
    for name, release in (("told", shops.told[0]), ("text", shops.text_only)):
        kept = Accumulation(store, collection=CollectionConfig(max_bytes=10**9), task=name, encoder="hash")
        entries = kept.keep(record_of(release), load_release(release), shops.market.rounds[0], round_key=f"{name}-1")
        donors[name] = entries.entries[0].entry_id
    log, catalog = shop(shops.folder, "new", colours=SOLD["one"], items=8, people=16)

    shown = said(capsys, "reuse", log, "--catalog", catalog, "--out", tmp_path / "r", "--report", tmp_path / "r.json")

    assert f"it is told of {TEXT}, the model of {PICTURES}" in shown
    report = json.loads((tmp_path / "r.json").read_text())
    trials = {trial["entry_id"]: trial for trial in report["start"]["trials"]}
    assert trials[donors["told"]]["refused"] == ""
    assert report["pictures"] == {"encoded": 16}
    assert str(load_release(tmp_path / "r").model.config.layout) == PICTURES

    pytest.importorskip("opacus")
    said(capsys, "privatize", log, "--catalog", catalog, "--steps", 2, "--sample-rate", 0.5)
    (entry,) = (entry for entry in store.entries() if entry.lineage.model == "private")
    trunk = decode_tensors(store.verified(entry))
    assert str(layout_of(trunk)) == PICTURES
    assert trunk["scale.seen"] == torch.tensor(16.0)
