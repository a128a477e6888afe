"""The shop's traffic reaches Kafka, whole, keyed by user and in order."""

import asyncio
import itertools

import msgspec
import pytest

from infra.demo.catalogue import write_catalogue
from infra.demo.config import DEMO_SETTINGS, DemoConfig, demo_settings
from infra.demo.drifts import plan_drifts
from infra.demo.shop import Shop
from infra.demo.visitors import Visitors
from infra.demo.website import Website, count_targets
from infra.errors import SettingsError
from streams.clients import KafkaConnection
from streams.events import CatalogItem, ClickstreamEvent
from streams.partitioning import partition_of
from streams.publisher import Publisher
from streams.reader import WholeReader
from streams.replayer import Sent
from streams.topics import CATALOG_ITEMS, CLICKSTREAM_EVENTS
from tests.brokers import EmbeddedBroker

START_MS = 1_700_000_000_000
SPAN_MS = 10 * 86_400_000
PARTITIONS = 4


async def no_limit(_sent: Sent, _events: int) -> None:
    """Never holds anything back."""


def make_website(publisher: Publisher, *, duration_s: float, deadline_s: float = 60.0) -> Website:
    drifts = plan_drifts(start_ms=START_MS, span_ms=SPAN_MS)
    catalogue = write_catalogue(seed=0, nouns_per_department=2)
    visitors = Visitors(count=30, catalogue=catalogue, drifts=drifts, seed=0, control_share=0.5)
    shop = Shop(catalogue=catalogue, visitors=visitors, start_ms=START_MS, visits_per_ms=200 / SPAN_MS, seed=0)
    return Website(
        shop=shop,
        publisher=publisher,
        drifts=drifts,
        start_ms=START_MS,
        span_ms=SPAN_MS,
        duration_s=duration_s,
        deadline_s=deadline_s,
        room=no_limit,
    )


async def perform(broker: EmbeddedBroker) -> tuple[Website, list[tuple[str, int, bytes | None, bytes | None]]]:
    connection = KafkaConnection(bootstrap_servers=broker.bootstrap_servers)
    async with Publisher(connection=connection) as publisher:
        website = make_website(publisher, duration_s=5.0)
        await website.open()
        await website.run()
    found = []
    async with WholeReader(connection=connection, topics=[CLICKSTREAM_EVENTS, CATALOG_ITEMS]) as reader:
        async for batch in reader:
            found += [(batch.topic, batch.partition, *pair) for pair in zip(batch.keys, batch.values, strict=True)]
            if len(found) >= website.sent.events + 104:
                break
    return website, found


def test_everything_sent_is_in_kafka_keyed_by_user_and_in_order(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topics({CLICKSTREAM_EVENTS: PARTITIONS, CATALOG_ITEMS: PARTITIONS})
    website, found = asyncio.run(perform(embedded_kafka))
    assert website.share == 1.0
    assert 4.5 < website.wall_s < 15
    items = [
        msgspec.json.decode(value or b"", type=CatalogItem) for topic, _, _, value in found if topic == CATALOG_ITEMS
    ]
    assert len({item.item_id for item in items}) == 104
    events = [
        (partition, key, msgspec.json.decode(value or b"", type=ClickstreamEvent))
        for topic, partition, key, value in found
        if topic == CLICKSTREAM_EVENTS
    ]
    assert len(events) == website.sent.events == sum(website.sent.by_partition.values())
    newest: dict[str, float] = {}
    for partition, key, event in events:
        assert key == event.user_id.encode()
        assert partition == partition_of(key, PARTITIONS)
        assert event.event_time.timestamp() >= newest.get(event.user_id, 0.0)
        newest[event.user_id] = event.event_time.timestamp()
    for drift in plan_drifts(start_ms=START_MS, span_ms=SPAN_MS):
        before = [event for _, _, event in events if event.event_time.timestamp() * 1000 < drift.start_ms]
        assert website.started[drift.kind][0] == count_targets(before)
    moments = [website.started[drift.kind][1] for drift in plan_drifts(start_ms=START_MS, span_ms=SPAN_MS)]
    assert all(earlier < later for earlier, later in itertools.pairwise(moments))


def test_a_demo_that_is_held_back_ends_at_its_deadline(embedded_kafka: EmbeddedBroker) -> None:
    embedded_kafka.create_topics({CLICKSTREAM_EVENTS: PARTITIONS, CATALOG_ITEMS: PARTITIONS})

    async def held() -> Website:
        async def slow(_sent: Sent, _events: int) -> None:
            await asyncio.sleep(0.4)

        connection = KafkaConnection(bootstrap_servers=embedded_kafka.bootstrap_servers)
        async with Publisher(connection=connection) as publisher:
            website = make_website(publisher, duration_s=30.0, deadline_s=2.0)
            website._room = slow
            await website.open()
            await website.run()
        return website

    website = asyncio.run(held())
    assert 2.0 < website.wall_s < 30.0  # and not the four minutes that it would be held back for
    assert 0.0 < website.share < 0.5
    assert website.started == {}


def test_the_environment_wins_over_the_demos_own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    assert demo_settings().learning.round_interactions == DEMO_SETTINGS["ALLUVIUM_LEARNING__ROUND_INTERACTIONS"]
    monkeypatch.setenv("ALLUVIUM_LEARNING__ROUND_INTERACTIONS", "777")
    assert demo_settings().learning.round_interactions == 777
    given = demo_settings(learning={"round_interactions": 888}, seed=5)
    assert given.learning.round_interactions == 888
    assert given.learning.replay_capacity == DEMO_SETTINGS["ALLUVIUM_LEARNING__REPLAY_CAPACITY"]
    assert given.seed == 5


def test_a_mistyped_setting_is_refused_before_anything_starts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALLUVIUM_LEARNING__ROUND_INTERACTION", "777")
    with pytest.raises(SettingsError, match="did you mean ALLUVIUM_LEARNING__ROUND_INTERACTIONS"):
        demo_settings()


@pytest.mark.parametrize(("name", "value"), [("duration_s", 4.0), ("visitors", 3)])
def test_a_demo_of_impossible_size_is_refused(name: str, value: float) -> None:
    with pytest.raises(ValueError, match=f"{name} is {value}; expected at least"):
        DemoConfig(**{name: value})  # type: ignore[arg-type]
