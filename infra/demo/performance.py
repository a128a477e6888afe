"""One run of the simulated shop against a running system: the traffic, a reader of the outputs, the view."""

import asyncio
import time
from contextlib import suppress
from typing import Any

from feature_store.report import ledger_report
from infra.demo.catalogue import write_catalogue
from infra.demo.config import DemoConfig
from infra.demo.drifts import Catch, PlantedDrift, match_drifts, plan_drifts
from infra.demo.observations import Observations
from infra.demo.report import DAY_MS, WINDOW_SHARE, DemoRun, build_report
from infra.demo.shop import Exposure, Shop
from infra.demo.view import DriftMark, Snapshot, View
from infra.demo.visitors import Visitors
from infra.demo.website import Website
from infra.deployment import Deployment
from infra.replay.backpressure import BackPressure, Consumed
from infra.replay.report import versions
from infra.replay.watch import Watch
from streams.publisher import Publisher
from streams.reader import WholeReader
from streams.stopping import ended
from streams.topics import CLICKSTREAM_EVENTS

DAYS = 28  # simulated length of the traffic, whatever its wall time
MARGIN_MS = 2 * 3_600_000  # the simulated end lies this long before now, so that no event is ever in the future
DRAIN_S = 60.0
GRACE_S = 20.0  # on top of twice the planned time, before traffic that is held back is given up
REFRESH_S = 0.5


class Performance:
    """One run of the shop against a running system.

    Args:
        config: Its size.
        deployment: Its processes are running.
        view: Shown what happens.
    """

    def __init__(self, config: DemoConfig, deployment: Deployment, view: View) -> None:
        self._config, self._deployment, self._view = config, deployment, view
        self._span_ms = DAYS * DAY_MS
        self._start_ms = int(time.time() * 1000) - self._span_ms - MARGIN_MS
        self._drifts = plan_drifts(start_ms=self._start_ms, span_ms=self._span_ms)
        self._shop = self._build_shop()
        self._seen = Observations(
            wall_s=lambda: self._website.wall_s if self._website else 0.0,
            simulated_ms=lambda: self._shop.now_ms,
            on_ranking=self._shop.receive,
        )
        self._watch = Watch(
            postgres_url=deployment.postgres_url,
            cluster_id=deployment.cluster_id,
            learner_url=deployment.learner_url,
            worker_urls=deployment.worker_urls,
            round_interactions=deployment.settings.learning.round_interactions,
        )
        self._website: Website | None = None
        self._consumed = Consumed(by_partition={})
        self._ledger: dict[str, Any] = {}

    def _build_shop(self) -> Shop:
        config = self._config
        catalogue = write_catalogue(seed=config.seed, nouns_per_department=config.nouns)
        visitors = Visitors(
            count=config.visitors,
            catalogue=catalogue,
            drifts=self._drifts,
            seed=config.seed,
            control_share=config.control_share,
        )
        return Shop(
            catalogue=catalogue,
            visitors=visitors,
            start_ms=self._start_ms,
            visits_per_ms=config.visits_per_s * config.duration_s / self._span_ms,
            seed=config.seed,
            places=config.places,
        )

    async def run(self) -> None:
        """Let the whole span pass, until all that was sent is learned from."""
        connection = self._deployment.connection
        await self._watch.begin()
        async with Publisher(connection=connection, client_id="alluvium-demo-shop") as publisher:
            self._website = self._build_website(publisher)
            try:
                await self._perform(self._website)
            except BaseExceptionGroup as group:  # whichever part fails, the demo ends with its error
                raise group.exceptions[0] from None
        self._ledger = await asyncio.to_thread(
            ledger_report, self._deployment.postgres_url, self._deployment.cluster_id
        )

    async def _perform(self, website: Website) -> None:
        """The traffic, with a reader of the outputs and the view beside it."""
        connection, topics = self._deployment.connection, self._seen.topics
        reader = WholeReader(connection=connection, topics=topics, client_id="alluvium-demo-reader")
        async with asyncio.TaskGroup() as tasks:
            looking = [tasks.create_task(self._read(reader)), tasks.create_task(self._show())]
            await website.open()
            await website.run()
            await self._drain()
            await ended(looking)

    def _build_website(self, publisher: Publisher) -> Website:
        config = self._config
        pressure = BackPressure(
            consumed=self._look,
            embedded=self._deployment.embedded_kafka is not None,
            round_interactions=self._deployment.settings.learning.round_interactions,
        )
        return Website(
            shop=self._shop,
            publisher=publisher,
            drifts=self._drifts,
            start_ms=self._start_ms,
            span_ms=self._span_ms,
            duration_s=config.duration_s,
            deadline_s=2 * config.duration_s + GRACE_S,
            room=pressure.room,
        )

    async def _look(self) -> Consumed:
        self._deployment.supervisor.check()
        self._consumed = await self._watch.consumed()
        return self._consumed

    async def _read(self, reader: WholeReader) -> None:
        async with reader:
            async for batch in reader:
                for value, timestamp_ms in zip(batch.values, batch.timestamps_ms, strict=True):
                    self._seen.see(batch.topic, value, timestamp_ms)

    async def _drain(self) -> None:
        """Wait until everything sent is in the ledger and learned, and the running round has ended."""
        give_up = time.monotonic() + DRAIN_S
        sent = self._website.sent.events if self._website else 0
        while time.monotonic() < give_up:
            consumed = await self._look()
            is_learned = consumed.learned is not None and consumed.learned >= consumed.interactions
            if sum(consumed.by_partition.values()) >= sent and is_learned and not consumed.rounds_behind:
                await asyncio.sleep(2 * REFRESH_S)  # for what is on its way back
                return
            await asyncio.sleep(REFRESH_S)

    async def _show(self) -> None:
        with self._view, suppress(asyncio.CancelledError):
            while True:
                self._view.update(self.snapshot())
                await asyncio.sleep(REFRESH_S)

    def snapshot(self) -> Snapshot:
        """What the view shows now."""
        website, seen = self._website, self._seen
        if website is None:
            return Snapshot(share=0.0, day=0.0, events=0, events_per_s=0.0)
        consumed = self._consumed
        lag = None if consumed.learned is None else max(consumed.interactions - consumed.learned, 0)
        return Snapshot(
            share=website.share,
            day=(website.simulated_ms - self._start_ms) / DAY_MS,
            events=website.sent.events,
            events_per_s=website.events_per_s,
            freshness_ms=seen.recent_freshness_ms(),
            lag=lag,
            note="a round is running" if consumed.rounds_behind else "",
            version=seen.serving_version(),
            releases=sum(one.release.kind == "release" for one in seen.releases),
            quality={
                expert: [point.value for point in points]
                for (metric, expert), points in seen.quality.items()
                if metric == "hit_rate_10"
            },
            click_rates=click_rates(self._shop.exposures),
            drifts=self._marks(),
            alarms=[((alarm.event_time_ms - self._start_ms) / DAY_MS, alarm.metric) for alarm in seen.alarms],
        )

    def _marks(self) -> list[DriftMark]:
        verdict = match_drifts(
            self._drifts,
            self._seen.alarms,
            window_ms=round(WINDOW_SHARE * self._span_ms),
            started=self._website.started if self._website else {},
        )
        return [
            DriftMark(
                name=name_of(catch.planted),
                share=(catch.planted.start_ms - self._start_ms) / self._span_ms,
                state=state_of(catch),
            )
            for catch in verdict.catches
        ]

    def report(self, *, wall_s: float) -> dict[str, Any]:
        """The final report of what was run."""
        website = self._website
        if website is None:
            raise RuntimeError("the demo has not run")
        return build_report(
            DemoRun(
                seed=self._config.seed,
                wall_s=wall_s,
                traffic_s=website.wall_s,
                start_ms=self._start_ms,
                span_ms=self._span_ms,
                end_ms=self._shop.now_ms,
                places=self._config.places,
                events_sent=website.sent.events,
                ledger=self._ledger.get(CLICKSTREAM_EVENTS, {}),
                planted=self._drifts,
                started=website.started,
                exposures=self._shop.exposures,
                observations=self._seen,
                versions=versions(),
            )
        )


def state_of(catch: Catch) -> str:
    """What became of a planted drift so far, in the view's words."""
    if catch.is_caught:
        return "caught"
    return "planted" if catch.is_planted else "to come"


def name_of(drift: PlantedDrift) -> str:
    """A drift's kind in words."""
    return drift.kind.replace("_", " ")


def click_rates(exposures: list[Exposure]) -> tuple[float | None, float | None]:
    """Click rate so far of the learned group and of the control group, first visits left out."""
    shown, clicks = [0, 0], [0, 0]
    for exposure in exposures:
        if exposure.visit:
            shown[exposure.is_control] += exposure.shown
            clicks[exposure.is_control] += exposure.clicks
    learned, control = (clicks[group] / shown[group] if shown[group] else None for group in (0, 1))
    return learned, control
