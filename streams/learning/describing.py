"""What the catalogue lists becomes vectors: texts on one thread, pictures, if the model is told of them, on another."""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from learners.items.gallery import Wanted
from learners.items.shelf import Describers
from streams.learning.encoding import Encoding
from streams.learning.findings import Findings

_START_PATIENCE_S = 30.0  # for pictures, before a release that serves goes on


class Describing:
    """The rows that describe items, and whoever fills them in the background.

    Args:
        describers: Make vectors of texts, pictures and attributes.
        encoded: Awaited when there are vectors to be taken into the rows.
        patience_s: A round waits for pictures no longer than this: one slow server must not stop learning.
    """

    def __init__(
        self,
        describers: Describers,
        *,
        encoded: Callable[[], Awaitable[None]],
        patience_s: float,
    ) -> None:
        self.rows, self.catalogue = describers.rows(), describers.catalogue
        self._gallery = self.rows.gallery
        self.texts: Encoding[str] = Encoding(describers.texts, encoded=encoded)
        self._pictures: Encoding[Wanted] | None = None
        if self._gallery is not None:
            self._pictures = Encoding(self._gallery, encoded=encoded, name="pictures", at_once=8, piecemeal=True)
        self._patience_s = patience_s

    def begin(self, tasks: asyncio.TaskGroup) -> list[asyncio.Task[None]]:
        """Begin to encode, until cancelled."""
        named = [("encoding", self.texts), ("looking", self._pictures)]
        return [tasks.create_task(each.run(), name=name) for name, each in named if each is not None]

    def add(self, found: Findings) -> None:
        """Queue what was newly listed."""
        self.texts.add(found.texts)
        if self._pictures is not None:
            self._pictures.add(found.pictures)

    def settled(self) -> bool:
        """Whether a round may begin: every text is encoded, and every picture that did not keep it waiting for long."""
        waits = self._pictures is not None and not self._pictures.settled(patience_s=self._patience_s)
        return self.texts.idle.is_set() and not waits

    async def idle(self) -> None:
        """Wait until every text is encoded, and a while for pictures."""
        await self.texts.idle.wait()
        if self._pictures is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(min(_START_PATIENCE_S, self._patience_s)):
                    await self._pictures.idle.wait()

    @property
    def pictures(self) -> Mapping[str, Any]:
        """What became of pictures; nothing where there are none."""
        if self._gallery is None or self._pictures is None:
            return {}
        return {"waiting": self._pictures.waiting, **self._gallery.counts}
