"""Rankings out: for people who were just active, and for whoever asks."""

import time
from collections.abc import Mapping, Sequence

import msgspec

from feature_store.users import UserState
from learners.ranker import Ranked, RankRequest
from streams import worker_metrics
from streams.active_users import Activity
from streams.batches import RecordBatch
from streams.dead_letters import letters, shortened
from streams.events import RankedItem, Ranking, RankingRequest
from streams.graph_reasons import GraphReasons
from streams.publisher import Publisher
from streams.recommender import Recommender
from streams.threads import DedicatedThread
from streams.topics import RECOMMENDATIONS_RANKINGS
from streams.user_features import UserIngest
from streams.validation import RejectedEvent, check_key, rejection

_decode_request = msgspec.json.Decoder(RankingRequest).decode
_encode = msgspec.json.Encoder().encode


class Rankings:
    """Ranks and publishes.

    Args:
        recommender: What ranks; used on `ranking_thread` only.
        users: States of people: in memory those of this worker's partitions, from Feast the others.
        publisher: Started.
        ranking_thread: Where ranking runs.
        top_k: Length of a ranking unless a request says otherwise.
        reasons: Looks for reasons in words; None: there are none.
        reasons_thread: Where it does.
    """

    def __init__(
        self,
        *,
        recommender: Recommender,
        users: UserIngest,
        publisher: Publisher,
        ranking_thread: DedicatedThread,
        top_k: int = 20,
        reasons: GraphReasons | None = None,
        reasons_thread: DedicatedThread | None = None,
    ) -> None:
        self._recommender, self._users, self._publisher = recommender, users, publisher
        self._ranking_thread = ranking_thread
        self._top_k = top_k
        self._reasons, self._reasons_thread = reasons, reasons_thread
        self.published = 0

    async def refresh(self, activities: Sequence[Activity]) -> None:
        """Rank people who were just active and publish; return when Kafka has acknowledged."""
        states = {a.user_id: self._users.state(a.partition, a.user_id) for a in activities}
        asked = [a for a in activities if states[a.user_id] is not None]  # gone: revoked, dropped or erased
        requests = [_request(states[a.user_id]) for a in asked]
        version, rankings = await self._ranking_thread.run(self._recommender.rank, requests, self._top_k)
        because = await self._because(requests, rankings)
        now_ms = time.time_ns() // 1_000_000
        records = [
            Ranking(
                ranking_id=f"{activity.cause}-v{version}",
                user_id=activity.user_id,
                model_version=version,
                items=_items(ranked, said),
                ranked_at_ms=now_ms,
                event_watermark_ms=activity.event_time_ms,
                appended_watermark_ms=activity.oldest_appended_at_ms,
            )
            for activity, ranked, said in zip(asked, rankings, because, strict=True)
        ]
        await self._publish(records, cause="active")
        acknowledged_at_ms = time.time_ns() // 1_000_000
        for activity in asked:
            if activity.oldest_appended_at_ms is not None:
                age_s = (acknowledged_at_ms - activity.oldest_appended_at_ms) / 1000
                worker_metrics.FRESHNESS_SECONDS.labels("ranking").observe(age_s)

    async def answer(self, batch: RecordBatch) -> None:
        """Answer a run of `ranking.requests`; what cannot be answered goes to its dead letters."""
        requests, rejected = read_requests(batch)
        states = await self._states(batch.partition, [request.user_id for request in requests])
        asked = [
            _request(
                states.get(request.user_id),
                now_ms=batch.timestamps_ms[-1],
                exclude=request.exclude,
                surface=request.surface,
            )
            for request in requests
        ]
        longest = max([request.k or self._top_k for request in requests], default=1)
        version, rankings = await self._ranking_thread.run(self._recommender.rank, asked, longest)
        because = await self._because(asked, rankings)
        now_ms = time.time_ns() // 1_000_000
        records = [
            Ranking(
                ranking_id=f"{request.request_id}-v{version}",
                user_id=request.user_id,
                request_id=request.request_id,
                model_version=version,
                items=_items(ranked[: request.k or self._top_k], said),
                ranked_at_ms=now_ms,
                event_watermark_ms=_watermark(states.get(request.user_id)),
            )
            for request, ranked, said in zip(requests, rankings, because, strict=True)
        ]
        await self._publish(records, cause="request")
        await self._publisher.send(letters(rejected), shorten=shortened)

    async def _because(
        self, asked: Sequence[RankRequest], rankings: Sequence[Sequence[Ranked]]
    ) -> Sequence[Mapping[str, str]]:
        """Of each ranking item_id -> why, in words."""
        if self._reasons is None or self._reasons_thread is None or not rankings:
            return [{} for _ in rankings]
        return await self._reasons_thread.run(self._reasons.of, asked, rankings, self._recommender.title_of)

    async def _states(self, partition: int, user_ids: Sequence[str]) -> dict[str, UserState]:
        cached = {u: state for u in user_ids if (state := self._users.state(partition, u)) is not None}
        others = [user_id for user_id in user_ids if user_id not in cached]
        if others:
            cached |= await self._users.read(others)
        return cached

    async def _publish(self, rankings: Sequence[Ranking], *, cause: str) -> None:
        await self._publisher.send_keyed(
            RECOMMENDATIONS_RANKINGS, [(ranking.user_id.encode(), _encode(ranking)) for ranking in rankings]
        )
        self.published += len(rankings)
        worker_metrics.RANKINGS.labels(cause).inc(len(rankings))


def read_requests(batch: RecordBatch) -> tuple[list[RankingRequest], list[RejectedEvent]]:
    """Sort a run of `ranking.requests` into requests and rejected records."""
    requests: list[RankingRequest] = []
    rejected: list[RejectedEvent] = []
    for place, value in enumerate(batch.values):
        try:
            request = _decode_request(value or b"")
            check_key(batch.keys[place], request.user_id)
            requests.append(request)
        except Exception as exc:  # noqa: BLE001 - as in `validate`: one bad record must not stop the rest
            rejected.append(rejection(batch, place, exc))
    return requests, rejected


def _request(
    state: UserState | None, *, now_ms: int = 0, exclude: Sequence[str] = (), surface: str | None = None
) -> RankRequest:
    """The ranker's view of a person: their history, and now by their own events' clock, `now_ms` for a stranger."""
    if state is None or not state.items:
        clock_ms = now_ms if state is None or not state.events else state.last_event_ms
        return RankRequest(now_ms=clock_ms, exclude=exclude, surface=surface)
    item_ids, times_ms, event_types = zip(*state.history(), strict=True)
    return RankRequest(
        item_ids=item_ids,
        times_ms=times_ms,
        event_types=event_types,
        now_ms=state.last_event_ms,
        exclude=exclude,
        surface=surface,
    )


def _watermark(state: UserState | None) -> int | None:
    return state.last_event_ms if state is not None and state.events else None


def _items(ranked: Sequence[Ranked], because: Mapping[str, str]) -> tuple[RankedItem, ...]:
    return tuple(
        RankedItem(item_id=r.item_id, score=r.score, reason=r.reason, because=because.get(r.item_id)) for r in ranked
    )
