"""A Faust app with the settings that this project needs; why each is there stands beside it."""

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Iterable
from functools import partial
from typing import Any

import faust
from yarl import URL

from streams.clients import KafkaConnection
from streams.fetching import Batching
from streams.transport import BatchingTransport, StartOffset, committed_offsets

SESSION_TIMEOUT_S = 10
REBALANCE_TIMEOUT_S = 120


class SettledStream(faust.Stream):
    """A stream that acknowledges a message only when the loop's body is done with it, and all that it left behind.

    Faust's own stream acknowledges in a `finally`, also when the body raised: the failed message would be committed.
    """

    _left_behind: asyncio.Task[None] | None = None

    def settle(self, effects: asyncio.Task[None]) -> None:
        """Let the loop go on: the message at hand is acknowledged when `effects` is done; the app ends if it fails."""
        self._left_behind = effects

    def __aiter__(self) -> AsyncIterator[Any]:
        messages = super().__aiter__()
        return self._settle(messages) if self.enable_acks else messages

    async def _settle(self, messages: AsyncIterator[Any]) -> AsyncIterator[Any]:
        self.enable_acks = False
        async for value in messages:
            event = self.current_event
            yield value
            effects, self._left_behind = self._left_behind, None
            if event is None:
                continue
            if effects is None:
                self._acknowledge(event)
            else:
                effects.add_done_callback(partial(self._settled, event))

    def _acknowledge(self, event: Any) -> None:
        if event.ack():
            self._on_message_out(event.message.tp, event.message.offset, event.message)

    def _settled(self, event: Any, effects: asyncio.Task[None]) -> None:
        if effects.cancelled():
            return  # never acknowledged, so done again
        error = effects.exception()
        if error is None:
            self._acknowledge(event)
        elif not self.app.should_stop:
            self._crashing = asyncio.ensure_future(self.app.crash(error))  # as the supervisor does with a failed body


class EndingAgent(faust.Agent):
    """An agent that ends in peace when its app stops; Faust's own counts that as a crash."""

    async def _execute_actor(self, coro: Awaitable[Any], aref: Any) -> None:
        async def until_stopped() -> None:
            try:
                await coro
            except asyncio.CancelledError:
                if not self.app.should_stop:
                    raise

        await super()._execute_actor(until_stopped(), aref)


class UndecodedSchema(faust.Schema):
    """Hands the agent what the transport delivered: a `RecordBatch` for hot topics, bytes for others."""

    def compile(self, app: Any, **_: Any) -> Any:
        create_event = app.create_event

        async def decode(message: Any, *, propagate: bool = False) -> Any:  # noqa: ARG001 - Faust's signature
            return create_event(message.key, message.value, message.headers, message)

        return decode


def make_app(
    app_id: str,
    *,
    connection: KafkaConnection,
    hot_topics: Iterable[str],
    max_batch_events: int = 5000,
    linger_ms: int = 100,
    start_offset: StartOffset = committed_offsets,
    isolation_level: str = "read_committed",
    instance_id: str | None = None,
    session_timeout_s: float = SESSION_TIMEOUT_S,
    rebalance_timeout_s: float = REBALANCE_TIMEOUT_S,
    commit_interval_s: float = 1.0,
) -> faust.App:
    """A Faust app whose hot topics arrive in batches, set up so that nothing is lost silently.

    Args:
        app_id: Consumer group, and client id.
        connection: Where Kafka is.
        hot_topics: Topics whose records travel in batches; consume them through `batch_topic`.
        max_batch_events: Most records in one batch; at least 1.
        linger_ms: Least time between two batches of one partition unless one is full; 0 or more.
        start_offset: Where to read on, given topic and partition; see `streams.transport`.
        isolation_level: "read_committed" or "read_uncommitted".
        instance_id: Static member of the group: a restart within the session timeout moves no partitions.
        session_timeout_s: How long Kafka waits for a worker's heartbeat before its partitions move.
        rebalance_timeout_s: How long a rebalance waits for running batches.
        commit_interval_s: Time between two commits of offsets; the ledger, not these, decides what is done.
    """
    app = faust.App(
        app_id,
        broker=[URL(f"kafka://{server}") for server in connection.servers],
        broker_credentials=connection.faust_credentials(),
        broker_client_id=app_id,
        autodiscover=False,
        datadir=f"{tempfile.gettempdir()}/alluvium-faust",  # of tables, which we have none of; else made where we stand
        key_serializer="raw",  # a payload that Faust fails to decode stops its agent for good; agents decode themselves
        value_serializer="raw",
        Stream=SettledStream,
        Agent=EndingAgent,
        agent_supervisor="mode.CrashingSupervisor",  # an agent restarted in place would skip what it failed on
        broker_commit_interval=commit_interval_s,
        broker_commit_every=1000,
        broker_max_poll_records=500,
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=min(3.0, session_timeout_s / 3),
        broker_request_timeout=max(60.0, 1.5 * session_timeout_s),  # must not be below the session timeout
        broker_rebalance_timeout=rebalance_timeout_s,
        stream_buffer_maxsize=1024,
        stream_wait_empty=True,
        table_standby_replicas=0,
        topic_disable_leader=True,
        topic_allow_declare=False,  # `alluvium topics apply` creates topics; a worker's rights need not include it
        consumer_group_instance_id=instance_id,
        producer_acks=-1,
        processing_guarantee="at_least_once",  # exactly_once loses offsets; the ledger does it
        web_enabled=False,  # Faust's web serves tables and topology to anyone
        worker_redirect_stdouts=False,
    )
    app.transport = BatchingTransport(
        app.conf.broker_consumer,
        app,
        connection=connection,
        batching=Batching(
            hot_topics=frozenset(hot_topics),
            max_batch_events=max_batch_events,
            linger_s=linger_ms / 1000,
            isolation_level=isolation_level,
        ),
        start_offset=start_offset,
    )
    return app


def batch_topic(app: faust.App, name: str) -> Any:
    """The topic to give to `@app.agent`: batches if it is one of the app's hot topics, undecoded records otherwise."""
    return app.topic(name, schema=UndecodedSchema(), internal=False, allow_empty=True)
