"""Texts and pictures of new items become vectors on threads of their own, so that learning does not wait for them."""

import asyncio
from collections.abc import Awaitable, Callable, Hashable, Sequence
from itertools import islice
from typing import Any, Generic, Protocol, TypeVar

from streams.threads import DedicatedThread

Work = TypeVar("Work", bound=Hashable)
Work_contra = TypeVar("Work_contra", contravariant=True)

_TAKEN_IN_EVERY = 16  # times that encoded pictures pile up before they are taken in, though others wait


class Encodes(Protocol[Work_contra]):
    """Whoever makes vectors: a text encoder that remembers them, or a gallery that hands them on."""

    def encode(self, works: Sequence[Work_contra], /) -> Any:
        """Make the vectors."""
        ...


class Encoding(Generic[Work]):
    """Encode in the background what is queued, and say when all of it is there. What is queued already waits once.

    Args:
        encoder: One that remembers, such as `CachedEncoder` or `Gallery`, or one that costs nothing.
        encoded: Awaited whenever the queue has become empty: takes the vectors in.
        name: Of the thread.
        at_once: How much is encoded in one call.
        piecemeal: Await `encoded` now and then while there is more to do, too.
    """

    def __init__(
        self,
        encoder: Encodes[Work],
        *,
        encoded: Callable[[], Awaitable[None]],
        name: str = "encoder",
        at_once: int = 64,
        piecemeal: bool = False,
    ) -> None:
        self._encoder, self._encoded = encoder, encoded
        self._thread = DedicatedThread(name)
        self._at_once, self._piecemeal = at_once, piecemeal
        self._works: dict[Work, None] = {}
        self._wake, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()
        self._busy_since = 0.0

    @property
    def waiting(self) -> int:
        """How much is not yet encoded."""
        return len(self._works)

    def add(self, works: Sequence[Work]) -> None:
        """Queue texts, or whatever the encoder takes."""
        if works:
            self._works.update(dict.fromkeys(works))
            if self.idle.is_set():
                self._busy_since = asyncio.get_running_loop().time()
            self.idle.clear()
            self._wake.set()

    def settled(self, *, patience_s: float) -> bool:
        """Whether nothing waits, or something has waited for so long that it should not be waited for."""
        return self.idle.is_set() or asyncio.get_running_loop().time() - self._busy_since > patience_s

    async def run(self) -> None:
        """Encode until cancelled.

        Raises:
            EncoderUnavailableError: If the encoder's weights are nowhere to be found.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                rounds = 0
                while self._works:
                    works = list(islice(self._works, self._at_once))
                    await self._thread.run(self._encoder.encode, works)
                    for work in works:
                        del self._works[work]
                    rounds += 1
                    if self._piecemeal and self._works and rounds % _TAKEN_IN_EVERY == 0:
                        await self._encoded()
                await self._encoded()
                if not self._works:
                    self.idle.set()
        finally:
            self._thread.stop()
