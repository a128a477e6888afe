"""A made-up shop, small enough for a test: items in groups, sessions that walk through one of them."""

import numpy as np

from benchmarks.sessions.data import Periods, group

PERIODS, SESSIONS, GROUPS, GROUP_ITEMS = 4, 150, 8, 6


def toy_periods(*, seed: int = 0) -> Periods:
    """Return periods in which each session walks up through the items of its group; every period adds a group."""
    rng = np.random.default_rng(seed)
    periods, sessions, items = [], [], []
    for period in range(PERIODS):
        for session in range(SESSIONS):
            own_group = rng.integers(GROUPS + period)
            length = rng.integers(2, GROUP_ITEMS)
            walk = (rng.integers(GROUP_ITEMS) + np.arange(length)) % GROUP_ITEMS
            periods += [period] * length
            sessions += [period * SESSIONS + session] * length
            items += (own_group * GROUP_ITEMS + walk).tolist()
    return group(np.array(periods), np.array(sessions), np.array(items))
