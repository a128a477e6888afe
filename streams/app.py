"""START HERE: every topic and every agent, in the order the data flows (DESIGN section 2).

A worker is a Faust app; each agent below reads as the steps that a record goes through, and each step is one hop away.
The learner (`streams/learner_process.py`) is the other process: it reads `interactions.validated` whole, from its own
checkpoint's offsets rather than as a member of a group, scores before it learns, and answers on `quality.metrics`,
`drift.metrics`, `experts.updates` and `models.releases`.
"""

import asyncio
from functools import partial
from typing import Any

import faust

from streams.faust_app import batch_topic, make_app
from streams.topics import CLICKSTREAM_EVENTS, INTERACTIONS_BY_ITEM, RANKING_REQUESTS
from streams.validation import validate
from streams.worker import Worker

GROUP = "alluvium-worker"


def worker_app(  # noqa: C901 - one screen that tells the story; the branches are the agents
    worker: Worker, **settings: Any
) -> faust.App:
    """The worker's agents around its parts.

    Args:
        worker: Feature stores, publisher, ranker and what every worker knows.
        settings: Passed on to `make_app`: `max_batch_events`, `linger_ms`, ...
    """
    app = make_app(
        GROUP,
        connection=worker.connection,
        hot_topics=[CLICKSTREAM_EVENTS, INTERACTIONS_BY_ITEM, RANKING_REQUESTS],
        start_offset=worker.start_offset,
        **settings,
    )

    @app.agent(batch_topic(app, CLICKSTREAM_EVENTS), concurrency=1)
    async def ingest(batches: Any) -> None:
        """clickstream.events -> interactions.validated, interactions.by_item, clickstream.events.dlq, user features."""
        async for batch in batches:
            await worker.shared.complete()  # who is erased and what is sold must be known before the first event
            interactions, rejected = validate(batch, allowed_skew_ms=worker.allowed_skew_ms)
            async with worker.users.turn() as users:
                outcome = await users.sort_out(batch, interactions, rejected)  # erased, duplicate, late or applied
                flush = await users.prepare(outcome)  # the touched rows, encoded as they are now
                # 1. Kafka acknowledges interactions and dead letters. 2. One Postgres transaction: every touched row
                # and the ledger. 3. The offset is committed. The next batch is prepared meanwhile.
                batches.settle(await users.take_effect(flush, sending=partial(worker.outbox.send, outcome)))

    @app.agent(batch_topic(app, INTERACTIONS_BY_ITEM), concurrency=1)
    async def item_features(batches: Any) -> None:
        """interactions.by_item -> item features, with a ledger of the same kind."""
        async for batch in batches:
            await worker.items.apply(batch)

    @app.task
    async def rank_active_users() -> None:
        """Whoever was just active -> recommendations.rankings."""
        while not app.should_stop:
            activities = await worker.active_users.take(worker.max_users)
            await worker.rankings.refresh(activities)
            await asyncio.sleep(worker.linger_s)  # who acts again meanwhile is ranked once

    @app.agent(batch_topic(app, RANKING_REQUESTS), concurrency=1)
    async def answer_requests(batches: Any) -> None:
        """ranking.requests -> recommendations.rankings."""
        async for batch in batches:
            await worker.shared.complete()
            await worker.rankings.answer(batch)

    @app.task
    async def follow_shared() -> None:
        """catalog.items, users.erasures, models.releases, experts.updates: read by every worker, whole."""
        async for batch in worker.shared:
            await worker.follow(batch)

    @app.task
    async def swap_releases() -> None:
        """The newest of models.releases -> loaded, verified, served by one reference between two rankings."""
        await worker.swap_releases()

    return app
