"""Text encoders: meaning survives, nothing is encoded twice, and a missing model is named."""

import sqlite3
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from learners.errors import EncoderUnavailableError
from learners.items.catalog import Catalog
from learners.items.encoder import CachedEncoder, Encoder, HashEncoder, TextEncoder, open_encoder
from learners.items.text_vectors import TextVectors


class Counting:
    """The hash encoder, and how many texts it was asked for."""

    def __init__(self) -> None:
        self.inner, self.texts = HashEncoder(width=16), 0
        self.fingerprint, self.width = "counting:1", 16

    def encode(self, texts: Sequence[str]) -> npt.NDArray[np.float32]:
        self.texts += len(texts)
        return self.inner.encode(texts)


@pytest.fixture(scope="module")
def minilm() -> TextEncoder:
    return TextEncoder("minilm")


@pytest.mark.filterwarnings("default::DeprecationWarning")
def test_the_offline_transformer_puts_alike_titles_together(minilm: TextEncoder) -> None:
    vectors = minilm.encode(["red coffee mug", "crimson tea cup", "garden hose 20 m", ""])

    assert vectors.shape == (4, 384) == (4, minilm.width)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(vectors[:3], axis=1), 1, atol=1e-5)
    assert vectors[0] @ vectors[1] > vectors[0] @ vectors[2] + 0.2
    assert not vectors[3].any()


def test_a_text_has_the_same_vector_whatever_it_is_encoded_with(minilm: TextEncoder) -> None:
    alone = minilm.encode(["mug"])[0]
    crowd = minilm.encode(["a much longer title that needs a lot more padding than the others", "mug", ""])[1]
    np.testing.assert_allclose(alone, crowd, atol=1e-5)


def test_hashed_vectors_are_the_same_in_every_process() -> None:
    vector = HashEncoder(width=8).encode(["Blue mug"])[0]
    np.testing.assert_allclose(vector, HashEncoder(width=8).encode(["blue MUG"])[0])
    assert np.flatnonzero(vector).tolist() == [1, 3, 4, 5, 7]  # fixed by blake2b, where hash() would change
    assert round(float(np.linalg.norm(vector)), 6) == 1.0


def test_the_cache_encodes_each_text_once_even_across_restarts(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "vectors.sqlite"
    encoder = Counting()
    first = CachedEncoder(encoder, path).encode(["a", "b", "a", ""])
    second = CachedEncoder(encoder, path).encode(["b", "c", "a", ""])

    assert encoder.texts == 4
    np.testing.assert_array_equal(first[[1, 0, 3]], second[[0, 2, 3]])
    np.testing.assert_array_equal(first, encoder.inner.encode(["a", "b", "a", ""]))
    assert CachedEncoder(encoder, path).encode([]).shape == (0, 16)


def test_the_cache_does_not_confuse_two_encoders(tmp_path: Path) -> None:
    path = tmp_path / "vectors.sqlite"
    narrow, wide = HashEncoder(width=4), HashEncoder(width=8)
    assert CachedEncoder(narrow, path).encode(["a"]).shape == (1, 4)
    assert CachedEncoder(wide, path).encode(["a"]).shape == (1, 8)


def test_the_cache_holds_text_that_is_not_valid_unicode(tmp_path: Path) -> None:
    encoder = CachedEncoder(Counting(), tmp_path / "vectors.sqlite")
    np.testing.assert_array_equal(encoder.encode(["\ud800"]), encoder.encode(["\ufffd"]))
    assert encoder.encode(["fine"]).shape == (1, 16)
    with sqlite3.connect(tmp_path / "vectors.sqlite") as connection:
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (3,)
    connection.close()


def test_a_missing_model_is_named_with_what_was_expected() -> None:
    with pytest.raises(EncoderUnavailableError, match=r'text_encoder is .*no-such-folder.*expected "minilm", "hash"'):
        TextEncoder("./no-such-folder").encode(["x"])


def test_a_setting_names_the_encoder(tmp_path: Path) -> None:
    assert isinstance(open_encoder("hash", cache=tmp_path / "x"), HashEncoder)
    assert isinstance(open_encoder("minilm", cache=tmp_path / "x"), CachedEncoder)
    assert isinstance(open_encoder("minilm"), TextEncoder)


def test_text_vectors_follow_the_catalogue() -> None:
    catalog, encoder = Catalog(), Counting()
    vectors = TextVectors(encoder)
    for number in range(100):
        catalog.upsert(f"i{number}", title=f"title {number}")
    assert vectors.update(catalog, limit=30) == 30
    assert np.flatnonzero(vectors.matrix(catalog).any(axis=1)).tolist() == list(range(1, 31))
    assert vectors.update(catalog) == 70
    before = vectors.matrix(catalog).copy()

    catalog.upsert("i0", title="changed")
    catalog.admit("textless")

    assert vectors.update(catalog) == 1
    after = vectors.matrix(catalog)
    assert after.shape == (102, 16)
    assert not np.array_equal(after[1], before[1])
    np.testing.assert_array_equal(after[2:101], before[2:])
    assert not after[101].any()
    assert encoder.texts == 101


def test_every_encoder_keeps_the_protocol() -> None:
    encoders: list[Encoder] = [HashEncoder(), Counting(), TextEncoder()]
    assert all(encoder.fingerprint for encoder in encoders)
