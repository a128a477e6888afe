"""Texts of new items become vectors on a thread of their own, so that learning does not wait for a transformer."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from learners.items.encoder import Encoder
from streams.threads import DedicatedThread

_TEXTS_AT_ONCE = 64


class Encoding:
    """Encode queued texts in the background into the encoder's cache, and say when all of them are there.

    Args:
        encoder: One that remembers, such as `CachedEncoder`, or one that costs nothing.
        encoded: Awaited whenever the queue has become empty: takes the vectors from the cache.
    """

    def __init__(self, encoder: Encoder, *, encoded: Callable[[], Awaitable[None]]) -> None:
        self._encoder, self._encoded = encoder, encoded
        self._thread = DedicatedThread("encoder")
        self._texts: list[str] = []
        self._wake, self.idle = asyncio.Event(), asyncio.Event()
        self.idle.set()

    @property
    def waiting(self) -> int:
        """Texts not yet encoded."""
        return len(self._texts)

    def add(self, texts: Sequence[str]) -> None:
        """Queue texts."""
        if texts:
            self._texts.extend(texts)
            self.idle.clear()
            self._wake.set()

    async def run(self) -> None:
        """Encode until cancelled.

        Raises:
            EncoderUnavailableError: If the encoder's weights are nowhere to be found.
        """
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._texts:
                    texts = self._texts[:_TEXTS_AT_ONCE]
                    await self._thread.run(self._encoder.encode, texts)
                    del self._texts[: len(texts)]
                await self._encoded()
                if not self._texts:
                    self.idle.set()
        finally:
            self._thread.stop()
