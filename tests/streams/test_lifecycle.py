"""Whatever release the learner follows, Kafka has heard of it: also of one that came while it was looking."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from learners.releases.registry import Registry, ReleaseRecord
from learners.releases.release import LoadedRelease
from streams.learning.announcements import Announcer, Record
from streams.learning.keeping import Keeping
from streams.learning.lifecycle import Lifecycle
from streams.learning.position import Position, Tracker
from streams.learning.releasing import Releasing, wire
from streams.learning.round_records import RoundRecords
from streams.learning.rounds import Rounds
from streams.learning.study import Study
from streams.learning.threads import Threads
from tests.learners.test_registry import release


class Crossed(Releasing):
    """Somebody writes a row right after the first look at the table."""

    meanwhile: Callable[[], object] | None = None

    def _crossed(self) -> None:
        if (act := self.meanwhile) is not None:
            self.meanwhile = None
            act()

    def current(self) -> ReleaseRecord | None:
        found = super().current()
        self._crossed()
        return found

    def outbox(self) -> list[ReleaseRecord]:
        found = super().outbox()
        self._crossed()
        return found


class Heard:
    """Stands for Kafka: what it was told, in order."""

    def __init__(self) -> None:
        self.records: list[Record] = []

    async def put(self, _topic: str, records: list[Record]) -> None:
        self.records += records

    async def flush(self) -> None:
        """It has everything."""


class Serving:
    """Stands for the study: which rows it adopted, and what Kafka had heard then."""

    def __init__(self, heard: Heard) -> None:
        self.tracker = Tracker(Position(lineage="here", cluster_id=""))
        self.learner, self.ranker, self.model_version = self, self, 0
        self.adopted: list[int] = []
        self._heard = heard

    def adopt(self, record: ReleaseRecord, release: LoadedRelease) -> None:
        assert release.version == record.version
        assert wire(record) in self._heard.records
        self.adopted.append(record.sequence)

    def abandon_round(self) -> None:
        """There is none."""


@pytest.fixture
def threads() -> Iterator[Threads]:
    threads = Threads()
    yield threads
    threads.stop()


@pytest.fixture
def registry(database_url: str, tmp_path: Path) -> Registry:
    registry = Registry(postgres_url=database_url, root=tmp_path / "models")
    registry.create()
    for _ in range(2):
        release(registry, tmp_path)
    return registry


@pytest.mark.parametrize("look", ["resume", "follow"])
async def test_a_release_that_came_while_it_looked_is_announced_before_it_is_adopted(
    look: str, registry: Registry, threads: Threads, database_url: str, tmp_path: Path
) -> None:
    async def saved() -> None:
        """No checkpoint is looked at here."""

    def by_a_person() -> ReleaseRecord:
        return registry.rollback(to_version=1, reason={"who": "a person"})

    heard, releases = Heard(), Crossed(registry)
    serving = Serving(heard)
    lifecycle = Lifecycle(
        threads=threads,
        rounds=Rounds(tmp_path / "rounds", timeout_s=60, heartbeat_timeout_s=60),
        releases=releases,
        records=RoundRecords(database_url),
        announcer=cast(Announcer, heard),
        keeping=cast(Keeping, None),
        checkpoint=saved,
    )
    await lifecycle.prepare()
    assert heard.records == [wire(record) for record in registry.list()]
    if look == "resume":
        by_a_person()  # after `prepare` has sent all there was
        await lifecycle.resume(cast(Study, serving))
    else:
        await lifecycle.resume(cast(Study, serving))
        releases.meanwhile = by_a_person
        await lifecycle.follow()
        await lifecycle.follow()
    assert serving.adopted[-1] == lifecycle.sequence == 3
    told: list[Any] = [wire(record) for record in registry.list()]
    assert heard.records == told
