"""A picture's way: from `catalog.items` through the learner's process into released item vectors, and to workers."""

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from PIL import Image

from learners.items.attributes import AttributeEncoder
from learners.items.encoder import HashEncoder
from learners.items.image import StatisticsEncoder
from learners.items.picture import on_white
from learners.releases.release import LoadedRelease, load_release
from streams.events import CatalogItem, ExpertUpdate, Release
from streams.learning.item_vectors import ITEM_VECTORS, decode_item_vector
from streams.topics import CATALOG_ITEMS, EXPERTS_UPDATES, MODELS_RELEASES
from tests.brokers import EmbeddedBroker
from tests.learner_driver import TEXT_WIDTH
from tests.learner_runs import LearnerRun, Shop, interactions
from tests.waiting import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

COLOURS = ("red", "green", "blue", "orange", "purple")
TITLE, BRAND = "thing of kind 0", "Acme"


def settled(progress: dict[str, Any]) -> bool:
    return not (progress["round_running"] or progress["rounds_pending"] or progress["announcements_waiting"])


def listed(shop: Shop, *items: CatalogItem) -> None:
    shop.publish(CATALOG_ITEMS, {0: [(item.item_id, msgspec.json.encode(item)) for item in items]})


def newest_release(shop: Shop) -> LoadedRelease:
    return load_release(max(shop.read(MODELS_RELEASES, Release), key=lambda release: release.sequence).uri)


def said_of(release: LoadedRelease, item_id: str) -> np.ndarray:
    """What descriptions add to the vector of an item, beside what the model learned of the item itself."""
    index = release.index_of[item_id]
    own = release.model.id_embedding.weight[release.model.rows_of(torch.tensor([index]))]
    return release.item_matrix[index] - own[0].detach().numpy()


def described(release: LoadedRelease, picture: Image.Image | None) -> np.ndarray:
    text = HashEncoder(width=TEXT_WIDTH).encode([f"{TITLE}. {BRAND}"])[0]
    vector = np.zeros(StatisticsEncoder.width, np.float32)
    if picture is not None:
        vector = StatisticsEncoder().encode([on_white(picture)])[0]
    attributes = AttributeEncoder(width=TEXT_WIDTH).encode([{"brand": BRAND}])[0]
    return release.encode_new_items(np.concatenate([text, vector, attributes])[None])[0]


def test_an_items_picture_reaches_the_released_item_vector_and_a_restart_and_new_items(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    pictures = {colour: Image.new("RGB", (24, 24), colour) for colour in COLOURS}
    for colour, picture in pictures.items():
        picture.save(folder / f"{colour}.png")
    (folder / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\nand then nothing")
    shop, made = Shop(embedded_kafka, partitions=1), interactions(1_000, partitions=1)
    images = ["red.png", "broken.png", "nowhere.png", None, *(f"{colour}.png" for colour in COLOURS)]
    listed(
        shop,
        *(CatalogItem(item_id=f"i{n}", title=TITLE, brand=BRAND, image=image) for n, image in enumerate(images)),
    )
    run = LearnerRun(
        shop, postgres_url=database_url, data_dir=tmp_path / "data", round_interactions=400, pictures=str(folder)
    )
    shop.happen(made[:500])
    run.start()
    try:
        run.until(lambda now: now["rounds"]["passed"] == 1 and settled(now))
        counted = run.until(lambda now: now["pictures"].get("waiting") == 0)["pictures"]
        assert counted == {"waiting": 0, "encoded": 6, "unreadable": 1, "missing": 1}
        first = newest_release(shop)
        for item_id, picture in (("i0", pictures["red"]), ("i1", None), ("i2", None), ("i3", None)):
            np.testing.assert_allclose(said_of(first, item_id), described(first, picture), atol=1e-5)
        assert np.abs(described(first, pictures["red"]) - described(first, None)).max() > 0.01

        listed(shop, CatalogItem(item_id="new", title=TITLE, brand=BRAND, image="blue.png"))
        wait_until(lambda: bool(told(shop)), patience_s=30)
        text, picture, attributes = told(shop)["new"]
        np.testing.assert_allclose(picture, StatisticsEncoder().encode([pictures["blue"]])[0], atol=1e-5)
        assert (len(text), len(attributes)) == (TEXT_WIDTH, TEXT_WIDTH)
        assert attributes.any()

        run.kill()
        run.start()
        listed(shop, CatalogItem(item_id="i0", title=TITLE, brand=BRAND, image="green.png"))  # another picture
        run.until(lambda now: now["waits_for"] is None and now["pictures"].get("waiting") == 0)
        shop.happen(made[500:])
        run.until(lambda now: now["rounds"]["passed"] == 2 and settled(now))
        second = newest_release(shop)
        assert second.version > first.version
        for item_id, colour in (("i0", "green"), ("i4", "red"), ("new", "blue")):
            np.testing.assert_allclose(said_of(second, item_id), described(second, pictures[colour]), atol=1e-5)
        assert run.stop() == 0
    finally:
        if run.process is not None and run.process.poll() is None:
            run.kill()
    assert "picture_rejected" in (tmp_path / "data" / "learner.log").read_text()
    kept = {item_id: image for item_id, *_, image, _ in run.checkpoint()[0]["catalog"]["items"]}
    assert (kept["i0"], kept["i3"], kept["new"]) == ("green.png", "", "blue.png")


def told(shop: Shop) -> dict[str, tuple[np.ndarray, ...]]:
    """What workers were told of items that are newer than the release."""
    updates = shop.read(EXPERTS_UPDATES, ExpertUpdate)
    found = {each.key: decode_item_vector(each.payload) for each in updates if each.expert == ITEM_VECTORS}
    return {item_id: parts for item_id, parts in found.items() if len(parts) == 3 and parts[1].any()}
