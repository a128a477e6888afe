"""What can go wrong in `learners`: one base, one class per remedy."""

from pathlib import Path


class LearnerError(Exception):
    """Base of every error that `learners` raises on purpose."""


class DivergedError(LearnerError, ArithmeticError):
    """The loss stopped being finite; no release was written."""

    def __init__(self, *, step: int, loss: float) -> None:
        super().__init__(f"loss is {loss} at optimizer step {step}")
        self.step, self.loss = step, loss


class EncoderUnavailableError(LearnerError, OSError):
    """The weights of the text or image encoder could not be loaded."""

    def __init__(self, *, name: str, cause: str, setting: str = "text_encoder") -> None:
        built_in = {"text_encoder": '"minilm", "hash"', "image_encoder": '"statistics", "trained"'}[setting]
        super().__init__(f"{setting} is {name!r}; expected {built_in}, a folder or a hub name: {cause}")
        self.name = name


class InvalidModelConfigError(LearnerError, ValueError):
    """A setting of the model, the round or the gate is out of range."""

    def __init__(self, *, name: str, value: object, expected: str) -> None:
        super().__init__(f"{name} is {value!r}; expected {expected}")
        self.name, self.value = name, value


class InvalidRoundInputError(LearnerError, ValueError):
    """The arrays of a round contradict each other; nothing was trained."""

    def __init__(self, *, name: str, found: object, expected: str) -> None:
        super().__init__(f"round input {name} is {found}; expected {expected}")
        self.name = name


class RoundFailedError(LearnerError, RuntimeError):
    """The training process ended without a result; the incumbent goes on serving."""

    def __init__(self, *, exit_code: int | None, reason: str, log_tail: str = "") -> None:
        detail = f"; its last words: {log_tail}" if log_tail else ""
        super().__init__(f"training process failed (exit code {exit_code}): {reason}{detail}")
        self.exit_code, self.reason, self.log_tail = exit_code, reason, log_tail


class RoundTimeoutError(RoundFailedError, TimeoutError):
    """The training process was killed: it took too long, or its heartbeat stopped."""


class CorruptReleaseError(LearnerError, ValueError):
    """A release on disk is not what its manifest says."""

    def __init__(self, *, path: Path, found: str, expected: str) -> None:
        super().__init__(f"release file {path} is corrupt: {found}; expected {expected}")
        self.path = path


class ReleaseNotFoundError(LearnerError, LookupError):
    """No such release, in the registry or on disk."""

    def __init__(self, *, model: str, version: object, detail: str = "") -> None:
        super().__init__(f"model {model!r} has no release {version}{': ' + detail if detail else ''}")
        self.model, self.version = model, version


class StaleCandidateError(LearnerError, RuntimeError):
    """Another version serves by now than the one a candidate was trained from and judged against."""

    def __init__(self, *, model: str, parent: int | None, current: int | None) -> None:
        super().__init__(f"candidate of model {model!r} was judged against version {parent}, but {current} serves")
        self.parent, self.current = parent, current


class ReleaseWriteError(LearnerError, OSError):
    """A release could not be written (disk full, no permission); what was there before is untouched."""

    def __init__(self, *, path: Path, cause: str) -> None:
        super().__init__(f"cannot write {path}: {cause}; the incumbent is untouched")
        self.path = path


class RegistryUnavailableError(LearnerError, ConnectionError):
    """Postgres did not answer; try again after `retry_after_s` seconds."""

    def __init__(self, *, cause: str, retry_after_s: float) -> None:
        super().__init__(f"release registry is unavailable ({cause}); retry after {retry_after_s:g} s")
        self.retry_after_s = retry_after_s


class CorruptCheckpointError(LearnerError, ValueError):
    """A checkpoint of the learner cannot be read; its owner decides whether to begin anew."""

    def __init__(self, *, path: Path, cause: str) -> None:
        super().__init__(f"learner checkpoint {path} cannot be read: {cause}")
        self.path = path


class UnknownStrategyError(LearnerError, ValueError):
    """No strategy has this name."""

    def __init__(self, *, strategy: str, known: list[str]) -> None:
        super().__init__(f"strategy is {strategy!r}; expected one of {', '.join(known)}")
        self.strategy = strategy


class MissingExtraError(LearnerError, ImportError):
    """Something was chosen that needs an optional dependency, which is not installed."""

    def __init__(self, *, wanted: str, module: str, extra: str) -> None:
        super().__init__(f"{wanted} needs {module!r}, which is not installed; pip install 'alluvium[{extra}]'")
        self.wanted, self.extra = wanted, extra
