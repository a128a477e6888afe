"""Image encoders: colours and textures are told apart, a transformer is named by a setting, or missed by name."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from learners.errors import EncoderUnavailableError
from learners.items.image import StatisticsEncoder, TransformerImageEncoder, open_image_encoder


def stripes(colour: str, *, width: int, across: bool = False) -> Image.Image:
    picture = Image.new("RGB", (96, 96), "white")
    draw = ImageDraw.Draw(picture)
    for start in range(0, 96, 2 * width):
        box = (0, start, 95, start + width - 1) if across else (start, 0, start + width - 1, 95)
        draw.rectangle(box, fill=colour)
    return picture


def near(left: np.ndarray, right: np.ndarray) -> float:
    return float(np.linalg.norm(left - right))


def test_statistics_know_colour_texture_and_direction() -> None:
    pictures = [
        stripes("red", width=4),
        stripes("red", width=4).resize((200, 200)),
        stripes("blue", width=4),
        stripes("red", width=16),
        stripes("red", width=4, across=True),
    ]
    red, larger, blue, wide, across = StatisticsEncoder().encode(pictures)
    assert near(red, larger) < 0.6 * min(near(red, blue), near(red, wide), near(red, across))


def test_statistics_are_the_same_alone_and_in_a_crowd() -> None:
    pictures = [
        stripes("red", width=3),
        stripes("green", width=5),
        Image.new("RGB", (1, 1)),
        Image.new("RGB", (7, 900)),
    ]
    together = StatisticsEncoder().encode(pictures)
    alone = np.concatenate([StatisticsEncoder().encode([picture]) for picture in pictures])
    np.testing.assert_allclose(together, alone, atol=1e-4)
    assert np.isfinite(together).all()
    assert StatisticsEncoder().encode([]).shape == (0, 975)


@pytest.fixture(scope="module")
def tiny_vit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from transformers import ViTConfig, ViTModel

    folder = tmp_path_factory.mktemp("vit")
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    ViTModel(ViTConfig(image_size=32, patch_size=8, **shape)).save_pretrained(folder)
    size = {"height": 32, "width": 32}
    processor = {"image_processor_type": "ViTImageProcessor", "size": size, "do_resize": True, "do_normalize": True}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    return folder


def test_a_setting_names_a_vision_transformer_in_a_folder(tiny_vit: Path) -> None:
    encoder = open_image_encoder(str(tiny_vit))
    red, blue, again = encoder.encode([stripes("red", width=4), stripes("blue", width=9), stripes("red", width=4)])
    assert encoder.width == 16
    np.testing.assert_allclose(np.linalg.norm([red, blue], axis=1), 1, atol=1e-5)
    np.testing.assert_allclose(red, again, atol=1e-5)
    assert not np.allclose(red, blue, atol=1e-3)
    assert str(tiny_vit) in encoder.fingerprint


def test_a_missing_vision_model_is_named_with_what_was_expected(tmp_path: Path) -> None:
    with pytest.raises(EncoderUnavailableError, match=r'image_encoder is .*no-such.*expected "statistics"'):
        TransformerImageEncoder(str(tmp_path / "no-such")).encode([Image.new("RGB", (8, 8))])
