"""The multimodal benchmark runs, reads its data in place, and says what it measured."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.multimodal import BESIDE, HIDDEN, KNOWN, NEAREST, QUESTIONS, ROWS, main
from benchmarks.multimodal_parts.grocery import PHOTOS, PRODUCTS, DataMissingError, data_folder, load, toy
from benchmarks.multimodal_parts.zero_shot import FIGURES
from learners.items.picture_net.scenes import SIDE, cutout, scene


@pytest.mark.slow
def test_the_multimodal_benchmark_finds_coloured_shapes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    few = {name: QUESTIONS[name] for name in ("one photo of it", "two photos of it")}
    monkeypatch.setattr("benchmarks.multimodal.QUESTIONS", few)
    report = tmp_path / "report.json"
    main(["--toy", "--seeds", "1", "--steps", "60", "--report", str(report)])
    found = json.loads(report.read_text())
    assert found["chance"] == pytest.approx(1 / 9)
    assert set(found["questions"]) == set(few)
    for question in found["questions"].values():
        assert set(question["rows"]) == {*ROWS, BESIDE, *HIDDEN, *KNOWN, NEAREST}
        for row in (*ROWS, BESIDE, *KNOWN):
            figures = question["rows"][row]
            assert figures["low"] <= figures["top_1"] <= figures["high"]
            assert figures["top_1"] > 2 / 9
            assert figures["top_5"] >= figures["top_1"]
    assert found["questions"]["two photos of it"]["rows"]["image + text"]["top_1"] > 0.5
    unseen = found["no_photo"]
    assert set(unseen["rows"]) == set(ROWS)
    for figures in unseen["rows"].values():
        assert all(figures[name]["low"] <= figures[name]["value"] <= figures[name]["high"] for name in FIGURES)
        assert figures["unseen_uncalibrated"]["value"] <= figures["among_unseen"]["value"]
    assert unseen["rows"]["image + text"]["among_unseen"]["value"] > 0.75  # by chance .56
    assert unseen["rows"]["image + text"]["area"]["value"] > 0.5
    assert unseen["rows"]["image + text"]["seen"]["value"] > 2 / 9
    for gain, figures in unseen["gains"].items():
        both, alone = (unseen["rows"][row] for row in gain.split(" - "))
        assert figures["area"]["value"] == pytest.approx(both["area"]["value"] - alone["area"]["value"])
    rows = found["questions"]["two photos of it"]["rows"]
    for gain, figures in found["questions"]["two photos of it"]["gains"].items():
        both, alone = gain.split(" - ")
        assert figures["top_1"] == pytest.approx(rows[both]["top_1"] - rows[alone]["top_1"])


def test_a_scene_is_made_of_the_product_and_not_of_the_studio() -> None:
    studio = Image.new("RGB", (60, 60), "white")
    studio.paste((200, 0, 0), (20, 10, 40, 50))
    cut = cutout(studio)
    assert cut.size == (20, 40)
    made = np.asarray(scene(cut, np.random.default_rng(0)), dtype=float)
    assert made.shape == (SIDE, SIDE, 3)
    reddish = (made[..., 0] > 2 * made[..., 1]) & (made[..., 0] > 2 * made[..., 2])
    assert reddish.mean() > 0.2
    assert (made.min(axis=-1) > 230).mean() < 0.01
    again = np.asarray(scene(cut, np.random.default_rng(0)))
    assert (again == made).all()


def test_missing_data_is_missed_by_name(tmp_path: Path) -> None:
    with pytest.raises(DataMissingError, match="--data"):
        load(tmp_path)


def test_the_data_set_is_read_in_place() -> None:
    folder = data_folder()
    if not (folder / PRODUCTS).exists():
        pytest.skip(f"{folder} is not there")
    shop = load(folder)
    assert (len(shop.products), len(shop.photos), len(shop.shown)) == (81, 296, 296)
    apple = shop.products[1]
    assert apple.title == "Granny Smith"
    assert "green apple" in apple.description
    assert apple.attributes == {"department": "Fruit", "kind": "Apple"}
    with tarfile.open(folder / PHOTOS) as tar:
        shown = {name.split("/")[-2].replace("-", " ") for name in tar.getnames() if name.endswith(".jpg")}
    assert shown == {shop.products[number].title for number in shop.shown}


def test_toy_products_are_told_apart_by_shape_and_colour() -> None:
    shop = toy(photos=2)
    assert len({product.title for product in shop.products}) == 9
    assert len({product.picture.tobytes() for product in shop.products}) == 9
    assert np.bincount(shop.shown).tolist() == [2] * 9
