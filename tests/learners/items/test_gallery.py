"""Pictures of a whole catalogue: looked at once, again when they change, counted where they are bad."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learners.items.attributes import AttributeEncoder
from learners.items.catalog import Catalog
from learners.items.described_vectors import DescribedVectors
from learners.items.encoder import HashEncoder
from learners.items.gallery import Gallery, Wanted
from learners.items.image import PictureVectors
from learners.items.picture import PictureSource, RejectedPicture


class MeanColour:
    """Three numbers a picture, and how many pictures it has seen."""

    fingerprint, width = "mean:1", 3

    def __init__(self) -> None:
        self.seen = 0

    def encode(self, pictures: list[Image.Image]) -> np.ndarray:
        self.seen += len(pictures)
        if any(picture.width == 7 for picture in pictures):
            message = "seven is too odd for this network"
            raise RuntimeError(message)
        found = [np.asarray(picture, np.float32).mean(axis=(0, 1)) / 255 for picture in pictures]
        return np.stack(found)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for colour in ("red", "green", "blue"):
        Image.new("RGB", (4, 4), colour).save(tmp_path / f"{colour}.png")
    Image.new("RGB", (7, 4), "red").save(tmp_path / "odd.png")
    (tmp_path / "broken.png").write_bytes(b"no picture")
    return tmp_path


def vectors(folder: Path, encoder: MeanColour | None = None) -> PictureVectors:
    source = PictureSource(folder=folder)
    return PictureVectors(encoder or MeanColour(), source=source, cache=folder / "vectors.sqlite")


def test_a_picture_is_seen_once_after_a_restart_too_and_again_when_its_file_changes(folder: Path) -> None:
    encoder = MeanColour()
    for _ in range(2):
        found = vectors(folder, encoder).look("red.png")
        assert not isinstance(found, RejectedPicture)
        np.testing.assert_allclose(found, [1, 0, 0], atol=1e-6)
    assert encoder.seen == 1
    Image.new("RGB", (5, 5), "blue").save(folder / "red.png")
    os.utime(folder / "red.png", (1, 1))
    np.testing.assert_allclose(vectors(folder, encoder).look("red.png"), [0, 0, 1], atol=1e-6)
    assert encoder.seen == 2


def test_an_address_is_fetched_again_only_if_the_shop_says_it_anew(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fetched: list[str] = []

    def fetch(self: PictureSource, url: str) -> bytes:
        fetched.append(url)
        return (folder / ("red.png" if len(fetched) == 1 else "blue.png")).read_bytes()

    monkeypatch.setattr(PictureSource, "_fetch", fetch)
    source = PictureSource(folder=folder, network=True)
    pictures = PictureVectors(MeanColour(), source=source, cache=folder / "vectors.sqlite")
    address = "https://shop.example/a.png"
    looks = [pictures.look(address, anew=anew) for anew in (False, False, True, False)]
    assert [np.argmax(look) for look in looks] == [0, 0, 2, 2]
    assert len(fetched) == 2
    without = PictureVectors(MeanColour(), source=PictureSource(folder=folder), cache=folder / "vectors.sqlite")
    assert without.look(address) == RejectedPicture(address, "network_off")


def test_bad_pictures_are_counted_and_leave_their_items_without_one(folder: Path) -> None:
    gallery = Gallery(vectors(folder))
    gallery.encode([
        Wanted(1, "red.png"), Wanted(2, "broken.png"), Wanted(3, "odd.png"), Wanted(4, "none.png"),
        Wanted(5, "../../etc/passwd"), Wanted(6, "\x00"), Wanted(7, "https://shop.example/a.png"),
        Wanted(8, "gopher://x"), Wanted(9, "http://[::1"),
    ])  # fmt: skip
    assert gallery.counts == {
        "encoded": 1, "unreadable": 2, "missing": 2, "outside": 1, "network_off": 1, "scheme": 2
    }  # fmt: skip
    found = gallery.take()
    assert [index for index, (_, vector) in found.items() if vector.any()] == [1]
    assert gallery.take() == {}


def test_rows_hold_whatever_an_item_has_and_follow_what_changes(folder: Path) -> None:
    catalog = Catalog(detailed=True)
    gallery = Gallery(vectors(folder))
    rows = DescribedVectors(HashEncoder(width=8), gallery=gallery, attributes=AttributeEncoder(width=4))
    catalog.upsert("all", title="All", brand="Acme", image="red.png")
    catalog.upsert("text", title="Text")
    catalog.upsert("picture", image="green.png")
    catalog.upsert("price", price=3.0)
    catalog.admit("unknown")

    def looked() -> list[int]:
        wanted = [Wanted(index, catalog.image_of(index)) for index in range(1, len(catalog)) if catalog.image_of(index)]
        gallery.encode(wanted)
        rows.update(catalog)
        return rows.take_pictures(catalog)

    assert looked() == [1, 3]
    matrix = rows.matrix(catalog)
    there = [[bool(part.any()) for part in rows.layout.parts(row)] for row in matrix]
    assert there == [
        [False, False, False],
        [True, True, True],
        [True, False, False],
        [False, True, False],
        [False, False, True],
        [False, False, False],
    ]
    before = matrix.copy()
    catalog.upsert("all", title="All", brand="Acme", image="blue.png")
    gallery.encode([Wanted(1, "red.png")])  # looked at before, taken in after the shop said otherwise
    rows.update(catalog)
    assert rows.take_pictures(catalog) == []
    assert looked() == [1]
    np.testing.assert_array_equal(rows.matrix(catalog)[1, 8:11], np.float32([0, 0, 1]))
    catalog.upsert("all", title="All", brand="Acme")
    rows.update(catalog)
    assert not rows.matrix(catalog)[1, 8:11].any()
    np.testing.assert_array_equal(rows.matrix(catalog)[2:], before[2:])
