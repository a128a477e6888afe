"""The learner: what it measures, what it hands to a round, what it forgets, and that its state is exact."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from learners.checkpoint import save_state
from learners.errors import CorruptCheckpointError
from learners.interactions import Observation, is_target
from learners.learner import Learner, LearnerConfig
from learners.quality.metrics import MetricValue
from learners.ranking.ranker import RankerConfig, RankRequest
from learners.rounds.triggers import Trigger
from tests.learners.stream_data import CONFIG, ITEMS, SHAPE, START_MS, catalog, item_id, learner, release, stream

COUNT = 1_000
NO_TEXT = np.zeros((0, SHAPE.text_width), np.float32)
TRIGGER = Trigger("count", 1, 0)


def run(to: Learner, *, first: int = 0, last: int = COUNT, cuts: Sequence[int] = ()) -> list[MetricValue]:
    """Feed a part of the stream, cut at the given places; releases are swapped in at 300 and 600."""
    values: list[MetricValue] = []
    events = stream(last)
    edges = sorted({first, last, *(edge for edge in (*cuts, 300, 600) if first < edge < last)})
    for start, end in pairwise(edges):
        if start in (300, 600):
            to.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
            to.adopt(release(start // 300))
        to.observe(events[start:end])
        values += to.metrics()
    return values


def everything(of: Learner) -> str:
    """All that was learned, as text: equal only if equal to the bit."""

    def plain(value: object) -> object:
        if isinstance(value, np.ndarray):
            return [str(value.dtype), value.tolist()]
        raise TypeError(value)

    return json.dumps(of.get_state(), default=plain, sort_keys=True)


@pytest.fixture(scope="module")
def reference() -> tuple[Learner, list[MetricValue]]:
    """An uninterrupted run."""
    whole = learner()
    return whole, run(whole)


def test_every_target_is_scored_once_and_nothing_else(reference: tuple[Learner, list[MetricValue]]) -> None:
    whole, _ = reference
    targets = sum(is_target(event.event_type) for event in stream(COUNT))
    assert whole.interactions == targets
    assert whole.examiner.quality.counts()["mixture"] == targets
    assert whole.ranker.memory.covisitation.seen.values.astype(bool).sum() == ITEMS
    assert whole.replay.seen.sum() == targets


def test_results_do_not_depend_on_how_the_stream_is_cut(reference: tuple[Learner, list[MetricValue]]) -> None:
    whole, values = reference
    again = learner()
    assert run(again, cuts=[1, 2, 63, 64, 65, 250, 299, 301, 333, 700, 999]) == values
    assert everything(again) == everything(whole)


@pytest.mark.parametrize("killed_at", [1, 64, 299, 301, 450, 613, 999])
def test_a_run_that_was_killed_and_restored_is_identical_to_the_bit(
    reference: tuple[Learner, list[MetricValue]], tmp_path: Path, killed_at: int
) -> None:
    whole, values = reference
    first, second = learner(), learner(seed=77)
    before = run(first, last=killed_at)
    first.save(tmp_path / "state", extra={"next": killed_at})
    first.observe(stream(50, start=killed_at))  # learned, but not saved: the kill takes it
    assert second.load(tmp_path / "state", release_of=release) == {"next": killed_at}
    before += run(second, first=killed_at)
    assert before == values
    assert everything(second) == everything(whole)


def test_there_is_nothing_to_load_before_the_first_checkpoint(tmp_path: Path) -> None:
    assert learner().load(tmp_path / "none", release_of=release) is None


def test_a_checkpoint_of_another_format_is_refused_by_its_name(tmp_path: Path) -> None:
    state = learner().get_state() | {"format": 1}
    save_state(tmp_path / "state", {"learner": state, "extra": {}})
    with pytest.raises(CorruptCheckpointError, match="its format is 1, expected 2"):
        learner().load(tmp_path / "state", release_of=release)


def test_a_newer_checkpoint_replaces_the_older_one(tmp_path: Path) -> None:
    one = learner()
    one.save(tmp_path / "state", extra={"next": 0})
    one.observe(stream(100))
    one.save(tmp_path / "state", extra={"next": 100})
    two = learner()
    assert two.load(tmp_path / "state", release_of=release) == {"next": 100}
    assert everything(two) == everything(one)
    assert [path.name for path in tmp_path.iterdir()] == ["state"]


def test_a_kill_between_the_two_renames_of_a_checkpoint_loses_nothing(tmp_path: Path) -> None:
    one = learner()
    one.save(tmp_path / "state", extra={"next": 1})
    (tmp_path / "state").rename(tmp_path / "state.old")
    assert learner().load(tmp_path / "state", release_of=release) == {"next": 1}


def test_a_release_that_is_gone_leaves_fast_memory_alone(tmp_path: Path) -> None:
    one = learner()
    run(one, last=700)
    one.save(tmp_path / "state")
    two = learner()
    two.load(tmp_path / "state", release_of=lambda _version: None)
    assert two.model_version == 0
    assert two.observe(stream(10, start=700)) > 0


def test_an_earlier_line_of_an_invoice_is_in_the_history_of_the_next(monkeypatch: pytest.MonkeyPatch) -> None:
    one, seen = learner(), []
    judge = one.ranker.judge

    def spy(past: object, *args: object, **kwargs: object) -> object:
        seen.append(past.items.tolist())  # type: ignore[attr-defined]
        return judge(past, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(one.ranker, "judge", spy)
    one.observe([bought("ann", number) for number in (4, 9, 2)])
    assert seen == [[], [4], [4, 9]]


def test_a_late_interaction_is_learned_from_but_not_served_from() -> None:
    one = learner()
    one.observe([bought("ann", 4, at_ms=START_MS), bought("ann", 5, at_ms=START_MS + 100)])
    late = Observation(user_id="ann", item_id=item_id(9), event_type="purchase", event_time_ms=START_MS + 50, late=True)
    assert one.observe([late]) == 1
    assert one.histories.past("ann").items.tolist() == [4, 5]
    links = one.ranker.memory.covisitation
    assert 4 in links.neighbours[9]
    assert 5 not in links.neighbours[9]  # that was not yet known then


def bought(user_id: str, number: int, *, at_ms: int = START_MS, event_type: str = "purchase") -> Observation:
    """One purchase."""
    return Observation(user_id=user_id, item_id=item_id(number), event_type=event_type, event_time_ms=at_ms)


def test_an_unlisted_item_counts_as_missed_once_and_can_be_ranked_afterwards() -> None:
    one = learner()
    one.observe([bought("ann", ITEMS)])
    assert one.totals()["mixture"]["mrr"] == 0
    one.observe([bought("bob", ITEMS)])
    assert one.totals()["mixture"]["mrr"] > 0


def test_an_item_nobody_turns_to_expires_and_comes_back_with_its_next_interaction() -> None:
    day_ms = 86_400_000
    config = LearnerConfig(ranker=RankerConfig(item_expiry_ms=30 * day_ms))
    one = Learner(catalog=catalog(), config=config)
    one.observe([bought("ann", 1), bought("bob", 2, at_ms=START_MS + 31 * day_ms)])
    old, young, never_met = (one.catalog.index_of(item_id(number)) for number in (1, 2, 3))
    assert one.ranker.rankable(len(one.catalog))[[old, young, never_met]].tolist() == [False, True, True]
    assert item_id(1) not in {ranked.item_id for ranked in one.ranker.rank([RankRequest(now_ms=START_MS)], 100)[0]}
    misses = one.totals()["mixture"]["mrr"] * 2
    one.observe([bought("cid", 1, at_ms=START_MS + 32 * day_ms)])
    assert one.totals()["mixture"]["mrr"] * 3 == pytest.approx(misses)  # it could not be ranked: a miss
    assert one.ranker.rankable(len(one.catalog))[old]


def test_an_item_is_new_until_its_tenth_interaction() -> None:
    one = learner()
    one.observe([bought(f"user-{number}", 1, at_ms=START_MS + number) for number in range(15)])
    counts = one.examiner.quality.counts()
    assert (counts["mixture"], counts["mixture_on_new_items"], counts["fast_memory_on_new_items"]) == (15, 10, 10)


def test_a_delisted_item_is_missed() -> None:
    one = learner()
    one.observe([bought("ann", 3)])
    one.catalog.delist(item_id(3))
    one.observe([bought("bob", 3)])
    assert one.examiner.quality.totals()["mixture"]["mrr"] <= 0.5


def test_a_round_learns_every_new_interaction_once_and_the_newest_window_waits() -> None:
    one = learner()
    one.observe(stream(800))
    interactions, window = one.interactions, one.config.newest_window
    material = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None, facts={"why": "test"})
    assert material.loss_mask.sum() == interactions - window
    assert len(material.newest_targets) == window
    assert material.facts["why"] == "test"
    assert not material.replayed.any()
    one.adopt(release(1))
    later = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=Path("incumbent"))
    assert later.loss_mask[~later.replayed].sum() == 0  # only the held-out window is left, and it is newest
    assert later.replayed.sum() == one.config.replay_rows
    assert len(later.frozen_targets) == one.config.frozen_cases


@pytest.mark.parametrize(("interactions", "rows"), [(10, 5), (40, 20), (400, 20)])
def test_a_small_round_replays_in_proportion_fewer_rows(interactions: int, rows: int) -> None:
    one = Learner(catalog=catalog(), config=replace(CONFIG, replay_from=40), seed=5)
    one.observe(stream(800))
    one.adopt(release(1))
    material = one.round_input(Trigger("count", interactions, 0), text_vectors=NO_TEXT, incumbent=Path("incumbent"))
    assert material.replayed.sum() == rows


def test_a_round_is_told_what_earlier_rounds_learned_and_what_the_others_are_linked_to() -> None:
    one = learner()
    one.observe(stream(COUNT))
    first = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
    assert not first.learned.any()
    one.abandon_round()
    again = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
    assert not again.learned.any()  # the first one failed
    one.adopt(release(1))
    one.observe([bought("ann", ITEMS + 1), bought("ann", 1)])
    third = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
    assert third.learned.sum() == again.loss_mask.sum()
    new = one.catalog.index_of(item_id(ITEMS + 1))
    place = np.flatnonzero(third.learned == 0).tolist().index(new)
    assert one.catalog.index_of(item_id(1)) in third.neighbours[place]
    assert (third.strengths[place] > 0).sum() == 1


def test_what_a_failed_round_took_comes_back() -> None:
    one = learner()
    one.observe(stream(500))
    first = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
    one.observe(stream(100, start=500))
    one.abandon_round()
    second = one.round_input(TRIGGER, text_vectors=NO_TEXT, incumbent=None)
    assert second.loss_mask.sum() == one.interactions - one.config.newest_window
    assert second.loss_mask.sum() > first.loss_mask.sum()


def test_a_round_is_due_by_count_and_then_no_more() -> None:
    one = learner()
    assert one.due(0) is None
    one.observe(stream(700))
    trigger = one.due(1)
    assert trigger is not None
    assert trigger.kind == "count"
    one.round_input(trigger, text_vectors=NO_TEXT, incumbent=None)
    assert one.due(2) is None


def test_the_forgotten_are_gone_and_stay_gone(tmp_path: Path) -> None:
    one = learner()
    one.observe(stream(600))
    user = "user-7"
    assert one.remembers(user)
    assert one.forget(user, START_MS + 10**12) > 0
    assert not one.remembers(user)
    redelivered = [event for event in stream(600) if event.user_id == user]
    assert one.observe(redelivered) == 0
    one.save(tmp_path / "state")
    two = learner()
    two.load(tmp_path / "state", release_of=release)
    assert two.observe(redelivered) == 0
    assert user not in (tmp_path / "state" / "state.json").read_text().replace(f'"forgotten": {{"{user}"', "")


def test_what_a_forgotten_person_does_later_is_learned() -> None:
    one = learner()
    one.observe([bought("ann", 3, at_ms=START_MS)])
    one.forget("ann", START_MS)
    assert one.observe([bought("ann", 4, at_ms=START_MS + 1)]) == 1
    assert one.histories.past("ann").items.tolist() == [4]


def swap_to(version: int, good: Callable[[int], bool]) -> Learner:
    """A learner whose predecessor (version 1) is compared with a successor that scores well or not."""
    one = learner()
    one.observe(stream(400))
    one.adopt(release(1))
    one.observe(stream(200, start=400))
    one.adopt(release(version))
    shadow = one.examiner.shadow
    assert shadow is not None
    for step in range(shadow.config.least + 50):
        shadow.add(successor=float(good(step)), predecessor=float(step % 4 == 0))
    return one


def test_a_successor_worse_on_the_same_interactions_is_rolled_back() -> None:
    one = swap_to(2, good=lambda step: step % 8 == 0)
    rollback = one.should_roll_back()
    assert rollback is not None
    assert rollback.version == 1
    assert rollback.evidence["predecessor"] > rollback.evidence["successor"]
    one.adopt(release(1), shadow=False)
    assert (one.model_version, one.should_roll_back()) == (1, None)


def test_drift_that_hurts_both_alike_rolls_nothing_back() -> None:
    one = swap_to(2, good=lambda step: step % 4 == 1)
    assert one.examiner.shadow is not None
    one.examiner.shadow.alarm()
    assert one.should_roll_back() is None


def test_the_shadow_ends_after_its_time() -> None:
    one = learner()
    one.adopt(release(1))
    one.adopt(release(1))
    assert one.examiner.shadow is not None
    one.observe(stream(4_500))
    assert one.examiner.shadow is None
