"""Who asked to be forgotten: every worker and the learner know all of `users.erasures`."""

import msgspec

from streams.events import Erasure, to_ms

_decode = msgspec.json.Decoder(Erasure).decode


class Erasures:
    """The newest erasure request of each person.

    >>> erasures = Erasures()
    >>> erasures.request("ada", 1_000)
    True
    >>> erasures.covers("ada", 999), erasures.covers("ada", 1_001), erasures.covers("bob", 1)
    (True, False, False)
    """

    def __init__(self) -> None:
        self._requested_at_ms: dict[str, int] = {}

    def __len__(self) -> int:
        return len(self._requested_at_ms)

    def request(self, user_id: str, requested_at_ms: int) -> bool:
        """Note a request; False if one at least as new is known."""
        if requested_at_ms <= self._requested_at_ms.get(user_id, -1):
            return False
        self._requested_at_ms[user_id] = requested_at_ms
        return True

    def covers(self, user_id: str, event_time_ms: int) -> bool:
        """Whether an event of this person counts as erased."""
        return event_time_ms <= self._requested_at_ms.get(user_id, -1)

    def all(self) -> dict[str, int]:
        """Every request: user_id -> requested_at in ms."""
        return dict(self._requested_at_ms)


def decode_erasure(value: bytes) -> tuple[str, int]:
    """The person and the time (ms) up to which their events are to be forgotten.

    Raises:
        msgspec.MsgspecError: If the bytes are not an erasure.
    """
    erasure = _decode(value)
    return erasure.user_id, to_ms(erasure.requested_at)
