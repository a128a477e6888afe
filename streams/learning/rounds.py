"""One round at a time, in a child process, repeated or recovered after whatever kills it or us."""

import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from learners.disk import sweep
from learners.errors import RoundFailedError
from learners.knowledge.donors import Donor, save_donors
from learners.rounds.material import RoundInput
from learners.rounds.process import RoundProcess
from learners.rounds.round import RESULT, RoundResult
from streams.learning.position import PendingRound

INPUT, OUTPUT, ATTEMPTS, DONORS = "input", "out", "attempts", "donors"
MOST_ATTEMPTS = 3


class Rounds:
    """Run the pending round in a child process, under one directory per round.

    A directory holds a round's input, complete before a checkpoint names the round; its output, which appears whole;
    and how often it was begun. All calls but `running`, `finished` and `steps` block.

    Args:
        root: Directory of the rounds' directories.
        timeout_s: A child that takes longer is killed.
        heartbeat_timeout_s: So is one that makes no optimizer step for this long.
    """

    def __init__(self, root: Path, *, timeout_s: float, heartbeat_timeout_s: float) -> None:
        root.mkdir(parents=True, exist_ok=True)
        self._root, self._timeout_s, self._heartbeat_timeout_s = root, timeout_s, heartbeat_timeout_s
        self._process: RoundProcess | None = None
        self._finished = False

    @property
    def running(self) -> bool:
        """Whether a round is under way, its result not yet taken."""
        return self._process is not None or self._finished

    @property
    def finished(self) -> bool:
        """Whether the round's result can be taken without waiting."""
        return self._finished or (self._process is not None and self._process.done())

    @property
    def pid(self) -> int | None:
        """The child's process id."""
        return None if self._process is None else self._process.pid

    def steps(self) -> tuple[int, int]:
        """Optimizer steps done and the most there can be."""
        return (0, 0) if self._process is None else self._process.progress()

    def prepare(self, pending: PendingRound, round_input: RoundInput, *, donors: Sequence[Donor] = ()) -> None:
        """Write a new round's input, replacing what a learner left that was killed before its checkpoint.

        Args:
            pending: The round.
            round_input: What it learns from.
            donors: What it may start from; they become part of the input.
        """
        folder = self._folder(pending)
        shutil.rmtree(folder, ignore_errors=True)
        if donors:
            save_donors(folder / DONORS, donors)
            round_input = replace(round_input, donors=folder / DONORS)
        round_input.save(folder / INPUT)

    def begin(self, pending: PendingRound) -> None:
        """Start the round's child, or take up its output if it is there already.

        Raises:
            RoundFailedError: If it was begun too often, its input is gone, or no process can be started.
        """
        folder = self._folder(pending)
        if (folder / OUTPUT / RESULT).exists():
            self._finished = True
            return
        if not (folder / INPUT).exists():
            raise RoundFailedError(exit_code=None, reason="its input is gone")
        attempts = _attempts(folder)
        if attempts >= MOST_ATTEMPTS:
            raise RoundFailedError(exit_code=None, reason=f"it was begun {attempts} times and never ended")
        (folder / ATTEMPTS).write_text(str(attempts + 1), encoding="utf-8")
        sweep(folder)
        self._process = RoundProcess(
            folder / INPUT,
            folder / OUTPUT,
            timeout_s=self._timeout_s,
            heartbeat_timeout_s=self._heartbeat_timeout_s,
        ).start()

    def result(self, pending: PendingRound) -> RoundResult:
        """Wait for the end and return what came of it.

        Raises:
            LearnerError: Whatever the round failed with; the incumbent goes on serving.
        """
        process, self._process, self._finished = self._process, None, False
        if process is not None:
            return process.result()
        try:
            return RoundResult.load(self._folder(pending) / OUTPUT)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RoundFailedError(exit_code=None, reason=f"its result is unreadable: {error}") from error

    def input(self, pending: PendingRound) -> RoundInput:
        """Return what the round learned from, until it is tidied away.

        Raises:
            RoundFailedError: If it is gone.
        """
        try:
            return RoundInput.load(self._folder(pending) / INPUT)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RoundFailedError(exit_code=None, reason=f"its input is unreadable: {error}") from error

    def kill(self) -> None:
        """Kill the child, if there is one; `result` then raises."""
        if self._process is not None:
            self._process.kill()

    def abandon(self) -> None:
        """Kill the child and drop whatever it did; the round stays pending."""
        self.kill()
        self._process, self._finished = None, False

    def tidy(self, *, keep: PendingRound | None) -> None:
        """Remove the directories of settled rounds: they hold people's histories."""
        kept = None if keep is None else self._folder(keep)
        for folder in self._root.iterdir():
            if folder != kept:
                shutil.rmtree(folder, ignore_errors=True)

    def _folder(self, pending: PendingRound) -> Path:
        return self._root / pending.key


def _attempts(folder: Path) -> int:
    try:
        return int((folder / ATTEMPTS).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return 0
