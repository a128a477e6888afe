"""The network of the session benchmark: how it is restarted at an update, trained, judged and asked."""

import math
import time
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.sessions.competitors import Competitors
from benchmarks.sessions.rows import Rows
from benchmarks.sessions.softmax import fast_dtype, full_softmax_loss
from benchmarks.sessions.spectral import Vectors, turned_towards
from learners.errors import DivergedError
from learners.model import PADDING, ModelConfig, SharedModel


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingConfig:
    """The network and how it is trained, by ours and by full retraining alike; chosen on updates 1 to 4.

    Args:
        width: D.
        layers: Attention blocks.
        heads: Attention heads.
        dropout: Inside blocks.
        input_dropout: Of the input embeddings.
        history_length: L, newest clicks that are read.
        learning_rate: Of AdamW, constant.
        batch_sessions: Sessions a step.
        max_grad_norm: Longer gradients are cut to this length.
        max_epochs: Most passes over the rows.
        least_gain: Training ends with the first pass whose mean loss is less than this share below the loss before it:
            that of the pass before, at first that of the last update's last pass; a network that knows nothing makes
            two passes at least. Nothing is set aside for it: the newest sessions are worth more as lessons than as
            judges.
        stand_ins: Items that stand in for all that the rows do not hold.
        kept: Share of what an item's row had learned that is left when it is restarted from its spectral vector.
        replay: Sessions of earlier periods that are replayed at an update, at most; ADER keeps as many.
    """

    width: int = 128
    layers: int = 2
    heads: int = 2
    dropout: float = 0.2
    input_dropout: float = 0.3
    history_length: int = 20
    learning_rate: float = 1e-3
    batch_sessions: int = 160
    max_grad_norm: float = 5.0
    max_epochs: int = 30
    least_gain: float = 0.08
    stand_ins: int = 4_096
    kept: float = 0.5
    replay: int = 30_000

    def network(self) -> ModelConfig:
        """Return the shape of the network."""
        return ModelConfig(
            width=self.width, layers=self.layers, heads=self.heads, dropout=self.dropout,
            input_dropout=self.input_dropout, history_length=self.history_length, text_width=1, hash_buckets=1,
        )  # fmt: skip


@dataclass(frozen=True, slots=True)
class Curve:
    """How a training went.

    Args:
        seconds: Processor seconds on a CPU, seconds on a GPU.
        steps: Optimizer steps.
        losses: Mean training loss of each pass.
    """

    seconds: float
    steps: int
    losses: list[float]


def clock(device: torch.device) -> float:
    """Return seconds: of the processor where it does the work, so that other work beside it does not count."""
    return time.perf_counter() if device.type == "cuda" else time.process_time()


def from_scratch(config: TrainingConfig, *, items: int, seed: int) -> SharedModel:
    """Return a network that knows nothing: item rows drawn at random."""
    torch.manual_seed(seed)
    model = SharedModel(config.network(), capacity=items + 1)
    with torch.no_grad():
        model.id_embedding.weight.normal_(std=0.05)
        model.id_embedding.weight[PADDING] = 0
    return model


def restarted(previous: SharedModel | None, vectors: Vectors, config: TrainingConfig, *, seed: int) -> SharedModel:
    """Return the network to train at an update: attention as it was, item rows pulled back to their spectral vectors.

    Fine-tuning moves the rows of items in the new period only; round after round they drift away from all others,
    and the whole decays. Spectral vectors know all periods at once. They are turned towards the rows of the previous
    network, so that its attention understands them.

    Args:
        previous: The network of the update before, if there was one.
        vectors: Spectral vectors of the items known now, row 0 for padding, [N+1, D].
        config: See `TrainingConfig`.
        seed: Of a first network's weights.
    """
    model = from_scratch(config, items=len(vectors) - 1, seed=seed)
    with torch.no_grad():
        rows = model.id_embedding.weight
        rows.zero_()
        if previous is None:
            rows[: len(vectors)] = torch.from_numpy(vectors)
        else:
            learned = previous.id_embedding.weight[: previous.capacity].cpu()
            own = {name: value for name, value in previous.state_dict().items() if name != "id_embedding.weight"}
            model.load_state_dict(own, strict=False)
            rows[: len(vectors)] = torch.from_numpy(turned_towards(vectors, learned.numpy()))
            rows[: len(learned)] += config.kept * (learned - rows[: len(learned)])
        rows[PADDING] = 0
    return model


def train(
    model: SharedModel, rows: Rows, config: TrainingConfig, *, seed: int, loss_before: float | None = None
) -> Curve:
    """Train in place until a pass gains too little.

    Args:
        model: The network.
        rows: What to train on.
        config: See `TrainingConfig`.
        seed: Source of batch order, dropout and stand-ins.
        loss_before: Of the last pass of the update before, if there was one.

    Raises:
        DivergedError: If a loss is not a finite number.
    """
    device = model.newcomer.device
    start, dtype = clock(device), fast_dtype(device)
    torch.manual_seed(seed)
    generator = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=config.learning_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True
    )
    losses: list[float] = []
    before = math.inf if loss_before is None else loss_before
    steps = 0
    model.train()
    while len(rows) and len(losses) < config.max_epochs and not settled([before, *losses], config.least_gain):
        total, count = torch.zeros((), device=device), 0
        field = Competitors.drawn(rows, items=model.capacity - 1, most=config.stand_ins, generator=generator).to(device)
        for batch in rows.batches(config.batch_sessions, generator):
            users, targets = moments(model, batch.to(device))
            items = F.embedding(field.items, model.id_embedding.weight)
            loss = full_softmax_loss(users, items, field.places[targets], stand_ins=field.stand_ins, dtype=dtype)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), config.max_grad_norm)
            optimizer.step()
            total, count, steps = total + loss.detach() * len(targets), count + len(targets), steps + 1
        losses.append(float(total) / count)
        if not math.isfinite(losses[-1]):
            raise DivergedError(step=steps, loss=losses[-1])
    return Curve(clock(device) - start, steps, losses)


def settled(losses: list[float], least_gain: float) -> bool:
    """Tell whether the newest pass gained too little.

    >>> settled([math.inf, 5.0], 0.1), settled([5.0, 4.0], 0.1), settled([5.0, 4.0, 3.9], 0.1)
    (False, False, True)
    """
    return len(losses) > 1 and losses[-1] > (1 - least_gain) * losses[-2]


def moments(model: SharedModel, rows: Rows) -> tuple[Tensor, Tensor]:
    """Return the user vector before each click but the first, [P, D], and what was clicked, [P]."""
    users = model(F.embedding(rows.tokens[:, :-1], model.id_embedding.weight), rows.lengths - 1)
    asked = rows.tokens[:, 1:] > PADDING
    return users[asked], rows.tokens[:, 1:][asked]


@torch.no_grad()
def scores_of(model: SharedModel, histories: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Return the scores of all items, in float32 so that few are equal, [Q, N+1].

    Args:
        model: The network.
        histories: Oldest first, right-padded, [Q, L].
        lengths: [Q].
    """
    model.eval()
    device = model.newcomer.device
    most = model.config.history_length
    surplus = np.maximum(lengths - most, 0)  # what is too long keeps its newest clicks
    longest = min(most, int(lengths.max(initial=1)))
    places = np.minimum(np.arange(longest) + surplus[:, None], histories.shape[1] - 1)
    tokens = torch.from_numpy(np.take_along_axis(histories, places, axis=1)).to(device)
    weight = model.id_embedding.weight
    users = model.newest(F.embedding(tokens, weight), torch.from_numpy(np.minimum(lengths, most)).to(device))
    scores: np.ndarray = (users @ weight[: model.capacity].T).cpu().numpy()
    return scores
