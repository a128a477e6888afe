"""What the graph is for: candidates, the cold start of a new item, bundles, and explanations that people understand."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from learners.knowledge.graph import KnowledgeGraph, Reached
from learners.knowledge.graph_growth import item_of, node

CANDIDATE_PATHS: Mapping[str, float] = {"co_purchase": 1.0, "co_view": 1.0, "complements": 0.5, "co_view/co_view": 0.25}
CATALOGUE_PATHS: Mapping[str, float] = {"category/^category": 1.0, "attribute/^attribute": 1.0, "brand/^brand": 0.5}
_SAYS: Mapping[str, str] = {
    "co_purchase": "often bought with",
    "complements": "goes well with",
    "co_view": "often looked at with",
    "substitutes": "an alternative to",
}
_DID: Mapping[str, str] = {"purchase": "bought", "cart": "put into the basket"}
_LOOKED = "looked at"
_SPREAD = 10  # candidates looked at on each path, for one that is returned


@dataclass(frozen=True, slots=True)
class Candidate:
    """An item, how strongly the graph suggests it, and the path and way that contributed most."""

    item_id: str
    score: float
    path: str
    trail: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why an item is suggested to a person, from one thing that they did."""

    item_id: str
    because_of: str
    relation: str
    strength: float
    sentence: str


def candidates(
    graph: KnowledgeGraph,
    history: Mapping[str, float],
    *,
    k: int = 20,
    paths: Mapping[str, float] = CANDIDATE_PATHS,
) -> list[Candidate]:
    """Return items that the graph suggests to somebody, without those in their history.

    Args:
        graph: The graph.
        history: item_id -> weight, e.g. by recency.
        k: Most candidates.
        paths: Path -> weight.
    """
    starts = {node("item", item_id): weight for item_id, weight in history.items()}
    scores: dict[str, float] = {}
    best: dict[str, tuple[float, str, Reached]] = {}
    for path, weight in paths.items():
        for reached in graph.walk(starts, path, k=k + len(starts) + _SPREAD * k):
            item_id = item_of(reached.node)
            if item_id is None or item_id in history:
                continue
            gained = weight * reached.score
            scores[item_id] = scores.get(item_id, 0.0) + gained
            if item_id not in best or gained > best[item_id][0]:
                best[item_id] = (gained, path, reached)
    ranked = sorted(scores, key=lambda item_id: (-scores[item_id], item_id))[:k]
    return [Candidate(item_id, scores[item_id], best[item_id][1], best[item_id][2].trail) for item_id in ranked]


def cold_start(graph: KnowledgeGraph, item_id: str, *, k: int = 20) -> list[tuple[str, float]]:
    """Return the items that the catalogue puts nearest to one that nobody has met, with weights that sum to 1.

    Shared rare things count for more than shared common ones: a hop backwards divides its score among all that have
    the same category, brand or attribute.
    """
    found = candidates(graph, {item_id: 1.0}, k=k, paths=CATALOGUE_PATHS)
    total = sum(one.score for one in found)
    return [(one.item_id, one.score / total) for one in found]


def bundle(graph: KnowledgeGraph, item_id: str, *, size: int = 3) -> list[str]:
    """Return items that are bought with this one and with each other, this one first.

    Greedy: the next item is the one that is reached most strongly from all that are in the bundle already, and only
    from all of them, so that what everybody buys with anything does not win alone.
    """
    chosen = [item_id]
    while len(chosen) < size:
        rooms: dict[str, list[float]] = {}
        for one in chosen:
            for reached in graph.walk({node("item", one): 1.0}, "co_purchase", k=_SPREAD * size):
                other = item_of(reached.node)
                if other is not None and other not in chosen:
                    rooms.setdefault(other, []).append(reached.score)
        together = {other: sum(scores) for other, scores in rooms.items() if len(scores) == len(chosen)}
        if not together:
            break
        chosen.append(min(together, key=lambda other: (-together[other], other)))
    return chosen


def explain(
    graph: KnowledgeGraph,
    item_id: str,
    history: Mapping[str, str],
    *,
    titles: Mapping[str, str] | None = None,
    k: int = 3,
) -> list[Explanation]:
    """Say why an item suits somebody, from what they did; the strongest reason first, each thing they did once.

    Args:
        graph: The graph.
        item_id: What is suggested.
        history: item_id -> the strongest type of event that the person had with it.
        titles: item_id -> how people call it; without: the id.
        k: Most reasons.
    """
    titles = titles or {}
    reasons: dict[str, Explanation] = {}
    for edge in graph.between((node("item", one) for one in history if one != item_id), node("item", item_id)):
        other = item_of(edge.source)
        if other is None or other in reasons or edge.relation not in _SAYS:
            continue
        says = sentence(
            did=history[other],
            thing=titles.get(other, other),
            relation=edge.relation,
            suggested=titles.get(item_id, item_id),
        )
        reasons[other] = Explanation(item_id, other, edge.relation, edge.strength, says)
    return list(reasons.values())[:k]


def explain_many(
    graph: KnowledgeGraph,
    people: Sequence[tuple[Mapping[str, str], Sequence[str]]],
    *,
    titles: Callable[[str], str],
    timeout_ms: int = 500,
) -> list[dict[str, str]]:
    """Say why items suit people, from what each of them did: of each person item_id -> the strongest reason's sentence.

    One query, whatever there is to explain; what nothing explains has no sentence.

    Args:
        graph: The graph.
        people: Of each their history (item_id -> the strongest type of event), and the items suggested.
        titles: How people call an item; an empty title stands for its id.
        timeout_ms: How long the graph may take.

    Raises:
        KnowledgeUnavailableError: If it takes longer, or does not answer.
    """
    done = {item_id for history, _ in people for item_id in history}
    suggested = {item_id for _, items in people for item_id in items}
    if not done or not suggested:
        return [{} for _ in people]
    sources, targets = ([node("item", item_id) for item_id in sorted(items)] for items in (done, suggested))
    leading: dict[str, list[tuple[str, str]]] = {}  # item_id -> from where, by which relation, strongest first
    for edge in graph.among(sources, targets, timeout_ms=timeout_ms):
        source, target = item_of(edge.source), item_of(edge.target)
        if source is not None and target is not None and source != target and edge.relation in _SAYS:
            leading.setdefault(target, []).append((source, edge.relation))

    def named(item_id: str) -> str:
        return titles(item_id) or item_id

    found: list[dict[str, str]] = []
    for history, items in people:
        said = {}
        for item_id in items:
            why = next(((source, relation) for source, relation in leading.get(item_id, []) if source in history), None)
            if why is not None:
                said[item_id] = sentence(
                    did=history[why[0]], thing=named(why[0]), relation=why[1], suggested=named(item_id)
                )
        found.append(said)
    return found


def sentence(*, did: str, thing: str, relation: str, suggested: str) -> str:
    """Return a reason in words.

    >>> sentence(did="purchase", thing="Blue mug", relation="co_purchase", suggested="Green tea")
    'because you bought Blue mug, often bought with Green tea'
    """
    return f"because you {_DID.get(did, _LOOKED)} {thing}, {_SAYS[relation]} {suggested}"


def titles_of(trail: Sequence[str], titles: Mapping[str, str]) -> str:
    """Return a way through the graph in words.

    >>> titles_of(("item:mug", "category:Cups", "item:cup"), {"mug": "Blue mug"})
    'Blue mug > category:Cups > cup'
    """
    names = (titles.get(item, item) if (item := item_of(one)) is not None else one for one in trail)
    return " > ".join(names)
