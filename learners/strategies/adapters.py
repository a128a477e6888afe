"""Leave the encoder as it is and learn small additions to it: LoRA."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import Tensor

from learners.errors import MissingExtraError
from learners.strategies.incumbent import Distillation

if TYPE_CHECKING:
    from learners.rounds.rows import Rows
    from learners.rounds.training import Trainer

LAYERS = ("query", "key_value", "output", "expand", "contract")


@dataclass(frozen=True, kw_only=True)
class LowRank(Distillation):
    """Fine-tune rank-r additions to the encoder's matrices, and the item embeddings; all else stays the incumbent's.

    Additions are merged when the round ends, so what serves has the shape that it always has. A first round, which has
    no encoder to leave alone, trains everything.

    Args:
        rank: r of the additions; at least 1.
        alpha: Additions count alpha / r; above 0.

    Raises:
        MissingExtraError: On use, if `peft` is not installed.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3.
    """

    rank: int = 8
    alpha: float = 16.0

    def begin(self, trainer: "Trainer", rows: "Rows") -> None:
        """Put the additions in, and freeze what they are added to."""
        del rows
        if trainer.teacher is None:
            return
        try:
            from peft import LoraConfig, LoraModel  # noqa: PLC0415 - an optional dependency, slow to load
        except ModuleNotFoundError as error:
            raise MissingExtraError(wanted="strategy lora", module="peft", extra="adapters") from error
        config = LoraConfig(r=int(self.rank), lora_alpha=self.alpha, target_modules=list(LAYERS))
        trainer.held["adapters"] = LoraModel(trainer.model, {"default": config}, "default").to(trainer.device)
        trainer.model.id_embedding.requires_grad_(requires_grad=True)
        trainer.model.newcomer.requires_grad = True

    def finish(self, trainer: "Trainer", rows: "Rows") -> dict[str, Tensor]:
        """Merge the additions."""
        del rows
        if "adapters" in trainer.held:
            trainer.held.pop("adapters").merge_and_unload()
        return {}
