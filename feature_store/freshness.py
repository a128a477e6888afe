"""How old events were when their features were written: a histogram with log-spaced buckets, added up in the ledger.

Bucket 0 holds everything below 1 ms; a bucket's upper bound is 5 % above its lower one, so a quantile is exact to 5
%; the last holds everything above a day.
"""

from collections.abc import Sequence

import numpy as np

_BASE = 1.05
_DAY_MS = 86_400_000.0
BUCKETS = int(np.ceil(np.log(_DAY_MS) / np.log(_BASE))) + 2


def histogram(appended_at_ms: Sequence[int], *, now_ms: int) -> list[int]:
    """Count the ages of events.

    Args:
        appended_at_ms: Kafka timestamp of each event.
        now_ms: When their features are written.

    >>> sum(histogram([1000, 2000], now_ms=2100)), len(histogram([], now_ms=0)) == BUCKETS
    (2, True)
    """
    ages_ms = np.maximum(now_ms - np.asarray(appended_at_ms, np.float64), 0.0)
    buckets = np.where(ages_ms < 1.0, 0, np.log(np.maximum(ages_ms, 1.0)) / np.log(_BASE) + 1.0).astype(np.int64)
    counted: list[int] = np.bincount(np.minimum(buckets, BUCKETS - 1), minlength=BUCKETS).tolist()
    return counted


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Give the age in ms that a `share` of events did not exceed, from above by at most 5 %; None without events.

    >>> counts = histogram([0] * 99 + [900], now_ms=1000)
    >>> 1000 <= quantile(counts, 0.5) <= 1050, 100 <= quantile(counts, 0.005) <= 105
    (True, True)
    """
    total = sum(counts)
    if not total:
        return None
    reached = np.searchsorted(np.cumsum(counts), max(share * total, 1e-9))
    return float(_BASE ** int(reached)) if reached else 1.0
