"""The shared model: items from text and identity, users from causal self-attention over their history."""

import math
from dataclasses import dataclass
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from learners.errors import InvalidModelConfigError
from learners.items.fusion import Gate
from learners.items.layout import Layout

PADDING = 0
_ID_STD, _ID_STD_TEXTLESS = (
    0.01,
    0.05,
)  # tried on Online Retail, with and without titles: more hides the text, less the item
_PICTURES_ENOUGH = 1_000  # more would hardly move their middle
_LEAST_SPREAD, _LEAST_SHARE, _FAR = 1e-6, 0.1, 5.0  # what hardly varies must not shout when it does


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    """The shape of a `SharedModel`.

    Args:
        width: D, numbers in an item or user vector; a multiple of `heads`.
        layers: Attention blocks; at least 1.
        heads: H, attention heads.
        feed_forward: Hidden width of a block's second half, in multiples of `width`.
        dropout: Share of numbers dropped inside blocks while training, in [0, 1).
        input_dropout: Share of numbers of the input embeddings dropped while training, in [0, 1).
        history_length: L, most recent interactions that the model reads.
        text_width: T, numbers in an item's text vector.
        spare_rows: Embedding rows kept free for items that arrive after a round.
        max_rows: Most embedding rows ever; items beyond share `hash_buckets`.
        hash_buckets: Rows shared by items without a row of their own.
        image_width: V, numbers in an item's picture vector; 0: items have no pictures.
        attribute_width: A, numbers in the vector of its attributes; 0: they count as part of the text only.
    """

    width: int = 64
    layers: int = 2
    heads: int = 2
    feed_forward: int = 2
    dropout: float = 0.2
    input_dropout: float = 0.2
    history_length: int = 50
    text_width: int = 384
    spare_rows: int = 1_024
    max_rows: int = 1_000_000
    hash_buckets: int = 256
    image_width: int = 0
    attribute_width: int = 0

    @property
    def described_width(self) -> int:
        """Numbers that describe an item: text, picture and attributes in one row, each zero where it is lacking.

        >>> ModelConfig(text_width=8).described_width, ModelConfig(text_width=8, image_width=4).described_width
        (8, 12)
        """
        return sum(self.layout)

    @property
    def layout(self) -> Layout:
        """Where each of them lies in that row."""
        return Layout(self.text_width, self.image_width, self.attribute_width)

    def __post_init__(self) -> None:
        """Refuse impossible shapes."""
        for name in ("width", "layers", "heads", "feed_forward", "history_length", "text_width", "max_rows"):
            if getattr(self, name) < 1:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 1")
        if self.width % self.heads:
            raise InvalidModelConfigError(name="width", value=self.width, expected=f"a multiple of heads={self.heads}")
        for name in ("dropout", "input_dropout"):
            if not 0 <= getattr(self, name) < 1:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="in [0, 1)")
        for name in ("image_width", "attribute_width"):
            if getattr(self, name) < 0:
                raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="at least 0")
        if self.spare_rows < 0 or self.hash_buckets < 1:
            name = "hash_buckets" if self.hash_buckets < 1 else "spare_rows"
            raise InvalidModelConfigError(name=name, value=getattr(self, name), expected="more rows")


class SharedModel(nn.Module):
    """Item vectors, user vectors, and their inner product as the score.

    Histories are right-padded with 0 here, so that plain causal attention never sees padding, while positions count
    from the newest interaction (position 0), so that they mean the same for short and long histories.

    Args:
        config: Its shape.
        capacity: Embedding rows for items of their own (0 is padding); see `capacity_for`.

    Source: Kang & McAuley, "Self-Attentive Sequential Recommendation", ICDM 2018, with full softmax and pre-norm.
    """

    def __init__(self, config: ModelConfig, *, capacity: int) -> None:
        super().__init__()
        self.config = config
        self.capacity = capacity
        self.text_projection = nn.Linear(config.text_width, config.width, bias=False)
        self.id_embedding = nn.Embedding(capacity + config.hash_buckets, config.width)
        self.positions = nn.Embedding(config.history_length, config.width)
        self.newcomer = nn.Parameter(torch.zeros(config.width))  # the user vector of an empty history
        self.blocks = nn.ModuleList(
            Block(
                width=config.width,
                heads=config.heads,
                hidden=config.width * config.feed_forward,
                dropout=config.dropout,
            )
            for _ in range(config.layers)
        )
        self.norm = nn.LayerNorm(config.width)
        self.input_dropout = nn.Dropout(config.input_dropout)
        nn.init.normal_(self.text_projection.weight, std=config.width**-0.5)
        nn.init.zeros_(self.id_embedding.weight)  # an item nobody has learned about is its text alone; see `admit`
        nn.init.normal_(self.positions.weight, std=0.02)
        beside_text = {"image": config.image_width, "attributes": config.attribute_width}
        self.others = nn.ModuleDict(
            {name: nn.Linear(size, config.width, bias=False) for name, size in beside_text.items() if size}
        )
        for weight in self.others.parameters():
            nn.init.normal_(weight, std=config.width**-0.5)
        self.gate = Gate(parts=1 + len(self.others), width=config.width) if self.others else None
        self.scale = Standard(config.image_width) if config.image_width else None

    def item_vectors(self, text_vectors: Tensor, item_indexes: Tensor) -> Tensor:
        """Return item vectors [n, D] for what describes them, [n, `described_width`], and item indexes [n]."""
        own: Tensor = self.id_embedding(self.rows_of(item_indexes))
        return own + self.described(text_vectors)

    def described(self, vectors: Tensor) -> Tensor:
        """Return what descriptions alone say of items, [n, D]: the text, or a gated mix of what there is.

        Args:
            vectors: Text, picture and attributes side by side, [n, `described_width`]; zeros for what an item lacks.
        """
        if self.gate is None:
            said: Tensor = self.text_projection(vectors)
            return said
        parts, present = self._told(vectors)
        values = [
            project(part) for project, part in zip([self.text_projection, *self.others.values()], parts, strict=True)
        ]
        mixed: Tensor = self.gate(values, present)
        return mixed

    def comparable(self, vectors: Tensor) -> Tensor:
        """Return descriptions as unit vectors, [n, `described_width`], so that alike items point the same way.

        Text vectors are of unit length as they come; a picture weighs as much.
        """
        if self.gate is None:
            return vectors
        return F.normalize(torch.cat(self._told(vectors)[0], dim=1), dim=1)

    def look_at(self, vectors: Tensor) -> None:
        """Find the middle and the spread of pictures, if the model has not seen many yet; see `Standard`."""
        if self.scale is not None:
            text, image, _ = self.config.layout
            self.scale.look_at(vectors[:, text : text + image])

    def _told(self, vectors: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the descriptions, pictures on the model's scale, and which are there, bool [n, M]."""
        layout = self.config.layout
        parts = list(vectors.split([size for size in layout if size], dim=1))
        present = torch.stack([part.any(dim=1) for part in parts], dim=1)
        if self.scale is not None:
            parts[1] = self.scale(parts[1], present[:, 1:2])
        return parts, present

    @torch.no_grad()
    def admit(self, start: int, text_vectors: Tensor) -> None:
        """Give new items their first rows: nearly nothing where text tells them apart, else enough to do so.

        Args:
            start: Index of the first new item.
            text_vectors: Text vectors of the items from there on, [n, T].
        """
        stop = min(start + len(text_vectors), self.capacity)
        std = torch.where(text_vectors[: max(0, stop - start)].any(dim=1, keepdim=True), _ID_STD, _ID_STD_TEXTLESS)
        rows = self.id_embedding.weight[start : start + len(std)]
        rows.copy_(torch.randn(rows.shape) * std)
        self.id_embedding.weight[PADDING] = 0

    def rows_of(self, item_indexes: Tensor) -> Tensor:
        """Return the embedding row of every index: its own, or a shared one beyond the capacity."""
        shared = self.capacity + item_indexes % self.config.hash_buckets
        return torch.where(item_indexes < self.capacity, item_indexes, shared)

    def forward(self, history_vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return the user vector after each interaction of each history.

        Args:
            history_vectors: Item vectors of right-padded histories, oldest first, [B, L, D].
            lengths: Interactions in each history, [B].

        Returns:
            User vectors [B, L, D]; at position t they know interactions 0..t. Padding positions hold no meaning.
        """
        x = self._input(history_vectors, lengths)
        for block in self.blocks:
            x = block(x)
        users: Tensor = self.norm(x)
        return users

    def newest(self, history_vectors: Tensor, lengths: Tensor) -> Tensor:
        """Return only the newest user vector of each history, [B, D]; a third cheaper than `forward`.

        An empty history gives the `newcomer` vector. Arguments as in `forward`.
        """
        x = self._input(history_vectors, lengths)
        *earlier, last = (cast("Block", block) for block in self.blocks)
        for block in earlier:
            x = block(x)
        users = self.norm(last.newest(x, lengths))
        return torch.where((lengths > 0)[:, None], users, self.newcomer)

    def _input(self, history_vectors: Tensor, lengths: Tensor) -> Tensor:
        steps = torch.arange(history_vectors.shape[1], device=lengths.device)
        from_newest = (lengths[:, None] - 1 - steps).clamp_(0, self.config.history_length - 1)
        scaled = history_vectors * math.sqrt(self.config.width)
        dropped: Tensor = self.input_dropout(scaled + self.positions(from_newest))
        return dropped

    def grown(self, capacity: int) -> "SharedModel":
        """Return a copy with at least this capacity; new rows start at zero, shared rows move behind them."""
        capacity = max(capacity, self.capacity)
        copy = SharedModel(self.config, capacity=capacity)
        state = {name: value.detach().clone() for name, value in self.state_dict().items()}
        old = state.pop("id_embedding.weight")
        copy.load_state_dict(state, strict=False)
        with torch.no_grad():
            copy.id_embedding.weight[: self.capacity] = old[: self.capacity]
            copy.id_embedding.weight[capacity:] = old[self.capacity :]
        return copy


class Standard(nn.Module):
    """Middle and spread of pictures' vectors, so that a picture says how it differs from others.

    Args:
        width: V.

    >>> standard, pictures = Standard(2), torch.tensor([[9.0, 0.1], [9.0, 0.3], [11.0, 0.1], [11.0, 0.3], [0.0, 0.0]])
    >>> standard.look_at(pictures)
    >>> found = standard(pictures, pictures.any(dim=1, keepdim=True))
    >>> bool(found[1] @ found[1] > 0.5 > found[0] @ found[3]), found[4].tolist()
    (True, [0.0, 0.0])
    """

    middle: Tensor
    spread: Tensor
    seen: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("middle", torch.zeros(width))
        self.register_buffer("spread", torch.ones(width))
        self.register_buffer("seen", torch.zeros(()))

    def look_at(self, pictures: Tensor) -> None:
        """Take the measure of these pictures, [n, V], zeros for none, if they are many more than those seen before."""
        there = pictures[pictures.any(dim=1)].double()
        if not len(there) or self.seen >= _PICTURES_ENOUGH or len(there) < 2 * self.seen:
            return
        self.seen.fill_(len(there))
        if len(there) == 1:  # the only picture of a shop has nothing to differ from
            there = torch.cat([there, -there])
        spread = there.std(dim=0, correction=0)
        self.middle.copy_(there.mean(dim=0))
        self.spread.copy_(spread.clamp(min=_LEAST_SPREAD + _LEAST_SHARE * float(spread.mean())))

    def forward(self, pictures: Tensor, present: Tensor) -> Tensor:
        """Return pictures [n, V] at a length around 1, zeros where one is not `present`, bool [n, 1]."""
        steps = ((pictures - self.middle) / self.spread).clamp(-_FAR, _FAR)
        return torch.where(present, steps / math.sqrt(steps.shape[1]), 0.0)


def capacity_for(config: ModelConfig, items: int) -> int:
    """Return the embedding rows to allocate for `items` (padding included): room to spare, rounded, bounded.

    >>> capacity_for(ModelConfig(spare_rows=100, max_rows=5_000), 1_000)
    1280
    >>> capacity_for(ModelConfig(spare_rows=100, max_rows=5_000), 9_000)
    5000
    """
    rounding = 256
    return min(config.max_rows, -(-(items + config.spare_rows) // rounding) * rounding)


class Block(nn.Module):
    """Causal self-attention and a feed-forward network, each behind a layer norm and added to its input."""

    def __init__(self, *, width: int, heads: int, hidden: int, dropout: float) -> None:
        super().__init__()
        self.heads, self.dropout = heads, dropout
        self.attention_norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        self.key_value = nn.Linear(width, 2 * width)
        self.output = nn.Linear(width, width)
        self.forward_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.contract = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Return the block's output for every position, [B, L, D]."""
        normed = self.attention_norm(x)
        key, value = self.key_value(normed).chunk(2, dim=-1)
        attended = F.scaled_dot_product_attention(
            self._split(self.query(normed)),
            self._split(key),
            self._split(value),
            dropout_p=self.dropout if self.training else 0.0,
            is_causal=True,
        )
        return self._finish(x, attended)

    def newest(self, x: Tensor, lengths: Tensor) -> Tensor:
        """Return the block's output for the newest real position of each row, [B, D]."""
        batch, length, _ = x.shape
        normed = self.attention_norm(x)
        key, value = self.key_value(normed).chunk(2, dim=-1)
        rows = torch.arange(batch, device=x.device)
        newest = (lengths - 1).clamp(min=0)
        real = torch.arange(length, device=x.device) < lengths.clamp(min=1)[:, None]  # [B, L]
        attended = F.scaled_dot_product_attention(
            self._split(self.query(normed[rows, newest])[:, None]),
            self._split(key),
            self._split(value),
            attn_mask=real[:, None, None],
        )
        finished: Tensor = self._finish(x[rows, newest][:, None], attended)
        return finished[:, 0]

    def _split(self, x: Tensor) -> Tensor:
        by_head: Tensor = x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # [B, H, L, D/H]
        return by_head

    def _finish(self, x: Tensor, attended: Tensor) -> Tensor:
        joined = self.output(attended.transpose(1, 2).flatten(2))
        x = x + F.dropout(joined, self.dropout, self.training)
        hidden = F.gelu(self.expand(self.forward_norm(x)), approximate="tanh")
        added: Tensor = F.dropout(self.contract(hidden), self.dropout, self.training)
        return x + added
