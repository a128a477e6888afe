"""Pictures to vectors: a vision transformer (hub or folder), a small network trained here, or plain statistics."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from learners.errors import EncoderUnavailableError
from learners.items.picture import PictureSource, RejectedPicture
from learners.items.picture_net.encoder import TRAINED, TrainedEncoder, is_trained_here
from learners.items.statistics import WIDTH, statistics_of
from learners.vector_cache import VectorCache

Floats = npt.NDArray[np.float32]

STATISTICS = "statistics"
_BATCH_PICTURES = 16


class ImageEncoder(Protocol):
    """Turns pictures into vectors."""

    @property
    def fingerprint(self) -> str:
        """What makes two encoders interchangeable: equal fingerprints give equal vectors."""
        ...

    @property
    def width(self) -> int:
        """V, numbers in a vector."""
        ...

    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return one vector per RGB picture, float32 [n, V]."""
        ...


class StatisticsEncoder:
    """Colours and texture of a picture, counted by hand-made rules: no weights, 20 ms a picture.

    >>> red, blue = (Image.new("RGB", (8, 8), colour) for colour in ("red", "blue"))
    >>> StatisticsEncoder().encode([red, blue, red]).shape
    (3, 975)
    """

    fingerprint = f"{STATISTICS}:1"
    width = WIDTH

    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return one vector per RGB picture, float32 [n, V]."""
        return statistics_of(pictures)


class TransformerImageEncoder:
    """The pooled, normalised output of a vision model; loaded when first needed.

    Args:
        name: A folder, or a name on the Hugging Face hub, that `AutoModel` and `AutoImageProcessor` know: ViT, DINOv2,
            ConvNeXt, the vision half of CLIP or SigLIP, ...

    Raises:
        EncoderUnavailableError: On first use, if the weights are nowhere to be found.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self._loaded: tuple[Any, Any] | None = None

    @property
    def fingerprint(self) -> str:
        """The name, and what tells two folders of that name apart."""
        weights = Path(self.name) / "model.safetensors"
        if weights.exists():
            stat = weights.stat()
            return f"{self.name}:{stat.st_size}:{stat.st_mtime_ns}"
        return self.name

    @property
    def width(self) -> int:
        """V; looks at one grey picture, because vision models name it differently."""
        return int(self.encode([Image.new("RGB", (32, 32), (128, 128, 128))]).shape[1])

    def encode(self, pictures: Sequence[Image.Image]) -> Floats:
        """Return one unit vector per RGB picture, float32 [n, V]."""
        import torch  # noqa: PLC0415 - many processes never need it

        processor, model = self._load()
        parts: list[Floats] = []
        with torch.inference_mode():
            for start in range(0, len(pictures), _BATCH_PICTURES):
                pixels = processor(images=list(pictures[start : start + _BATCH_PICTURES]), return_tensors="pt")
                pooled = _pooled(model(**pixels))
                parts.append(torch.nn.functional.normalize(pooled.float(), dim=-1).numpy())
        return np.concatenate(parts) if parts else np.zeros((0, self.width), np.float32)

    def _load(self) -> tuple[Any, Any]:
        if self._loaded is None:
            from transformers import AutoModel  # noqa: PLC0415 - takes seconds

            # The package's own name for it asks for torchvision; its Pillow backend needs none.
            from transformers.models.auto.image_processing_auto import AutoImageProcessor  # noqa: PLC0415
            from transformers.utils import logging  # noqa: PLC0415 - as above

            logging.disable_progress_bar()
            try:
                processor = AutoImageProcessor.from_pretrained(self.name, backend="pil")
                model = AutoModel.from_pretrained(self.name).eval()
            except (OSError, ValueError, ImportError) as error:
                raise EncoderUnavailableError(name=self.name, cause=str(error), setting="image_encoder") from error
            self._loaded = processor, getattr(model, "vision_model", model)  # CLIP, SigLIP: no text is asked for
        return self._loaded


class PictureVectors:
    """Vectors of pictures by where they lie, each computed once and remembered on disk by the SHA-256 of its bytes.

    Args:
        encoder: Who computes what is not remembered.
        source: Where pictures may come from.
        cache: SQLite file; None computes anew in each process.
    """

    def __init__(self, encoder: ImageEncoder, *, source: PictureSource, cache: Path | None = None) -> None:
        self.encoder, self._source = encoder, source
        self._fingerprint = encoder.fingerprint
        self._cache = None if cache is None else VectorCache(cache)
        self.rejected: Counter[str] = Counter()  # by reason, since the start

    @property
    def width(self) -> int:
        """V."""
        return self.encoder.width

    def encode(self, sources: Sequence[str]) -> Floats:
        """Return one vector per picture, float32 [n, V]; zeros, and a count, where one is missing or broken."""
        vectors = np.zeros((len(sources), self.width), dtype=np.float32)
        for row, source in enumerate(sources):
            if not source:
                continue
            found = self._read(source)
            if isinstance(found, RejectedPicture):
                self.rejected[found.reason] += 1
            else:
                vectors[row] = found
        return vectors

    def look(self, source: str, *, anew: bool = False) -> Floats | RejectedPicture:
        """Return the vector [V] of one picture, or why there is none.

        A place that was seen before is not read again: a local file while its size and time are the same, an address on
        the network unless this is asked for.

        Args:
            source: Where it is.
            anew: Fetch from the network what was fetched before.
        """
        stamp = self._source.stamp(source)
        if self._cache is None or not (stamp or self._source.network):
            return self._read(source)
        place = self._key(f"{stamp}\x00{source}".encode("utf-8", "surrogatepass"), b"place")
        if (stamp or not anew) and (known := self._cache.lookup([place])):
            return known[place]
        found = self._read(source)
        if not isinstance(found, RejectedPicture):
            self._cache.store({place: found}, anew=True)
        return found

    def _read(self, source: str) -> Floats | RejectedPicture:
        content = self._source.read(source)
        if isinstance(content, RejectedPicture):
            return content
        key = self._key(content)
        if self._cache is not None and (known := self._cache.lookup([key])):
            return known[key]
        picture = self._source.decode(source, content)
        if isinstance(picture, RejectedPicture):
            return picture
        try:
            vector: Floats = self.encoder.encode([picture])[0]
        except (ValueError, RuntimeError, IndexError, ZeroDivisionError):  # one pixel wide, of no colour, ...
            return RejectedPicture(source, "unreadable")
        if not np.isfinite(vector).all():
            return RejectedPicture(source, "unreadable")
        if self._cache is not None:
            self._cache.store({key: vector})
        return vector

    def _key(self, content: bytes, kind: bytes = b"") -> bytes:
        named = f"{self._fingerprint}\x00".encode() + kind
        return hashlib.sha256(named + hashlib.sha256(content).digest()).digest()


def open_image_encoder(name: str) -> ImageEncoder:
    """Return the encoder that a setting names.

    Args:
        name: `statistics`, `trained` (with the network that comes with Alluvium), a folder (a transformer's, or of
            `alluvium pictures train`), or a name on the hub.

    Raises:
        EncoderUnavailableError: If a network of ours is not whole; a transformer says so on first use.

    >>> open_image_encoder("statistics").width, open_image_encoder("trained").width
    (975, 1167)
    """
    if name == STATISTICS:
        return StatisticsEncoder()
    if name == TRAINED:
        return TrainedEncoder()
    return TrainedEncoder(Path(name)) if is_trained_here(Path(name)) else TransformerImageEncoder(name)


def _pooled(output: Any) -> Any:
    """Return the pooled output [B, V] of a vision model, or the mean over places if it has none."""
    pooled = getattr(output, "pooler_output", None)
    if pooled is None:
        hidden = output.last_hidden_state
        return hidden.mean(dim=1) if hidden.ndim == 3 else hidden.mean(dim=(2, 3))
    return pooled.flatten(1)
