"""What tests of knowledge deposit."""

from pathlib import Path

import numpy as np
import torch
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.contents import KeyedVectors, encode_rows, encode_tensors, encode_vectors
from learners.knowledge.entry import Entry, Lineage
from learners.knowledge.store import KnowledgeStore


def open_store(database_url: str, folder: Path, *, now_ms: int = 1_700_000_000_000) -> KnowledgeStore:
    """A store on a disk, its tables there."""
    store = KnowledgeStore(postgres_url=database_url, artifacts=ArtifactStore(folder.as_uri()), clock_ms=lambda: now_ms)
    store.create()
    return store


def head(seed: int = 0, *, size: int = 4) -> bytes:
    """A head's weights."""
    generator = torch.Generator().manual_seed(seed)
    return encode_tensors({"weight": torch.randn(size, generator=generator), "bias": torch.zeros(1)})


def items(**vectors: list[float]) -> bytes:
    """Item embeddings by item_id."""
    return encode_vectors(KeyedVectors(tuple(vectors), np.array([*vectors.values()], dtype=np.float32)))


def exemplars(*rows: tuple[str, int]) -> bytes:
    """Exemplars, each of a person and the oldest event that it knows of."""
    return encode_rows({"user_id": user_id, "item_id": "mug", "since_ms": since_ms} for user_id, since_ms in rows)


def deposit_head(store: KnowledgeStore, seed: int = 0, *, task: str = "sequence", **changes: object) -> Entry:
    """Deposit a head, its lineage naming the task."""
    values = {"kind": "head", "privacy": "shop", "lineage": Lineage(task=task)} | changes
    return store.deposit(head(seed), **values)  # type: ignore[arg-type]


def write_keys(folder: Path, name: str) -> tuple[Path, Path]:
    """Write a pair of keys, <name>.key and <name>.pem."""
    folder.mkdir(exist_ok=True)
    key = Ed25519PrivateKey.generate()
    private, public = folder / f"{name}.key", folder / f"{name}.pem"
    private.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public.write_bytes(key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return private, public
