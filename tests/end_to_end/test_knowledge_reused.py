"""A learner without a release begins from knowledge that another shop sent it, whatever kills it on the way."""

from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from learners.knowledge.archive import export_archive, import_archive
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.keys import load_signing_key, load_trusted_keys
from learners.knowledge.store import KnowledgeStore
from learners.releases.registry import Registry
from tests.brokers import EmbeddedBroker
from tests.learner_runs import LearnerRun, Shop, interactions

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
ENOUGH = {"round_interactions": 500, "keeping": True}


def store_of(run: LearnerRun, postgres_url: str) -> KnowledgeStore:
    artifacts = ArtifactStore((run.data_dir / "knowledge").as_uri())
    store = KnowledgeStore(postgres_url=postgres_url, artifacts=artifacts)
    store.create()
    return store


def test_a_first_round_killed_twice_starts_from_an_imported_archive(
    embedded_kafka: EmbeddedBroker, database_url: str, tmp_path: Path
) -> None:
    shop = Shop(embedded_kafka, partitions=1)
    shop.happen(interactions(700, partitions=1))
    teacher = LearnerRun(shop, postgres_url=database_url, data_dir=tmp_path / "a", first_epochs=20, **ENOUGH)
    pupil_url = database_url + "_pupil"
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {pupil_url.rsplit('/', 1)[1]} TEMPLATE template0")
    pupil = LearnerRun(shop, postgres_url=pupil_url, data_dir=tmp_path / "b", first_epochs=2, **ENOUGH)
    try:
        teacher.start()
        teacher.until(lambda now: now["releases"] == 1 and not now["round_running"])
        assert teacher.stop() == 0
        sent = send(store_of(teacher, database_url), store_of(pupil, pupil_url), tmp_path)

        pupil.start(kill_at="round in a checkpoint")
        pupil.until_killed()
        pupil.start(kill_at="round trained")
        pupil.until_killed()
        pupil.start()
        progress = pupil.until(lambda now: now["releases"] == 1 and not now["round_running"] and now["start"])
        assert pupil.stop() == 0
        assert progress["start"]["entry_id"] == sent["adapter"]
        record = Registry(postgres_url=pupil_url, root=tmp_path / "b" / "models").list()[0]
        assert record.metrics["reused"] == 1.0
        assert record.verdict["start"]["entry_id"] == sent["adapter"]
        own = [
            entry for entry in store_of(pupil, pupil_url).entries(kind="adapter") if entry.entry_id not in sent.values()
        ]
        assert [entry.lineage.parents for entry in own] == [tuple(sorted((sent["adapter"], sent["item_embeddings"])))]
    finally:
        for run in (teacher, pupil):
            if run.process is not None and run.process.poll() is None:
                run.kill()
        with psycopg.connect(database_url, autocommit=True) as connection:
            connection.execute(f"DROP DATABASE {pupil_url.rsplit('/', 1)[1]} WITH (FORCE)")


def send(sender: KnowledgeStore, receiver: KnowledgeStore, folder: Path) -> dict[str, str]:
    """Export all that one shop knows and import it at another; returns the entries' ids by kind."""
    key = Ed25519PrivateKey.generate()
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (folder / "public.pem").write_bytes(public)
    ids = [entry.entry_id for entry in sender.entries()]
    export_archive(sender, folder / "k.tar", entry_ids=ids, key=load_signing_key(folder / "key.pem"), shop=True)
    trusted = load_trusted_keys(folder / "public.pem")
    import_archive(receiver, folder / "k.tar", trusted=trusted, max_bytes=10**9)
    return {entry.kind: entry.entry_id for entry in receiver.entries()}
