"""Which batches of a partition are out with agents, and up to where its offsets may be committed."""

from collections import deque
from typing import Protocol

from streams.batches import RecordBatch


class Handout(Protocol):
    """A Faust message that carries a batch; `acked` turns true when every agent is done with it."""

    @property
    def acked(self) -> bool: ...
    @property
    def value(self) -> RecordBatch: ...


class Handouts:
    """The batches of one partition that agents hold, oldest first.

    An offset may be committed only when its batch and all batches before it are acknowledged, in whatever order the
    acknowledgements come; batches that end past gaps in the log commit past the gaps.

    Args:
        expected: Position in the log at which the next batch must start.

    >>> from types import SimpleNamespace
    >>> def out(first, last):
    ...     columns = {"keys": [], "values": [], "timestamps_ms": []}
    ...     batch = RecordBatch(topic="t", partition=0, offsets=[first, last], **columns)
    ...     return SimpleNamespace(acked=False, value=batch)
    >>> handouts, one, two = Handouts(expected=0), out(0, 9), out(12, 19)
    >>> handouts.add(one), handouts.add(two)
    (None, None)
    >>> two.acked = True
    >>> handouts.committable(), handouts.outstanding()
    (None, 2)
    >>> one.acked = True
    >>> handouts.committable(), handouts.outstanding()
    (20, 0)
    >>> handouts.committable() is None  # an offset is given out once
    True
    """

    __slots__ = ("_committable", "_out", "done", "expected")

    def __init__(self, *, expected: int) -> None:
        self.expected = expected
        self.done = expected  # everything below has taken effect
        self._out: deque[Handout] = deque()
        self._committable: int | None = None

    def add(self, message: Handout) -> None:
        """An agent is about to receive this batch."""
        self._out.append(message)
        self.expected = message.value.next_offset

    def outstanding(self) -> int:
        """Batches handed out, up to the newest, that are not yet acknowledged without gaps."""
        out = self._out
        while out and out[0].acked:
            self._committable = self.done = out.popleft().value.next_offset
        return len(out)

    def committable(self) -> int | None:
        """The offset to commit, or None if nothing was acknowledged since the last call."""
        self.outstanding()
        offset, self._committable = self._committable, None
        return offset
