"""A first round that chooses its own start among the donors it was given: what a learner without a release runs.

It runs where any round runs, in a child process that may be killed at any moment; choice and result depend on the
round's input alone.
"""

import shutil
from dataclasses import replace
from pathlib import Path

from learners.knowledge.donors import load_donors
from learners.knowledge.reuse import Choice, TrialConfig, choose, first_round
from learners.rounds.material import RoundInput
from learners.rounds.round import RoundResult, run_round
from learners.rounds.training import Beat

START = "start"  # among a release's facts and in its verdict: what it began from, and why
_TRIALS = "trials"


def run_from_donors(
    round_input: RoundInput,
    out_dir: Path,
    *,
    config: TrialConfig | None = None,
    beat: Beat = lambda _step, _steps: None,
) -> RoundResult:
    """Choose a start among the round's donors and none, then run the round from it; as `run_round` otherwise.

    Args:
        round_input: A first round with `donors`.
        out_dir: An existing directory that receives `candidate/` and `result.json`.
        config: How much choosing may cost.
        beat: Called after every optimizer step.

    Raises:
        LearnerError: As `run_round`.
    """
    donors = [] if round_input.donors is None else load_donors(round_input.donors)
    trials = out_dir / _TRIALS
    trials.mkdir()
    choice = choose(donors, round_input, trials, config, beat=beat)
    chosen = first_round(round_input, choice)
    result = run_round(replace(chosen, facts={**chosen.facts, START: choice.as_dict()}), out_dir, beat=beat)
    shutil.rmtree(trials)
    result = replace(
        result,
        metrics={**result.metrics, **figures(choice)},
        verdict={**result.verdict, START: {"entry_id": choice.entry_id, "parents": list(choice.parents)}},
    )
    result.save(out_dir)
    return result


def figures(choice: Choice) -> dict[str, float]:
    """Return what a choice adds to a release's figures: whether it reused, and NDCG@10 in the trial.

    >>> from learners.knowledge.reuse import Trial
    >>> scratch = Trial(entry_id=None, similarity=None, ndcg_10=0.25)
    >>> figures(Choice(entry_id=None, start=None, trials=(scratch,)))
    {'reused': 0.0, 'trial_scratch': 0.25, 'trial_chosen': 0.25}
    """
    of_chosen = [trial.ndcg_10 for trial in choice.trials if trial.entry_id == choice.entry_id]
    return {
        "reused": float(choice.entry_id is not None),
        "trial_scratch": choice.trials[0].ndcg_10,
        "trial_chosen": of_chosen[0],
    }
