"""Text vectors made narrow: the directions in which a catalogue's texts differ most."""

import numpy as np

from benchmarks.knowledge_parts.log import Floats


def narrowed(vectors: Floats, width: int) -> Floats:
    """Return each row in the first principal directions of all of them, at length 1; rows of zeros stay zeros.

    Args:
        vectors: [N, T].
        width: Numbers kept of each, at most T.

    >>> narrowed(np.array([[0, 0, 0], [1, 0, 1], [3, 0, 1]], dtype=np.float32), 1).tolist()
    [[0.0], [-1.0], [1.0]]
    """
    said = vectors.any(axis=1)
    centred = vectors[said].astype(np.float64) - vectors[said].mean(axis=0, dtype=np.float64)
    _, directions = np.linalg.eigh(centred.T @ centred)  # ascending
    chosen = directions[:, ::-1][:, :width]
    chosen = chosen * np.where(chosen[np.abs(chosen).argmax(axis=0), np.arange(chosen.shape[1])] < 0, -1, 1)
    places = centred @ chosen
    found = np.zeros((len(vectors), chosen.shape[1]), np.float32)
    found[said] = places / np.maximum(np.linalg.norm(places, axis=1, keepdims=True), 1e-12)
    return found
