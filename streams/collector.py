"""Python's garbage collector, told what a stream processor's garbage looks like."""

import gc

THRESHOLDS = (100_000, 20, 100)  # objects, then generations: some collections a second at full speed


def calm() -> None:
    """Leave alone what was made so far, and look for cycles in the rest less often.

    Records are dropped by reference counts; only cycles need the collector. By default it wakes every 700 new objects
    and often walks all of the million that Feast, pandas and torch made at import: a third of the ingest's time,
    measured. Call it once, when everything is loaded.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
