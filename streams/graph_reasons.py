"""Reasons that people understand, from the knowledge graph: "because you bought X, often bought with Y"."""

from collections.abc import Callable, Sequence

import structlog

from learners.errors import LearnerError
from learners.knowledge.graph import KnowledgeGraph
from learners.knowledge.graph_uses import explain_many
from learners.ranker import Ranked, RankRequest
from streams import worker_metrics

log = structlog.get_logger(__name__)

MOST_PEOPLE, MOST_DONE, MOST_ITEMS = 128, 10, 10
TIMEOUT_MS = 500
_STRENGTH = ("purchase", "cart")  # what somebody did with a thing, the strongest first; all else is looking


class GraphReasons:
    """Look for reasons, within bounds: so many people a call, their newest things, the first places, one query.

    A graph that is slow or away costs its timeout and gives no reasons; rankings go out without them. All calls
    block: make them from one dedicated thread.

    Args:
        graph: The graph.
        timeout_ms: How long it may take.
    """

    def __init__(self, graph: KnowledgeGraph, *, timeout_ms: int = TIMEOUT_MS) -> None:
        self._graph, self._timeout_ms = graph, timeout_ms
        self._complained = ""

    def of(
        self, asked: Sequence[RankRequest], rankings: Sequence[Sequence[Ranked]], titles: Callable[[str], str]
    ) -> list[dict[str, str]]:
        """Return of each ranking item_id -> sentence, for places that something explains.

        Args:
            asked: Who was ranked for, with their histories.
            rankings: What they got.
            titles: How people call an item.
        """
        people = [
            (done_by(request), [place.item_id for place in ranked[:MOST_ITEMS]])
            for request, ranked in zip(asked[:MOST_PEOPLE], rankings[:MOST_PEOPLE], strict=True)
        ]
        try:
            found = explain_many(self._graph, people, titles=titles, timeout_ms=self._timeout_ms)
        except LearnerError as error:
            worker_metrics.REASONS_MISSED.inc()
            if str(error) != self._complained:  # said once, counted always
                self._complained = str(error)
                log.warning("graph_reasons_missed", error=self._complained)
            found = [{} for _ in people]
        return found + [{} for _ in rankings[MOST_PEOPLE:]]


def done_by(request: RankRequest) -> dict[str, str]:
    """Return the newest things of a history, each with the strongest that was done with it.

    >>> history = RankRequest(item_ids=["mug", "tea", "mug"], times_ms=[1, 2, 3], now_ms=4,
    ...                       event_types=["purchase", "view", "view"])
    >>> done_by(history)
    {'mug': 'purchase', 'tea': 'view'}
    """
    kinds = request.event_types or ["view"] * len(request.item_ids)
    done: dict[str, str] = {}
    for item_id, kind in zip(reversed(request.item_ids), reversed(kinds), strict=True):
        if item_id not in done and len(done) == MOST_DONE:
            continue
        before = done.get(item_id)
        if before is None or (kind in _STRENGTH and (before not in _STRENGTH or kind == _STRENGTH[0])):
            done[item_id] = kind
    return done
