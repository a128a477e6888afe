"""What of the encoder a task may change: nothing, low-rank additions (LoRA), or everything."""

from collections.abc import Callable, Mapping

from torch import nn

from learners.errors import MissingExtraError
from learners.tasks.backbones import sharing_copy
from learners.tasks.config import TrainingConfig


def frozen(network: nn.Module, config: TrainingConfig) -> nn.Module:
    """Return the network itself, which nobody changes."""
    del config
    return network


def low_rank(network: nn.Module, config: TrainingConfig) -> nn.Module:
    """Return a copy that shares the network's weights and has trainable additions to each of its matrices.

    Raises:
        MissingExtraError: If `peft` is not installed.

    Source: Hu et al., "LoRA: Low-Rank Adaptation of Large Language Models", ICLR 2022, equation 3.
    """
    try:
        from peft import LoraConfig, LoraModel  # noqa: PLC0415 - an optional dependency, slow to load
    except ModuleNotFoundError as error:
        raise MissingExtraError(wanted="training.encoder lora", module="peft", extra="adapters") from error
    copied = sharing_copy(network)
    matrices = [name for name, module in copied.named_modules() if isinstance(module, nn.Linear)]
    additions = LoraConfig(r=config.rank, lora_alpha=config.alpha, target_modules=matrices)
    adapted: nn.Module = LoraModel(copied, {"default": additions}, "default").eval()
    return adapted


def everything(network: nn.Module, config: TrainingConfig) -> nn.Module:
    """Return a copy of its own, all of it trainable."""
    del config
    return sharing_copy(network, trainable=True)


ADAPTATIONS: Mapping[str, Callable[[nn.Module, TrainingConfig], nn.Module]] = {
    "frozen": frozen,
    "lora": low_rank,
    "full": everything,
}
