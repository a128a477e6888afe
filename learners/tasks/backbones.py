"""Text encoders that give a state per token: what tasks pool, adapt and fine-tune.

`learners.items.encoder` gives one vector per text and never learns; a task needs the states before pooling, and
gradients.
"""

import copy
import re
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import lru_cache
from hashlib import blake2b
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from learners.items.encoder import HASH, MINILM, TextEncoder

BATCH_TEXTS = 64
CACHE_BYTES = 256 * 1024 * 1024
_WORDS = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


class Backbone(Protocol):
    """What a task needs of a text encoder."""

    @property
    def fingerprint(self) -> str:
        """Equal fingerprints give equal states."""
        ...

    @property
    def width(self) -> int:
        """D, numbers in a state."""
        ...

    @property
    def separator(self) -> str:
        """What several texts that are read as one are joined by."""
        ...

    def network(self) -> nn.Module:
        """Return the network, tokens int64 [B, L] and mask bool [B, L] -> states [B, L, D]; never to be changed."""
        ...

    def tokens(self, texts: Sequence[str], *, most: int) -> tuple[Tensor, Tensor]:
        """Return tokens int64 [B, L] and their mask bool [B, L], cut off after `most` tokens."""
        ...


class TransformerBackbone:
    """A transformer by name: `minilm` from the offline wheel, a folder, or a name on the hub; loaded when first needed.

    Args:
        name: As `learners.items.encoder.TextEncoder` takes it.
    """

    def __init__(self, name: str = MINILM) -> None:
        self._encoder = TextEncoder(name)
        self._loaded: tuple[Any, nn.Module] | None = None

    @property
    def fingerprint(self) -> str:
        """That of the encoder."""
        return self._encoder.fingerprint

    @property
    def width(self) -> int:
        """D."""
        return self._encoder.width

    @property
    def separator(self) -> str:
        """The tokenizer's own."""
        return f" {self._load()[0].sep_token or '|'} "

    def network(self) -> nn.Module:
        """Return the transformer."""
        return self._load()[1]

    def tokens(self, texts: Sequence[str], *, most: int) -> tuple[Tensor, Tensor]:
        """Return tokens and mask, cut off by the tokenizer."""
        found = self._load()[0](
            list(texts),
            padding=True,
            truncation=True,
            max_length=most,
            return_tensors="pt",
            return_token_type_ids=False,
        )
        return found["input_ids"], found["attention_mask"].bool()

    def _load(self) -> tuple[Any, nn.Module]:
        if self._loaded is None:
            tokenizer, model = self._encoder.load()
            self._loaded = tokenizer, _LastStates(model).eval().requires_grad_(requires_grad=False)
        return self._loaded


class _LastStates(nn.Module):
    """A transformer without what it does after its last layer."""

    def __init__(self, transformer: Any) -> None:
        super().__init__()
        if getattr(transformer, "pooler", None) is not None:
            transformer.pooler = None  # unused, and would count as trained
        self.transformer = transformer

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.transformer(input_ids=tokens, attention_mask=mask.long()).last_hidden_state
        return states


class HashBackbone:
    """Words as fixed random vectors, and one linear layer that can be adapted.

    Knows no language and needs no weights; for tests, and where microseconds count.

    Args:
        width: D.
        buckets: Different words that are told apart.

    >>> states = frozen_states(HashBackbone(width=8), ["red mug", "mug"], most=4)
    >>> [tuple(each.shape) for each in states], bool((states[0][1] == states[1][0]).all())
    ([(2, 8), (1, 8)], True)
    """

    separator = " | "

    def __init__(self, *, width: int = 64, buckets: int = 4096) -> None:
        self.width, self._buckets = width, buckets
        self._network = _Hashed(width=width, buckets=buckets).eval().requires_grad_(requires_grad=False)

    @property
    def fingerprint(self) -> str:
        """The scheme and its sizes."""
        return f"{HASH}:{self.width}:{self._buckets}"

    def network(self) -> nn.Module:
        """Return the network."""
        return self._network

    def tokens(self, texts: Sequence[str], *, most: int) -> tuple[Tensor, Tensor]:
        """Return each word as its own number, [B, L]; a letter of a script without spaces is a word."""
        rows = [[1 + self._bucket(word) for word in _WORDS.findall(text.lower())[:most]] or [0] for text in texts]
        longest = max(map(len, rows), default=1)
        tokens = torch.tensor([row + [0] * (longest - len(row)) for row in rows], dtype=torch.long)
        mask = torch.tensor([[True] * len(row) + [False] * (longest - len(row)) for row in rows])
        return tokens.reshape(len(rows), longest), mask.reshape(len(rows), longest)

    def _bucket(self, word: str) -> int:
        return int.from_bytes(blake2b(word.encode("utf-8", "replace"), digest_size=8).digest(), "big") % self._buckets


class _Hashed(nn.Module):
    def __init__(self, *, width: int, buckets: int) -> None:
        super().__init__()
        self.words = nn.Embedding(buckets + 1, width)
        self.dense = nn.Linear(width, width)
        with torch.no_grad():
            drawn = torch.randn(buckets + 1, width, generator=torch.Generator().manual_seed(0))
            self.words.weight.copy_(drawn / width**0.5)
            self.dense.weight.copy_(torch.eye(width))
            self.dense.bias.zero_()

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states: Tensor = self.dense(self.words(tokens)) * mask[..., None]
        return states


class StateCache:
    """States of a frozen encoder by text, in half precision; what was unused for longest goes first.

    Args:
        most_bytes: Bound of what is remembered.
    """

    def __init__(self, most_bytes: int = CACHE_BYTES) -> None:
        self._most_bytes, self._bytes = most_bytes, 0
        self._held: OrderedDict[tuple[str, int], Tensor] = OrderedDict()

    def states(self, backbone: Backbone, texts: Sequence[str], *, most: int) -> tuple[Tensor, Tensor]:
        """Return padded states float32 [B, L, D] and their mask bool [B, L], computing only what is not remembered."""
        known = {text: self._held[text, most] for text in set(texts) if (text, most) in self._held}
        missing = [text for text in dict.fromkeys(texts) if text not in known]
        for text, states in zip(missing, frozen_states(backbone, missing, most=most), strict=True):
            known[text] = states.half()
            self._keep((text, most), known[text])
        for text in set(texts) - set(missing):
            if (text, most) in self._held:
                self._held.move_to_end((text, most))
        return padded([known[text].float() for text in texts])

    def clear(self) -> None:
        """Remember nothing."""
        self._held.clear()
        self._bytes = 0

    def _keep(self, key: tuple[str, int], states: Tensor) -> None:
        self._held[key] = states
        self._bytes += states.nbytes
        while self._bytes > self._most_bytes:
            _, gone = self._held.popitem(last=False)
            self._bytes -= gone.nbytes


def frozen_states(backbone: Backbone, texts: Sequence[str], *, most: int) -> list[Tensor]:
    """Return the states of each text, [its length, D], without gradients; alike lengths are computed together."""
    states: list[Tensor] = [torch.empty(0)] * len(texts)
    network = backbone.network()
    with torch.inference_mode():
        for rows in by_length(texts):
            tokens, mask = backbone.tokens([texts[row] for row in rows], most=most)
            for row, found, length in zip(rows, network(tokens, mask), mask.sum(dim=1).tolist(), strict=True):
                states[row] = found[:length].clone()
    return states


def by_length(texts: Sequence[str], batch: int = BATCH_TEXTS) -> Iterator[list[int]]:
    """Yield the places of the texts in batches of alike length."""
    order = sorted(range(len(texts)), key=lambda row: len(texts[row]))
    yield from (order[start : start + batch] for start in range(0, len(order), batch))


def padded(states: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return states of different lengths as one tensor [B, L, D], and its mask bool [B, L].

    >>> together, mask = padded([torch.ones(1, 2), torch.ones(2, 2)])
    >>> together.sum().item(), mask.tolist()
    (6.0, [[True, False], [True, True]])
    """
    together = nn.utils.rnn.pad_sequence(list(states), batch_first=True)
    lengths = torch.tensor([len(each) for each in states])
    return together, torch.arange(together.shape[1])[None] < lengths[:, None]


def sharing_copy(network: nn.Module, *, trainable: bool = False) -> nn.Module:
    """Return a network of the same structure that shares every frozen parameter, so that it costs next to nothing.

    Args:
        network: To be copied; parameters that are trained are copied, too.
        trainable: Copy everything and let it learn.
    """
    if trainable:
        return copy.deepcopy(network).requires_grad_(requires_grad=True)
    shared = [value for value in network.parameters() if not value.requires_grad]
    return copy.deepcopy(network, {id(value): value for value in shared})


@lru_cache(maxsize=4)
def open_backbone(name: str) -> Backbone:
    """Return the encoder that a task names; tasks that name the same share it.

    Raises:
        EncoderUnavailableError: If the weights are nowhere to be found.
    """
    return _BACKBONES.get(name, lambda: TransformerBackbone(name))()


_BACKBONES: Mapping[str, Callable[[], Backbone]] = {HASH: HashBackbone}
