"""One market teaches: its model is trained once and kept in a knowledge store, as the learner would keep it."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch

from learners.knowledge.accumulation import Accumulation
from learners.knowledge.collection import CollectionConfig
from learners.knowledge.contents import KeyedVectors, decode_tensors, decode_vectors, encode_tensors, encode_vectors
from learners.knowledge.store import KnowledgeStore
from learners.releases.registry import ReleaseRecord
from learners.releases.release import load_release
from learners.rounds.material import RoundInput
from learners.rounds.round import RESULT, RoundResult, run_round

MAX_BYTES = 10**9


def teach(
    store: KnowledgeStore, round_input: RoundInput, folder: Path, *, task: str, encoder: str
) -> Mapping[str, float]:
    """Train a market's model from scratch, unless that was done in this folder, and deposit what it learned.

    Returns:
        Its figures at the gate.
    """
    folder.mkdir(parents=True, exist_ok=True)
    result = RoundResult.load(folder) if (folder / RESULT).exists() else run_round(round_input, folder)
    assert result.candidate is not None, "a donor without purchases teaches nothing"
    record = ReleaseRecord(
        model="shared_model",
        version=1,
        sequence=1,
        kind="release",
        uri=result.candidate.absolute().as_uri(),
        sha256="",
        parent=None,
        offsets={},
        metrics=result.metrics,
        verdict=result.verdict,
        triggered_at_ms=0,
        released_at_ms=0,
    )
    accumulation = Accumulation(store, collection=CollectionConfig(max_bytes=MAX_BYTES), task=task, encoder=encoder)
    accumulation.keep(record, load_release(result.candidate), round_input, round_key=task)
    return result.metrics


def deposit_shuffled(right: KnowledgeStore, wrong: KnowledgeStore, *, seed: int = 0) -> int:
    """Copy what was taught into another store with its numbers shuffled: it looks as fit, and is worth nothing.

    Every tensor of the trunk has its numbers in another order, and item vectors belong to other items. Tasks, vectors
    of tasks and measured worth are those of the rightful entries. Returns how many entries that are.
    """
    done = 0
    for entry in right.entries():
        content = right.verified(entry)
        if entry.kind == "adapter":
            content = encode_tensors(shuffled(decode_tensors(content), seed=seed))
        elif entry.kind == "item_embeddings":
            kept = decode_vectors(content)
            order = np.random.default_rng(seed).permutation(len(kept.keys))
            content = encode_vectors(KeyedVectors(kept.keys, kept.vectors[order]))
        else:
            continue
        wrong.deposit(
            content,
            kind=entry.kind,
            lineage=entry.lineage,
            privacy=entry.privacy,
            worth=entry.worth,
            embedding=entry.embedding,
        )
        done += 1
    return done


def shuffled(tensors: Mapping[str, torch.Tensor], *, seed: int) -> dict[str, torch.Tensor]:
    """Return every tensor with its numbers in another order.

    >>> mixed = shuffled({"w": torch.arange(6.0).view(2, 3)}, seed=0)["w"]
    >>> mixed.shape, mixed.flatten().sort().values.tolist() == [0, 1, 2, 3, 4, 5], mixed[0, 0].item() == 0
    (torch.Size([2, 3]), True, False)
    """
    generator = torch.Generator().manual_seed(seed)
    return {
        name: value.flatten()[torch.randperm(value.numel(), generator=generator)].view_as(value)
        for name, value in tensors.items()
    }
