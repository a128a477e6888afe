"""Rankings say why, in words, where the graph knows; and go out all the same where it does not answer."""

import asyncio
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import structlog

from feature_store.users import UserState
from learners.knowledge.graph import KnowledgeGraph
from learners.ranker import Ranked, RankRequest
from streams.batches import RecordBatch
from streams.events import Ranking
from streams.graph_reasons import MOST_PEOPLE, GraphReasons
from streams.rankings import Rankings
from streams.recommender import Recommender
from streams.threads import DedicatedThread
from tests.learners.graph_data import buy

TITLES = {"mug": "Blue mug", "tea": "Green tea"}


@pytest.fixture
def graph(database_url: str) -> KnowledgeGraph:
    graph = KnowledgeGraph(postgres_url=database_url)
    graph.create()
    buy(graph, ("mug", "tea"), ("mug", "tea"), ("cup", "tea"))
    return graph


def person(*done: tuple[str, str]) -> RankRequest:
    items, kinds = zip(*done, strict=True) if done else ((), ())
    return RankRequest(item_ids=items, times_ms=range(len(items)), event_types=kinds, now_ms=9)


def ranked(*items: str) -> list[Ranked]:
    return [Ranked(item, 0.5, "covisitation") for item in items]


def test_each_person_gets_their_own_strongest_reason(graph: KnowledgeGraph) -> None:
    asked = [person(("mug", "purchase"), ("cup", "view")), person(("cup", "view")), person()]

    said = GraphReasons(graph).of(asked, [ranked("tea", "pot")] * 3, lambda item: TITLES.get(item, ""))

    assert said == [
        {"tea": "because you bought Blue mug, often bought with Green tea"},
        {"tea": "because you looked at cup, often bought with Green tea"},
        {},
    ]


def test_more_people_than_the_bound_are_ranked_without_reasons(graph: KnowledgeGraph) -> None:
    count = MOST_PEOPLE + 1
    said = GraphReasons(graph).of([person(("mug", "view"))] * count, [ranked("tea")] * count, lambda _: "")

    assert len(said) == count
    assert [bool(each) for each in said] == [True] * MOST_PEOPLE + [False]


def test_a_graph_that_does_not_answer_or_does_not_exist_is_said_once_and_gives_no_reasons(database_url: str) -> None:
    with structlog.testing.capture_logs() as logs:
        for url in ("postgresql://nobody@127.0.0.1:1/none", database_url):  # nobody there; no tables there
            reasons = GraphReasons(KnowledgeGraph(postgres_url=url))
            for _ in range(2):
                assert reasons.of([person(("mug", "view"))], [ranked("tea")], lambda _: "") == [{}]
    assert [entry["event"] for entry in logs] == ["graph_reasons_missed"] * 2


def test_a_published_ranking_carries_the_reason(graph: KnowledgeGraph) -> None:
    published: list[Ranking] = []

    class Users:
        def state(self, partition: int, user_id: str) -> UserState | None:
            del partition, user_id
            return None

        async def read(self, user_ids: Sequence[str]) -> dict[str, Any]:
            history = [("mug", 1, "purchase")]
            return {
                user_id: SimpleNamespace(items=["mug"], events=1, last_event_ms=5, history=lambda: history)
                for user_id in user_ids
            }

    class Publisher:
        async def send_keyed(self, topic: str, records: Sequence[tuple[bytes, bytes]]) -> None:
            del topic
            published.extend(msgspec.json.decode(value, type=Ranking) for _, value in records)

        async def send(self, records: Sequence[Any], **_: Any) -> None:
            assert not records

    recommender, thread = Recommender(), DedicatedThread("test")
    for item_id in ("mug", "tea"):
        recommender.catalog.upsert(item_id, title=TITLES[item_id])
    request = msgspec.json.encode({"request_id": "r", "user_id": "ada", "k": 2})
    batch = RecordBatch(
        topic="ranking.requests", partition=0, offsets=[0], keys=[b"ada"], values=[request], timestamps_ms=[7]
    )
    rankings = Rankings(
        recommender=recommender,
        users=Users(),  # type: ignore[arg-type]
        publisher=Publisher(),  # type: ignore[arg-type]
        ranking_thread=thread,
        reasons=GraphReasons(graph),
        reasons_thread=thread,
    )

    asyncio.run(rankings.answer(batch))

    (ranking,) = published
    assert {item.item_id: item.because for item in ranking.items} == {
        "mug": None,
        "tea": "because you bought Blue mug, often bought with Green tea",
    }
