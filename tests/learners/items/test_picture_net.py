"""The network that is trained here: it learns, it is the same again, it is kept whole, and what is wrong is said."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from learners.errors import EncoderUnavailableError, InvalidModelConfigError
from learners.items.image import open_image_encoder
from learners.items.picture_net.encoder import BUILT_IN, TrainedEncoder
from learners.items.picture_net.network import FACTS, WEIGHTS, PictureNet
from learners.items.picture_net.scenes import cutout, scene
from learners.items.picture_net.training import NetConfig, scenes_of, train
from learners.items.picture_net.views import views

SMALL = NetConfig(channels=8, steps=60, batch=32, each=6)


def studio(shape: str, colour: str) -> Image.Image:
    picture = Image.new("RGB", (80, 80), "white")
    draw = ImageDraw.Draw(picture)
    if shape == "disc":
        draw.ellipse((20, 20, 60, 60), fill=colour)
    else:
        for start in range(20, 60, 8):
            draw.rectangle((20, start, 60, start + 3), fill=colour)
    return picture


PICTURES = [studio(shape, colour) for shape in ("disc", "bars") for colour in ("#c02020", "#20a040", "#2040c0")]


@pytest.fixture(scope="module")
def net() -> PictureNet:
    torch.set_num_threads(1)
    return train(PICTURES, config=SMALL, seed=0)


def known(net: PictureNet) -> float:
    """Share of new scenes whose nearest other scene shows the same product."""
    rng = np.random.default_rng(99)
    seen = [scene(cutout(picture), rng) for picture in PICTURES for _ in range(6)]
    vectors = torch.from_numpy(net.encode(seen))
    likeness = torch.nn.functional.normalize(vectors - vectors.mean(dim=0), dim=-1)
    nearest = (likeness @ likeness.T).fill_diagonal_(-2).argmax(dim=1)
    return float((nearest // 6 == torch.arange(len(seen)) // 6).float().mean())


def test_a_trained_network_knows_products_in_new_scenes_better_than_an_untrained_one(net: PictureNet) -> None:
    torch.manual_seed(0)
    assert known(net) > known(PictureNet(8)) + 0.1


def test_the_loss_falls_and_equal_seeds_give_equal_networks(net: PictureNet) -> None:
    losses: list[float] = []
    state = torch.random.get_rng_state()
    again = train(PICTURES, config=SMALL, seed=0, told=lambda _step, loss: losses.append(loss))
    assert torch.equal(state, torch.random.get_rng_state())
    assert again.digest() == net.digest()
    assert len(losses) == SMALL.steps
    assert np.mean(losses[-10:]) < 0.8 * np.mean(losses[:10])
    other = train(PICTURES, config=NetConfig(channels=8, steps=1, batch=32, each=6), seed=1)
    assert other.digest() != net.digest()


def test_a_network_is_kept_in_half_precision(net: PictureNet, tmp_path: Path) -> None:
    net.save(tmp_path / "kept", facts={"pictures": 6})
    assert (tmp_path / "kept" / WEIGHTS).stat().st_mode == (
        tmp_path / "kept" / FACTS
    ).stat().st_mode  # the learner's user reads it
    read = PictureNet.load(tmp_path / "kept")
    np.testing.assert_allclose(read.encode(PICTURES), net.encode(PICTURES), atol=5e-2, rtol=5e-2)
    assert PictureNet.load(tmp_path / "kept").digest() == read.digest()
    encoder = open_image_encoder(str(tmp_path / "kept"))
    assert isinstance(encoder, TrainedEncoder)
    assert encoder.width == 975 + 32
    assert encoder.encode(PICTURES).shape == (6, 1007)
    assert encoder.encode([]).shape == (0, 1007)
    assert encoder.fingerprint != TrainedEncoder().fingerprint


@pytest.mark.parametrize("spoilt", [WEIGHTS, FACTS])
def test_a_network_that_is_not_whole_is_missed_by_name(net: PictureNet, tmp_path: Path, spoilt: str) -> None:
    net.save(tmp_path, facts={})
    content = (tmp_path / spoilt).read_bytes()
    (tmp_path / spoilt).write_bytes(content[: len(content) // 2])
    with pytest.raises(EncoderUnavailableError, match=str(tmp_path)):
        open_image_encoder(str(tmp_path))


def test_the_one_that_comes_along_sees_alone_as_in_a_crowd() -> None:
    encoder = open_image_encoder("trained")
    pictures = [*PICTURES, Image.new("RGB", (1, 1)), Image.new("RGB", (7, 900))]
    together = encoder.encode(pictures)
    alone = np.concatenate([encoder.encode([picture]) for picture in pictures])
    assert together.shape == (8, encoder.width)
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, atol=1e-3)
    assert (BUILT_IN / WEIGHTS).stat().st_size < 2_000_000


def test_views_are_pictures_and_differ() -> None:
    pictures = torch.rand(4, 3, 96, 96)
    first, second = (views(pictures, torch.Generator().manual_seed(seed)) for seed in (0, 1))
    assert first.shape == (4, 3, 64, 64)
    assert first.min() >= 0
    assert first.max() <= 1
    assert not torch.equal(first, second)
    assert torch.equal(first, views(pictures, torch.Generator().manual_seed(0)))


def test_scenes_are_bounded_whatever_the_catalogue() -> None:
    made = scenes_of(PICTURES, config=NetConfig(scenes=8, each=30), seed=0)
    assert made.shape == (4, 2, 3, 96, 96)
    assert scenes_of(PICTURES, config=NetConfig(scenes=4_000, each=3), seed=0).shape[:2] == (6, 3)


def test_too_little_is_refused() -> None:
    with pytest.raises(InvalidModelConfigError, match="pictures is 1"):
        train(PICTURES[:1], config=SMALL)
    with pytest.raises(InvalidModelConfigError, match="steps is 0"):
        NetConfig(steps=0)
