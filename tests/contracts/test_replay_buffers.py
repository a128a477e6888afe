"""Checks that every replay buffer passes."""

from collections.abc import Callable

import numpy as np
import pytest

from learners.replay.reservoirs import POPULARITY_BANDS, BiasedReservoir, OutputReservoir, StratifiedReservoir

CAPACITY, LENGTH = 320, 6

BUFFERS: dict[str, Callable[[np.random.Generator], StratifiedReservoir]] = {
    "stratified_reservoir": lambda rng: StratifiedReservoir(capacity=CAPACITY, length=LENGTH, rng=rng),
    "reservoir": lambda rng: StratifiedReservoir(capacity=CAPACITY, length=LENGTH, rng=rng, user_groups=1, bands=1),
    "outputs": lambda rng: OutputReservoir(capacity=CAPACITY, length=LENGTH, outputs=2, rng=rng),
    "biased": lambda rng: BiasedReservoir(capacity=CAPACITY, length=LENGTH, rng=rng),
}
UNIFORM = ["stratified_reservoir", "reservoir", "outputs"]


@pytest.fixture(params=list(BUFFERS))
def make(request: pytest.FixtureRequest) -> Callable[[int], StratifiedReservoir]:
    """Build an empty buffer from a seed."""
    return lambda seed: BUFFERS[request.param](np.random.default_rng(seed))


def fill(buffer: StratifiedReservoir, count: int, *, start: int = 0) -> None:
    """Add interactions whose item says when they came: item number = time + 1."""
    for time_ms in range(start, start + count):
        user = f"user-{time_ms % 37}"
        history, arrival = [time_ms + 1] * (time_ms % 9), time_ms + 1
        buffer.add(user, history, time_ms + 1, time_ms=time_ms, band=time_ms % 4, arrival=arrival)


def test_never_holds_more_than_its_capacity(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    fill(buffer, 20 * CAPACITY)
    assert CAPACITY // 2 < len(buffer) <= CAPACITY


def test_every_interaction_is_offered_once(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    fill(buffer, 1_000)
    assert buffer.seen.sum() == 1_000


def test_a_sample_is_left_padded_with_the_item_last_and_nothing_twice(
    make: Callable[[int], StratifiedReservoir],
) -> None:
    buffer = make(0)
    fill(buffer, 200)
    tokens = buffer.sample(50)
    assert tokens.shape == (50, LENGTH + 1)
    assert len(set(tokens[:, -1].tolist())) == 50
    for *history, item in tokens.tolist():
        known = min(LENGTH, (item - 1) % 9)
        assert history == [0] * (LENGTH - known) + [item] * known


def test_asking_for_more_than_there_is_gives_all(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    assert buffer.sample(5).shape == (0, LENGTH + 1)
    fill(buffer, 3)
    assert sorted(buffer.sample(5)[:, -1].tolist()) == [1, 2, 3]


@pytest.mark.parametrize("name", UNIFORM)
def test_what_is_kept_is_spread_evenly_over_time(name: str) -> None:
    old_share = []
    for seed in range(5):
        buffer = BUFFERS[name](np.random.default_rng(seed))
        fill(buffer, 30 * CAPACITY)
        old_share.append(float(np.mean(buffer.sample(CAPACITY)[:, -1] <= 15 * CAPACITY)))
    assert np.mean(old_share) == pytest.approx(0.5, abs=0.06)


def test_a_biased_buffer_forgets_exponentially() -> None:
    buffer = BUFFERS["biased"](np.random.default_rng(0))
    fill(buffer, 20 * CAPACITY)
    ages = 20 * CAPACITY - buffer.sample(CAPACITY)[:, -1]
    for capacities in (1, 2):
        assert np.mean(ages < capacities * CAPACITY) == pytest.approx(1 - np.exp(-capacities), abs=0.08)


def test_outputs_stay_with_their_interaction_and_go_with_it() -> None:
    buffer = OutputReservoir(capacity=8, length=LENGTH, outputs=2, rng=np.random.default_rng(0))
    for item in range(1, 7):  # the model is sure of the item, and next of the one after it
        logits = np.zeros(10, np.float32)
        logits[[item, item + 1]] = 5, 4
        person = "ann" if item % 2 else "bob"
        buffer.add(person, [], item, time_ms=item, band=0, logits=None if item == 4 else logits)
    buffer.forget("ann", until_ms=9)
    drawn = buffer.draw(9)
    for (*_, item), items, scores in zip(
        drawn["tokens"].tolist(), drawn["taught_items"], drawn["taught_scores"], strict=True
    ):
        expected = {} if item == 4 else {item: 5.0, item + 1: 4.0}
        assert {kept: score for kept, score in zip(items.tolist(), scores.tolist(), strict=True) if kept} == expected
    assert sorted(drawn["tokens"][:, -1].tolist()) == [2, 4, 6]
    assert not buffer.get_state()["taught_items"][:, 0][3:].any()


def test_what_is_held_out_is_not_drawn_and_everything_before_it_is(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    fill(buffer, CAPACITY)
    held = buffer.get_state()
    drawn = buffer.draw(CAPACITY, before=CAPACITY - 19)["tokens"][:, -1]
    assert sorted(drawn.tolist()) == sorted(item for item in buffer.sample(CAPACITY)[:, -1].tolist() if item <= 300)
    del held["arrivals"]  # as it was saved when nobody asked
    buffer.set_state(held)
    assert len(buffer.draw(CAPACITY, before=1)["tokens"]) == len(buffer)


def test_rare_bands_keep_their_share() -> None:
    buffer = BUFFERS["stratified_reservoir"](np.random.default_rng(0))
    rng = np.random.default_rng(1)
    for time_ms in range(5_000):  # one in fifty is rare
        rare = time_ms % 50 == 0
        buffer.add(f"user-{rng.integers(100)}", [], 1 if rare else 2, time_ms=time_ms, band=0 if rare else 3)
    held = buffer.sample(CAPACITY)[:, -1]
    assert np.mean(held == 1) > 0.3
    assert len(POPULARITY_BANDS) + 1 == 4


def test_the_forgotten_are_gone_and_only_they(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    fill(buffer, 2_000)
    before = buffer.user_ids()
    assert buffer.forget("user-5", until_ms=3_000) > 0
    assert buffer.user_ids() == before - {"user-5"}
    assert not any((item - 1) % 37 == 5 for item in buffer.sample(CAPACITY)[:, -1].tolist())
    assert buffer.forget("user-5", until_ms=3_000) == 0


def test_only_what_is_old_enough_is_forgotten(make: Callable[[int], StratifiedReservoir]) -> None:
    buffer = make(0)
    buffer.add("ann", [], 1, time_ms=10, band=0)
    buffer.add("ann", [], 2, time_ms=20, band=0)
    assert buffer.forget("ann", until_ms=10) == 1
    assert buffer.sample(9)[:, -1].tolist() == [2]


def test_a_restored_buffer_goes_on_as_if_nothing_had_happened(make: Callable[[int], StratifiedReservoir]) -> None:
    whole, first, second = make(4), make(4), make(99)
    fill(whole, 5_000)
    fill(first, 2_500)
    second.set_state(first.get_state())
    second._rng.bit_generator.state = first._rng.bit_generator.state
    fill(second, 2_500, start=2_500)
    assert second.sample(CAPACITY).tolist() == whole.sample(CAPACITY).tolist()
    assert second.admitted == whole.admitted
