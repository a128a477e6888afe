"""What can go wrong in `streams`; every error of this package is a `StreamsError`."""


class StreamsError(Exception):
    """Base of this package's errors."""


class KafkaUnavailableError(StreamsError, ConnectionError):
    """Kafka does not answer, or not in time; trying again may help."""

    def __init__(self, *, bootstrap_servers: str, doing: str, cause: str, retry_after_s: float = 5.0) -> None:
        super().__init__(
            f"Kafka at {bootstrap_servers} is unavailable while {doing}: {cause}; retry in {retry_after_s:g} s"
        )
        self.retry_after_s = retry_after_s


class KafkaSettingsError(StreamsError, ValueError):
    """A setting of the connection to Kafka cannot work."""

    def __init__(self, *, setting: str, value: object, expected: str) -> None:
        super().__init__(f"kafka.{setting} is {value!r}; expected {expected}")
        self.setting = setting


class UnknownTopicError(StreamsError, LookupError):
    """A topic that must exist does not."""

    def __init__(self, *, topic: str, bootstrap_servers: str) -> None:
        super().__init__(f"topic {topic!r} does not exist at {bootstrap_servers}; run `alluvium topics apply`")
        self.topic = topic


class LogRewoundError(StreamsError, RuntimeError):
    """A partition ends before the offset we have already read to: the topic was made anew, or its log was cut."""

    def __init__(self, *, topic: str, partition: int, wanted: int, found: int) -> None:
        super().__init__(
            f"{topic}/{partition} ends at offset {found}, yet everything below {wanted} was read before: "
            "the topic was deleted and made anew, or lost its tail; it cannot be resumed where it was left"
        )
        self.topic, self.partition, self.wanted, self.found = topic, partition, wanted, found


class EventTooLargeError(StreamsError, ValueError):
    """A record is larger than Kafka will take; none of its batch was sent."""

    def __init__(self, *, topic: str, size_bytes: int, limit_bytes: int) -> None:
        super().__init__(f"a record for {topic} has {size_bytes} bytes; at most {limit_bytes} can be sent")
        self.size_bytes, self.limit_bytes = size_bytes, limit_bytes


class NotDeliveredError(StreamsError, RuntimeError):
    """Kafka refused records for good; whatever the flush was to publish may be missing."""

    def __init__(self, *, topic: str, partition: int, cause: str) -> None:
        super().__init__(f"Kafka refused records for {topic}/{partition}: {cause}")
        self.topic, self.partition = topic, partition


class TopicMismatchError(StreamsError, ValueError):
    """A topic exists, but not as it is declared."""

    def __init__(self, *, problems: list[str]) -> None:
        super().__init__("topics differ from their declaration: " + "; ".join(problems))
        self.problems = problems
