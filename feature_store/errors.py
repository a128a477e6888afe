"""What can go wrong in the feature store, translated once from psycopg and Feast."""


class FeatureStoreError(Exception):
    """Base of every error that this package raises."""


class StoreUnavailableError(FeatureStoreError, ConnectionError):
    """Postgres did not answer; nothing of the transaction was kept, so the same call may be repeated.

    Args:
        reason: What the driver said.
        retry_after_s: Seconds to wait before the call is worth repeating.
    """

    def __init__(self, *, reason: str, retry_after_s: float = 1.0) -> None:
        super().__init__(f"the feature store's Postgres is unavailable ({reason}); try again in {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class StaleLedgerError(FeatureStoreError, RuntimeError):
    """Another process has moved this partition's ledger: this one owns the partition no longer and wrote nothing."""

    def __init__(self, *, topic: str, partition: int, expected: int, found: int | None) -> None:
        super().__init__(
            f"ledger of {topic}[{partition}] is at offset {found}, this process read {expected}: "
            "the partition has another owner; close it and open it again"
        )
        self.topic, self.partition, self.expected, self.found = topic, partition, expected, found


class NotOpenError(FeatureStoreError, LookupError):
    """A partition was used before `open` or after `close`."""

    def __init__(self, *, partition: int) -> None:
        super().__init__(f"partition {partition} is not open: call open(topic, partition) on assignment first")


class NotLoadedError(FeatureStoreError, LookupError):
    """A state was used before `load` had fetched it."""

    def __init__(self, *, key: str, partition: int) -> None:
        super().__init__(
            f"the state of {key!r} is not loaded for partition {partition}: call load(partition, keys) first"
        )


class NotAppliedError(FeatureStoreError, RuntimeError):
    """The feature definitions or our own tables are missing in Postgres."""

    def __init__(self, *, what: str) -> None:
        super().__init__(f"{what} is missing in Postgres: run `alluvium features apply` first")


class FeatureSettingError(FeatureStoreError, ValueError):
    """A setting of this package is out of bounds."""

    def __init__(self, *, setting: str, value: object, expected: str) -> None:
        super().__init__(f"{setting} is {value!r}, expected {expected}")
