"""What the catalogue lists is described in the background: texts wait for nobody, rounds do not wait for ever."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from PIL import Image

from infra.composition import learner_config, picture_vectors
from infra.settings import Settings
from infra.shelf import ITEM_FIELDS
from learners.items.attributes import AttributeEncoder
from learners.items.encoder import HashEncoder
from learners.items.gallery import Wanted
from learners.items.image import PictureVectors, StatisticsEncoder
from learners.items.layout import Layout
from learners.items.picture import PictureSource, RejectedPicture
from learners.items.shelf import Describers, shelf_of
from learners.learner import Learner, LearnerConfig
from learners.model import ModelConfig
from streams.batches import RecordBatch
from streams.events import CatalogItem
from streams.learning.checkpoint import Checkpoints
from streams.learning.describing import Describing
from streams.learning.encoding import Encoding
from streams.learning.findings import Findings
from streams.learning.position import Position, Tracker
from streams.learning.study import Study
from streams.topics import CATALOG_ITEMS


class SlowPictures(PictureVectors):
    """A server that does not answer until it is let."""

    def __init__(self, folder: Path) -> None:
        super().__init__(StatisticsEncoder(), source=PictureSource(folder=folder))
        self.let = threading.Event()

    def look(self, source: str, *, anew: bool = False) -> Any:
        self.let.wait(10)
        return super().look(source, anew=anew)


async def test_a_picture_that_does_not_come_keeps_a_round_waiting_for_a_while_and_texts_not_at_all(
    tmp_path: Path,
) -> None:
    pictures, taken_in = SlowPictures(tmp_path), []

    async def encoded() -> None:
        taken_in.append(1)

    describers = Describers(texts=HashEncoder(width=8), pictures=pictures)
    describing = Describing(describers, encoded=encoded, patience_s=600)
    async with asyncio.TaskGroup() as tasks:
        running = describing.begin(tasks)
        describing.add(Findings(texts=["mug"], pictures=[Wanted(1, "mug.png")]))
        await asyncio.wait_for(describing.texts.idle.wait(), 30)
        assert not describing.settled()
        describing._patience_s = 0.1
        await asyncio.wait_for(describing.idle(), 30)
        assert describing.settled()
        assert describing.pictures == {"waiting": 1}
        pictures.let.set()
        while describing.pictures["waiting"]:
            await asyncio.sleep(0.01)
        assert describing.pictures == {"waiting": 0, "missing": 1}
        for task in running:
            task.cancel()


async def test_many_pictures_are_taken_in_piece_by_piece() -> None:
    class Counting:
        def __init__(self) -> None:
            self.done: list[int] = []

        def encode(self, works: list[int]) -> None:
            self.done.extend(works)

    encoder, seen = Counting(), []

    async def encoded() -> None:
        seen.append(len(encoder.done))

    encoding: Encoding[int] = Encoding(encoder, encoded=encoded, at_once=2, piecemeal=True)
    running = asyncio.create_task(encoding.run())
    encoding.add([*range(100), *range(50)])
    await asyncio.wait_for(encoding.idle.wait(), 30)
    assert encoder.done == list(range(100))
    assert seen == [32, 64, 96, 100]
    running.cancel()
    await asyncio.wait({running})


def study(folder: Path, describing: Describing) -> Study:
    learner = Learner(catalog=describing.catalogue(), config=LearnerConfig(model=ModelConfig(text_width=8)))
    if (found := Checkpoints(folder / "checkpoints").newest()) is not None:
        learner.load(found[0], release_of=lambda _: None)
    tracker = Tracker(Position(lineage="a", cluster_id="k"))
    return Study(learner=learner, tracker=tracker, rows=describing.rows, clock_ms=lambda: 0)


def listed(*items: CatalogItem) -> RecordBatch:
    return RecordBatch(
        topic=CATALOG_ITEMS,
        partition=0,
        offsets=list(range(len(items))),
        keys=[item.item_id.encode() for item in items],
        values=[msgspec.json.encode(item) for item in items],
        timestamps_ms=[0] * len(items),
    )


def test_a_file_of_items_gets_the_rows_that_the_live_learner_has_of_the_same_items(tmp_path: Path) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "mug.png")
    items = [
        CatalogItem(item_id="mug", title="Mug", image="mug.png", attributes={"colour": "red"}),
        CatalogItem(item_id="cup", title="Cup", image="nowhere.png", price=3.0),
        CatalogItem(item_id="mug", title="Blue mug", image="mug.png", brand="Acme"),
    ]
    describers = Describers(
        texts=HashEncoder(width=8),
        pictures=PictureVectors(StatisticsEncoder(), source=PictureSource(folder=tmp_path)),
        attributes=AttributeEncoder(width=4),
    )

    async def nobody() -> None: ...

    live = study(tmp_path, Describing(describers, encoded=nobody, patience_s=1))
    live.take_catalogue(listed(*items))
    assert live.rows.gallery is not None
    live.rows.gallery.encode(live.findings().pictures)
    live.describe()

    shelf = shelf_of([{name: getattr(item, name) for name in ITEM_FIELDS} for item in items], describers)
    np.testing.assert_array_equal(shelf.vectors, live.rows.matrix(live.learner.catalog))
    assert shelf.vectors.any(axis=1).tolist() == [False, True, True]
    assert shelf.layout == describers.layout == (8, 975, 4)
    assert shelf.pictures == {"encoded": 1, "missing": 1}
    assert shelf.catalogue().item_ids == live.learner.catalog.item_ids


def test_after_a_restart_the_checkpoint_says_which_pictures_there_are_even_of_items_that_left_the_catalogue(
    tmp_path: Path,
) -> None:
    Image.new("RGB", (8, 8), "red").save(tmp_path / "mug.png")
    source = PictureSource(folder=tmp_path)

    async def nobody() -> None: ...

    def describing(pictures: PictureVectors | None) -> Describing:
        describers = Describers(texts=HashEncoder(width=8), pictures=pictures)
        return Describing(describers, encoded=nobody, patience_s=1)

    vectors = PictureVectors(StatisticsEncoder(), source=source, cache=tmp_path / "v.sqlite")
    first = study(tmp_path, describing(vectors))
    first.take_catalogue(listed(CatalogItem(item_id="mug", image="mug.png"), CatalogItem(item_id="cup", title="Cup")))
    assert first.findings().pictures == [Wanted(1, "mug.png")]
    first.caught_up = True
    first.take_catalogue(listed(CatalogItem(item_id="mug", image="mug.png")))
    assert first.findings().pictures == [Wanted(1, "mug.png", anew=True)]
    checkpoints = Checkpoints(tmp_path / "checkpoints")
    checkpoints.commit(*first.stage(checkpoints))

    again = study(tmp_path, describing(vectors))
    wanted = again.findings().pictures
    assert wanted == [Wanted(1, "mug.png")]
    assert again.rows.gallery is not None
    again.rows.gallery.encode(wanted)
    again.describe()
    found = vectors.look("mug.png")
    assert not isinstance(found, RejectedPicture)
    np.testing.assert_array_equal(again.rows.matrix(again.learner.catalog)[1, 8:], found)
    without = study(tmp_path, describing(None))
    assert without.findings().pictures == []
    assert without.learner.catalog.text_of(2) == "Cup"


def test_settings_say_whether_and_from_where_pictures_are_looked_at(tmp_path: Path) -> None:
    assert picture_vectors(Settings(data_dir=tmp_path)) is None
    Image.new("RGB", (8, 8), "red").save(tmp_path / "mug.png")
    settings = Settings(data_dir=tmp_path / "d", model={"image_encoder": "statistics", "picture_folder": tmp_path})
    (tmp_path / "d").mkdir()
    vectors = picture_vectors(settings)
    assert vectors is not None
    assert not isinstance(vectors.look("mug.png"), RejectedPicture)
    assert vectors.look("http://127.0.0.1:1/x.png") == RejectedPicture("http://127.0.0.1:1/x.png", "network_off")
    shape = learner_config(settings, Layout(text=8, image=vectors.width, attributes=4)).model
    assert shape.layout == (8, 975, 4)
    with pytest.raises(ValueError, match="image_encoder"):
        Settings(model={"image_encoder": ""})
