"""What an entry's lineage says of differential privacy."""

from collections.abc import Mapping

EPSILON, DELTA = "epsilon", "delta"


def epsilon_of(notes: Mapping[str, str]) -> float | None:
    """Return the epsilon that an entry's lineage states, or None if it states none.

    >>> epsilon_of({"epsilon": "2.5", "delta": "1e-05"}), epsilon_of({"round": "a-1"}), epsilon_of({"epsilon": "nan"})
    (2.5, None, None)
    """
    try:
        epsilon, delta = float(notes[EPSILON]), float(notes[DELTA])
    except (KeyError, ValueError):
        return None
    return epsilon if 0 <= epsilon < float("inf") and 0 <= delta < 1 else None
