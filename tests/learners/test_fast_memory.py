"""Fast memory: what each part learns, how it forgets, and that it stays bounded."""

import numpy as np
import pytest

from learners.errors import InvalidModelConfigError
from learners.fast_memory import COMPONENTS, FEATURES, FastMemory, FastMemoryConfig
from learners.fast_memory.covisitation import Covisitation, CovisitationConfig
from learners.fast_memory.decay import DAY_MS, HOUR_MS, DecayedArray
from learners.fast_memory.popularity import Popularity
from learners.fast_memory.repeats import Repeats, met_in
from learners.histories import EMPTY_PAST, Past
from learners.quality.metrics import rank_of

NOW_MS = 1_300_000_000_000


def past(*items: int, now_ms: int = NOW_MS, step_ms: int = 60_000) -> Past:
    """A history that ends a minute before now."""
    times = now_ms - step_ms * np.arange(len(items), 0, -1)
    return Past(np.array(items, np.int64), times.astype(np.int64))


def test_counts_halve_with_every_half_life_however_long_the_stream() -> None:
    counts = DecayedArray(half_life_ms=HOUR_MS)
    counts.reserve(1)
    for hour in range(24 * 30):  # eighteen eras
        unit = counts.unit(NOW_MS + hour * HOUR_MS)
        counts.values[0] += np.float32(unit)
    now = counts.values[0] / counts.unit(NOW_MS + (24 * 30 - 1) * HOUR_MS)
    assert now == pytest.approx(2.0, rel=1e-5)


def test_holders_in_different_eras_understand_each_other_exactly() -> None:
    sender, receiver = DecayedArray(half_life_ms=HOUR_MS), DecayedArray(half_life_ms=HOUR_MS)
    for each in (sender, receiver):
        each.reserve(2)
    sender.values[0] = np.float32(sender.unit(NOW_MS) * 3)
    receiver.unit(NOW_MS + 100 * HOUR_MS)  # two eras ahead
    received = receiver.take(sender.values[:1], of_era=sender.era)
    assert received[0] / receiver.unit(NOW_MS) == pytest.approx(3, rel=1e-6)


def test_items_met_together_recommend_each_other_in_both_directions() -> None:
    graph = Covisitation(CovisitationConfig())
    graph.reserve(10)
    for _ in range(5):
        graph.observe(2, past(1), NOW_MS)
    forward, backward = graph.scores(past(1), NOW_MS, 10), graph.scores(past(2), NOW_MS, 10)
    assert forward is not None
    assert backward is not None
    assert forward.argmax() == 2
    assert backward.argmax() == 1


def test_the_nearest_interaction_counts_most() -> None:
    graph = Covisitation(CovisitationConfig())
    graph.reserve(10)
    graph.observe(5, past(3, 4), NOW_MS)
    scores = graph.scores(past(5), NOW_MS, 10)
    assert scores is not None
    assert scores[4] > scores[3] > 0


def test_links_are_bounded_and_the_strong_survive_the_many() -> None:
    graph = Covisitation(CovisitationConfig(neighbours=8, window=4))
    graph.reserve(2_000)
    for step in range(1, 1_500):
        graph.observe(2, past(1), NOW_MS)
        graph.observe(step + 10, past(1), NOW_MS)
    assert graph.neighbours.shape[1] == 8
    assert 2 in graph.neighbours[1]
    scores = graph.scores(past(1), NOW_MS, 2_000)
    assert scores is not None
    assert scores.argmax() == 2


def test_an_item_is_never_its_own_neighbour_nor_twice_anothers() -> None:
    graph = Covisitation(CovisitationConfig(neighbours=8, window=8))
    graph.reserve(20)
    rng = np.random.default_rng(0)
    for _ in range(500):
        graph.observe(int(rng.integers(1, 20)), past(*rng.integers(1, 20, 8)), NOW_MS)
    for item, names in enumerate(graph.neighbours[:20].tolist()):
        real = [name for name in names if name]
        assert item not in real
        assert len(set(real)) == len(real)


def test_what_was_popular_once_gives_way_to_what_is_popular_now() -> None:
    popularity = Popularity(half_lives_ms=(DAY_MS, 90 * DAY_MS))
    popularity.reserve(3)
    for _ in range(50):
        popularity.observe(1, NOW_MS)
    for _ in range(10):
        popularity.observe(2, NOW_MS + 10 * DAY_MS)
    short, long = popularity.log_counts(NOW_MS + 10 * DAY_MS, 3)
    assert (short.argmax(), long.argmax()) == (2, 1)


def test_recency_falls_with_every_hour_without_an_interaction() -> None:
    popularity = Popularity(half_lives_ms=(DAY_MS,))
    popularity.reserve(4)
    popularity.observe(1, NOW_MS - 5 * HOUR_MS)
    popularity.observe(2, NOW_MS)
    age = popularity.log_age(NOW_MS, 4)
    assert age[2] > age[1] > age[3]
    assert age[2] == 0


def test_repeats_learn_after_how_long_people_come_back() -> None:
    repeats = Repeats()
    week_old, fresh = past(7, step_ms=7 * DAY_MS), past(7, step_ms=60_000)
    for _ in range(200):
        repeats.observe(7, met_in(week_old, NOW_MS))
        repeats.observe(8, met_in(fresh, NOW_MS))
    assert repeats.chances(met_in(week_old, NOW_MS))[0] > 0.4
    assert repeats.chances(met_in(fresh, NOW_MS))[0] < 0.002


def test_a_graph_too_small_for_its_window_is_refused() -> None:
    with pytest.raises(InvalidModelConfigError, match="neighbours is 4; expected at least window=16"):
        CovisitationConfig(neighbours=4)


def test_the_pool_learns_not_to_offer_what_was_just_bought() -> None:
    memory, rng = FastMemory(FastMemoryConfig()), np.random.default_rng(2)
    barred = np.array([0])
    for step in range(400):  # everybody walks the ring and never turns back
        start, now_ms = int(rng.integers(0, 20)), NOW_MS + step * HOUR_MS
        items = [(start + move) % 20 + 1 for move in range(4)]
        seen = past(*items[:3], now_ms=now_ms)
        memory.observe(items[3], seen, now_ms, memory.opine(seen, now_ms, items=21, barred=barred))
    now_ms = NOW_MS + 401 * HOUR_MS
    opinion = memory.opine(past(4, 5, 6, now_ms=now_ms), now_ms, items=21, barred=barred)
    assert opinion.log_probabilities.argmax() == 7
    assert opinion.log_probabilities[[4, 5, 6]].max() < np.median(opinion.log_probabilities[1:])


def test_fast_memory_beats_each_of_its_parts_where_all_of_them_know_something() -> None:
    memory, rng, now_ms, items = FastMemory(FastMemoryConfig()), np.random.default_rng(3), NOW_MS, 301
    hits = dict.fromkeys(["fast_memory", *COMPONENTS], 0)
    favourites = rng.integers(1, items, (30, 3))
    pasts = dict.fromkeys(range(30), EMPTY_PAST)
    for step in range(3_000):
        user, now_ms = int(rng.integers(30)), now_ms + HOUR_MS // 3
        last = int(pasts[user].items[-1]) if len(pasts[user].items) else 1
        onwards, again, popular = last % 300 + 1, rng.choice(favourites[user]), rng.zipf(1.5) % 300 + 1
        item = int(rng.choice([onwards, again, popular], p=[0.4, 0.3, 0.3]))
        opinion = memory.opine(pasts[user], now_ms, items=items, barred=np.array([0]))
        if step > 1_000:
            hits["fast_memory"] += rank_of(opinion.log_probabilities, item) <= 10
            for name, feature in COMPONENTS.items():
                hits[name] += rank_of(opinion.features[feature], item) <= 10
        memory.observe(item, pasts[user], now_ms, opinion)
        kept = Past(np.append(pasts[user].items, item)[-20:], np.append(pasts[user].times_ms, now_ms)[-20:])
        pasts[user] = kept
    assert hits["fast_memory"] > max(hits[name] for name in COMPONENTS)


def test_one_graph_is_read_for_what_follows_and_for_taste() -> None:
    config = CovisitationConfig()
    graph = Covisitation(config)
    graph.reserve(40)
    for _ in range(3):
        graph.observe(30, past(20), NOW_MS)  # what follows 20
        for liked in range(1, 9):
            graph.observe(31, past(liked), NOW_MS)  # what everybody takes who likes 1 to 8
    history = past(1, 2, 3, 4, 5, 6, 7, 8, 20)
    near = graph.scores(history, NOW_MS, 40)
    wide = graph.scores(history, NOW_MS, 40, decay=config.wide)
    assert near is not None
    assert wide is not None
    assert near[30] > near[31]
    assert wide[31] > wide[30]


def test_the_pool_learns_whether_taste_or_the_last_step_tells_more() -> None:
    rng = np.random.default_rng(4)
    weights = {}
    for world in ("taste", "steps"):
        memory, barred, walks = FastMemory(FastMemoryConfig()), np.array([0]), dict.fromkeys(range(20), 1)
        items: dict[int, list[int]] = {person: [] for person in range(20)}
        for step in range(3_000):
            person, now_ms = int(rng.integers(20)), NOW_MS + step * 60_000
            seen = past(*items[person][-20:]) if items[person] else past()
            chosen = 1 + int(rng.integers(20)) * 2 + person % 2 if world == "taste" else walks[person] % 40 + 1
            walks[person] = chosen
            opinion = memory.opine(seen, now_ms, items=41, barred=barred)
            memory.observe(chosen, seen, now_ms, opinion)
            items[person].append(chosen)
        learned = memory.pool.weights[-2]
        weights[world] = learned[FEATURES.index("covisitation_wide")] - learned[FEATURES.index("covisitation")]
    assert weights["taste"] > weights["steps"] + 0.3
