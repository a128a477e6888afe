"""The thread beside the event loop that speaks to Kafka and gathers runs of records (the transport's lower half)."""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from time import monotonic, sleep
from typing import Any

import aiokafka
from aiokafka.coordinator.assignors.range import RangePartitionAssignor
from aiokafka.errors import (
    ConsumerStoppedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)
from faust.transport.drivers.aiokafka import AIOKafkaConsumerThread, server_list
from faust.types import TP

from streams.batches import Run
from streams.errors import LogRewoundError

# How long Kafka may hold a fetch that finds nothing. One fetch per broker is in flight at a time, and a partition that
# was just emptied waits for it; aiokafka's 500 ms and Faust's 1500 ms would be added to the freshness of its events.
FETCH_MAX_WAIT_MS = 100
BLOCKED_POLL_S = 0.05  # at most this long until an acknowledgement is noticed that came around `Consumer.ack`
REASSIGNMENT_POLL_S = 0.02
GROUP_ERRORS = 5  # rebalances that fail in a row before the app gives up
# librdkafka's mock broker refuses a follower whose SyncGroup request comes after the leader's; so the leader waits
LEADER_PAUSE_S = 0.05
# A stop waits this long for a rebalance under way, since leaving the group is only heard after it. Members who are slow
# to join do not hold it up for longer: then Kafka is left to miss the heartbeats.
LEAVE_S = 10.0
MAX_OUTSTANDING = 2  # batches of one partition with an agent: one at work and, if it is full, one ready


@dataclass(frozen=True, kw_only=True)
class Batching:
    """How records of the hot topics are gathered into batches.

    Args:
        hot_topics: Topics whose records travel in batches.
        max_batch_events: Most records in one batch; at least 1.
        linger_s: Least time between two batches of one partition, unless one is full; 0 or more.
        isolation_level: "read_committed" hides what a transaction took back; "read_uncommitted" shows it.
        max_partition_fetch_bytes: Most bytes of one partition in one answer of Kafka.
    """

    hot_topics: frozenset[str]
    max_batch_events: int = 5000
    linger_s: float = 0.1
    isolation_level: str = "read_committed"
    max_partition_fetch_bytes: int = 4 * 1024 * 1024


def _as_it_is(_tp: TP, record: Any) -> Any:
    return record


class CopartitionedAssignor(RangePartitionAssignor):
    """Partition p of every topic goes to the same worker, if the topics have as many partitions."""

    @classmethod
    def assign(cls, cluster: Any, members: Mapping[str, Any]) -> Any:
        if len(members) > 1:
            sleep(LEADER_PAUSE_S)  # this thread has nothing else to do in a rebalance
        return super().assign(cluster, members)


class BatchingConsumerThread(AIOKafkaConsumerThread):
    """Gathers each hot partition's records into runs; other topics pass as Faust's own driver has them."""

    batching: Batching

    def __post_init__(self) -> None:
        super().__post_init__()
        self.batching = self.consumer.batching
        self._runs: dict[TP, Run] = {}
        self._handed_at: dict[TP, float] = {}
        self._waiter: asyncio.Future[None] | None = None
        self._group_errors = 0

    # Consumer

    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        """Faust's consumer, with our isolation level, fetch sizes and waits; co-partitioned topics stay together."""
        conf = self.app.conf
        self._assignor = CopartitionedAssignor
        return aiokafka.AIOKafkaConsumer(
            client_id=conf.broker_client_id,
            group_id=conf.id,
            group_instance_id=conf.consumer_group_instance_id,
            bootstrap_servers=server_list(transport.url, transport.default_port),
            partition_assignment_strategy=[self._assignor],
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_poll_records=conf.broker_max_poll_records,
            max_poll_interval_ms=int((conf.broker_max_poll_interval or 0) * 1000),
            max_partition_fetch_bytes=self.batching.max_partition_fetch_bytes,
            fetch_max_wait_ms=FETCH_MAX_WAIT_MS,
            request_timeout_ms=int(conf.broker_request_timeout * 1000),
            check_crcs=conf.broker_check_crcs,
            session_timeout_ms=int(conf.broker_session_timeout * 1000),
            rebalance_timeout_ms=int(conf.broker_rebalance_timeout * 1000),
            heartbeat_interval_ms=int(conf.broker_heartbeat_interval * 1000),
            isolation_level=self.batching.isolation_level,
            metadata_max_age_ms=conf.consumer_metadata_max_age_ms,
            connections_max_idle_ms=conf.consumer_connections_max_idle_ms,
            **self.consumer.connection.security(),
        )

    def close(self) -> None:
        """Nothing: `on_thread_stop` closes the consumer.

        Faust calls this when a rebalance meets an app that is stopping, and would close the client from the app's event
        loop. That fails half-way: its connections stay open, and the group waits until the session times out.
        """

    async def on_thread_stop(self) -> None:
        """Leave the group and close the connections."""
        if self._consumer is not None:
            await self._let_rebalance_end(self._consumer._coordinator, self._consumer._subscription)  # noqa: SLF001
        await super().on_thread_stop()

    async def _let_rebalance_end(self, coordinator: Any, subscriptions: Any) -> None:
        """Wait for it, unless nothing was subscribed to or no broker is there to end it."""
        deadline = monotonic() + LEAVE_S
        while (
            subscriptions.subscription is not None
            and subscriptions.reassignment_in_progress
            and coordinator.coordinator_id is not None
        ):
            if monotonic() >= deadline:
                self.log.warning("Stopping in mid-rebalance: Kafka frees the partitions when the session times out")
                coordinator._coordination_task.cancel()  # noqa: SLF001 - `stop` would wait for it, however long
                await asyncio.wait([coordinator._coordination_task])  # noqa: SLF001
                coordinator.reset_generation()  # nothing to leave: the request would wait behind the one to join
                return
            await asyncio.sleep(REASSIGNMENT_POLL_S)

    # Positions: whatever moves them starts new runs

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        self._runs.clear()  # Faust revokes everything
        self._handed_at.clear()
        await super().on_partitions_revoked(revoked)

    async def on_partitions_assigned(self, assigned: set[TP], generation_id: int = 0) -> None:
        self._group_errors = 0
        await super().on_partitions_assigned(assigned, generation_id)

    async def seek_to_committed(self) -> Mapping[TP, int]:
        self._runs.clear()
        committed: Mapping[TP, int] = await super().seek_to_committed()
        return committed

    async def _seek_wait(self, consumer: aiokafka.AIOKafkaConsumer, partitions: Mapping[TP, int]) -> None:
        for tp, offset in partitions.items():
            self._runs[tp] = Run(tp.topic, tp.partition, offset)
        await super()._seek_wait(consumer, partitions)

    def seek(self, partition: TP, offset: int) -> None:
        self._runs.pop(partition, None)
        super().seek(partition, offset)

    def ahead(self, tp: TP) -> int:
        """Offsets of a partition that exist but were not handed out; markers at its end, once passed, do not count."""
        assignment = self._ensure_consumer()._subscription.subscription.assignment  # noqa: SLF001 - as Faust's driver
        state = None if assignment is None else assignment.state_value(tp)
        run = self._runs.get(tp)
        if state is None or run is None or not state.has_valid_position:
            return 0
        end = (
            state.lso
            if self.batching.isolation_level == "read_committed" and state.lso is not None
            else state.highwater
        )
        waiting = run.position - run.start if run else 0
        beyond: int = max((end or 0) - state.position, 0)
        return waiting + beyond

    async def check_group(self) -> None:
        """Let the group coordinator go on after an error, or raise it if it is final; unasked, it waits for ever."""
        await self.call_thread(self._check_group)

    async def _check_group(self) -> None:
        try:
            self._ensure_consumer()._coordinator.check_errors()  # noqa: SLF001 - Faust never asks
        except (GroupAuthorizationFailedError, TopicAuthorizationFailedError):
            raise
        except KafkaError as exc:
            self._group_errors += 1
            if self._group_errors >= GROUP_ERRORS:
                raise
            self.log.warning("Joining the group failed, trying again: %r", exc)

    # Fetching

    def wake(self) -> None:
        """An agent acknowledged a batch: the next may go out. From any thread."""
        if self._waiter is not None:
            self.thread_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    async def _fetch_records(
        self,
        consumer: aiokafka.AIOKafkaConsumer,
        active_partitions: set[TP] | None,
        timeout: float | None = None,  # noqa: ASYNC109 - Faust's signature
        max_records: int | None = None,
    ) -> Mapping[TP, list[Any]]:
        if active_partitions is None:
            records: Mapping[TP, list[Any]] = await super()._fetch_records(consumer, None, timeout, max_records)
            return records
        fetcher = consumer._fetcher  # noqa: SLF001 - as in Faust's driver
        if consumer._closed or fetcher._closed:  # noqa: SLF001
            raise ConsumerStoppedError
        with consumer._subscription.fetch_context():  # noqa: SLF001
            return await self._gather(fetcher, set(active_partitions), monotonic() + (timeout or 0.0), max_records)

    async def _gather(
        self, fetcher: Any, active: set[TP], deadline: float, max_records: int | None
    ) -> Mapping[TP, list[Any]]:
        """Wait until some partition has a batch due, or the deadline."""
        hot = [tp for tp in active if tp.topic in self.batching.hot_topics]
        cold = active.difference(hot)
        while self.consumer.flow_active:
            if fetcher._subscriptions.reassignment_in_progress:  # noqa: SLF001
                if monotonic() >= deadline:
                    return {}
                await asyncio.sleep(REASSIGNMENT_POLL_S)
                continue
            ready: dict[TP, list[Any]] = {}
            if cold:
                ready.update(await fetcher.fetched_records(cold, timeout=0, max_records=max_records))
            wake_at = min([deadline, *[await self._collect(fetcher, tp, ready) for tp in hot]])
            if ready or (wait_s := wake_at - monotonic()) <= 0:
                return ready
            self._waiter = waiter = fetcher._create_fetch_waiter()  # noqa: SLF001 - set when records came
            try:
                await asyncio.wait([waiter], timeout=wait_s)
            finally:
                self._waiter = None
            if not waiter.done():
                waiter.cancel()
            elif waiter.exception() is not None:
                return {}  # what the group coordinator met, which `check_group` handles
        return {}

    async def _collect(self, fetcher: Any, tp: TP, ready: dict[TP, list[Any]]) -> float:
        """Move what was fetched of a hot partition into its run, and the run to `ready` if due; when to look again."""
        await self._pull(fetcher, tp)
        run = self._runs.get(tp)
        if not run:
            return float("inf")
        full = len(run) >= self.batching.max_batch_events
        outstanding = self.consumer.outstanding(tp)
        if outstanding >= (MAX_OUTSTANDING if full else 1):
            return monotonic() + BLOCKED_POLL_S
        due = 0.0 if full else self._handed_at.get(tp, 0.0) + self.batching.linger_s
        if (now := monotonic()) < due:
            return due
        ready[tp] = [run]
        self._handed_at[tp] = now
        self._runs[tp] = Run(tp.topic, tp.partition, run.position)
        return now

    async def _pull(self, fetcher: Any, tp: TP) -> None:
        """Take fetched records, at once, up to a full batch: aiokafka asks Kafka for more only when they are taken."""
        run = self._runs.get(tp)
        room = self.batching.max_batch_events - len(run or ())
        if room <= 0 or tp not in fetcher._records:  # noqa: SLF001 - no public way to look without waiting
            return
        state = fetcher._subscriptions.subscription.assignment.state_value(tp)  # noqa: SLF001
        before = state.position if state is not None and state.has_valid_position else None
        unpacked = getattr(fetcher._records[tp], "_partition_records", None)  # noqa: SLF001 - None: an error
        if unpacked is not None:
            unpacked._consumer_record = _as_it_is  # noqa: SLF001 - an object of eleven fields a record
        records: Collection[Any] = (await fetcher.fetched_records([tp], timeout=0, max_records=room)).get(tp, ())
        run = self._runs.get(tp)
        if run is None or before is None:
            return  # nobody has said where to start: between a rebalance and its seek
        if before < run.position:
            raise LogRewoundError(topic=tp.topic, partition=tp.partition, wanted=run.position, found=before)
        run.truncated += before - run.position  # retention was faster: aiokafka went on at the log's new beginning
        run.extend(records, position=state.position)
