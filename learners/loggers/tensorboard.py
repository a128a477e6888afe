"""Rounds for TensorBoard: `tensorboard --logdir FOLDER`."""

from pathlib import Path

from learners.loggers.record import RoundRecord

SHOWN_ITEMS = 10_000  # the projector runs in a browser


class TensorBoardLogger:
    """Write event files: curves of each round in a run of its own, figures over rounds and embeddings in `rounds`.

    Args:
        folder: What TensorBoard is pointed at.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def log(self, record: RoundRecord) -> None:
        """Write one round: loss and gradient norm by step, the rest by interactions, the newest items' vectors."""
        from torch.utils.tensorboard import SummaryWriter  # noqa: PLC0415 - an optional dependency, slow to load

        with SummaryWriter(str(self._folder / record.key)) as curves:
            for tag, values in (("loss", record.losses), ("gradient_norm", record.gradient_norms)):
                for step, value in enumerate(values, start=1):
                    curves.add_scalar(f"training/{tag}", value, step)
        first = max(1, len(record.item_ids) - SHOWN_ITEMS)
        with SummaryWriter(str(self._folder / "rounds")) as rounds:
            for name, value in record.scalars().items():
                rounds.add_scalar(name, value, record.interactions)
            rounds.add_text("round/strategy", record.strategy, record.interactions)
            rounds.add_embedding(
                record.item_vectors[first:],
                metadata=list(record.item_ids[first:]),
                global_step=record.interactions,
                tag="items",
            )
