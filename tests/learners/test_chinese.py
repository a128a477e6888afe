"""Chinese titles, real ones too, through a multilingual encoder that a setting names, and through the hashed one."""

import gzip
import os
from pathlib import Path

import numpy as np
import pytest
import torch

from learners.items.catalog import Catalog
from learners.items.encoder import CachedEncoder, HashEncoder, TextEncoder, open_encoder
from learners.items.text_vectors import TextVectors
from learners.knowledge.graph_growth import query_node
from learners.text import words

DATA = Path(os.environ.get("ALLUVIUM_DATA_DIR", Path(__file__).resolve().parents[3] / "shared" / "data"))
TITLES = DATA / "taobao_title_ner_zh" / "test.txt.gz"


@pytest.fixture(scope="module")
def chinese_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A BERT whose tokenizer knows Chinese characters; random weights, few positions."""
    from transformers import BertConfig, BertModel, BertTokenizer

    folder = tmp_path_factory.mktemp("chinese")
    known = [
        "[PAD]",
        "[UNK]",
        "[CLS]",
        "[SEP]",
        "[MASK]",
        *"防晒霜保湿茶杯马克陶瓷红蓝色男女鞋运动",
        "mug",
        "red",
        "##s",
    ]
    (folder / "vocab.txt").write_text("\n".join(known), encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt")).save_pretrained(folder)
    torch.manual_seed(0)
    shape = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 16}
    BertModel(BertConfig(vocab_size=len(known), max_position_embeddings=24, **shape)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def titles() -> list[str]:
    if not TITLES.exists():
        pytest.skip(f"{TITLES} is not there")
    with gzip.open(TITLES, "rt", encoding="utf-8") as lines:
        content = lines.read()
    return ["".join(line[:-1].rsplit(" ", 1)[0] for line in f"{block}\n".splitlines(keepends=True))
            for block in content.split("\n\n") if block.strip()]  # fmt: skip


def test_a_setting_names_an_encoder_that_reads_chinese(chinese_model: Path, tmp_path: Path) -> None:
    encoder = open_encoder(str(chinese_model), cache=tmp_path / "vectors.sqlite")
    assert isinstance(encoder, CachedEncoder)
    assert encoder.width == 16
    sun, tea, mixed, empty = encoder.encode(["防晒霜", "茶杯", "red 马克杯 mugs", ""])
    np.testing.assert_allclose(np.linalg.norm([sun, tea, mixed], axis=1), 1, atol=1e-5)
    assert not np.allclose(sun, tea, atol=1e-3)  # told apart: not all of it is unknown
    assert not empty.any()


def test_a_title_longer_than_the_model_reads_is_cut_and_not_an_error(chinese_model: Path) -> None:
    encoder = TextEncoder(str(chinese_model))
    long, longer = encoder.encode(["防晒霜" * 40, "防晒霜" * 400])
    np.testing.assert_allclose(long, longer, atol=1e-5)
    assert np.isfinite(encoder.encode(["\u200b", "\ud83d", "🙂" * 50, "\ufdfa" * 99])).all()


@pytest.mark.slow
def test_every_real_title_goes_the_whole_way(titles: list[str], chinese_model: Path) -> None:
    assert len(titles) > 700
    for encoder in (HashEncoder(width=64), TextEncoder(str(chinese_model))):
        catalog, vectors = Catalog(), TextVectors(encoder)
        for number, title in enumerate(titles):
            catalog.upsert(f"商品{number}", title=title, category=("淘宝", title[:4]), brand=title[-3:])
            assert catalog.text_of(number + 1).startswith(title.strip())
            assert words(title)
            assert query_node(title) == query_node(query_node(title).removeprefix("query:"))
        assert vectors.update(catalog) == len(titles)
        np.testing.assert_allclose(np.linalg.norm(vectors.matrix(catalog)[1:], axis=1), 1, atol=1e-4)


def test_half_of_a_real_title_finds_the_whole_one(titles: list[str]) -> None:
    encoder = HashEncoder(width=384)
    whole = encoder.encode(titles)
    halves = encoder.encode([title[: len(title) // 2] for title in titles])
    found = (halves @ whole.T).argmax(axis=1) == np.arange(len(titles))
    assert found.mean() > 0.9
