"""Archives: what was exported comes back whole on another machine; what was tampered with comes in not at all."""

import copy
import io
import json
import resource
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import psycopg
import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from learners.knowledge import archive, tables
from learners.knowledge.archive import export_archive, import_archive
from learners.knowledge.artifacts import ArtifactStore
from learners.knowledge.entry import Entry, Lineage, describe
from learners.knowledge.errors import (
    ArchiveRefusedError,
    CorruptKnowledgeError,
    KeyFileError,
    KnowledgeNotFoundError,
    KnowledgeRefusedError,
    KnowledgeWriteError,
    PrivateEntryError,
)
from learners.knowledge.keys import SigningKey, TrustedKey, load_signing_key, load_trusted_keys
from learners.knowledge.store import KnowledgeStore
from tests.learners.knowledge_data import deposit_head, exemplars, items, open_store, write_keys

Members = list[tuple[tarfile.TarInfo, bytes]]
MOST = 10_000_000


@pytest.fixture
def key(tmp_path: Path) -> SigningKey:
    return load_signing_key(write_keys(tmp_path / "keys", "shop")[0])


@pytest.fixture
def trusted(tmp_path: Path, key: SigningKey) -> tuple[TrustedKey, ...]:
    return load_trusted_keys(tmp_path / "keys")


@pytest.fixture
def here(knowledge_url: str, tmp_path: Path) -> KnowledgeStore:
    return open_store(knowledge_url, tmp_path / "here")


@pytest.fixture
def there(database_url: str, tmp_path: Path) -> KnowledgeStore:
    """Another installation."""
    return open_store(database_url, tmp_path / "there")


def assert_untouched(store: KnowledgeStore) -> None:
    assert store.entries() == []
    assert list(store.artifacts.names()) == []


def test_what_leaves_comes_back_whole(
    here: KnowledgeStore, there: KnowledgeStore, key: SigningKey, trusted: tuple[TrustedKey, ...], tmp_path: Path
) -> None:
    parent = deposit_head(here, 1, worth={"ndcg_10": 0.2}, embedding=[0.5, 0.1])
    vectors = here.deposit(
        items(mug=[1.0, 0.0], tea=[0.0, 1.0]),
        kind="item_embeddings",
        privacy="public",
        lineage=Lineage(task="sequence", parents=(parent.entry_id,), offsets={"0": 9}),
    )
    twin = deposit_head(here, 1, task="twin")  # the same artifact

    sent = export_archive(
        here, tmp_path / "a.tar", entry_ids=[parent.entry_id[:12], vectors.entry_id, twin.entry_id], key=key, shop=True
    )
    got = import_archive(there, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)

    assert list(got.added) == sent == [parent, vectors, twin]
    assert got.signed_by == key.fingerprint
    assert there.entries() == here.entries()
    for entry in sent:
        assert there.read(entry.entry_id) == here.read(entry.entry_id)
    assert [match.key for match in there.nearest_keys([1.0, 0.0], k=1)] == ["mug"]
    assert there.nearest([0.5, 0.1])[0].entry == parent
    again = import_archive(there, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    assert (again.added, list(again.known)) == ((), sent)
    assert len(there.entries()) == 3


def test_what_is_personal_never_leaves_and_what_is_the_shops_only_when_it_is_said(
    here: KnowledgeStore, key: SigningKey, tmp_path: Path
) -> None:
    raw = here.deposit(exemplars(("ada", 1)), kind="exemplars", privacy="personal", lineage=Lineage(task="sequence"))
    own = deposit_head(here)

    for shop in (False, True):
        with pytest.raises(PrivateEntryError, match=f"{raw.entry_id} is personal and does not leave; nothing"):
            export_archive(here, tmp_path / "a.tar", entry_ids=[raw.entry_id], key=key, shop=shop)
    with pytest.raises(PrivateEntryError, match="is shop and does not leave; unless you say so"):
        export_archive(here, tmp_path / "a.tar", entry_ids=[own.entry_id], key=key)
    assert list(tmp_path.glob("*a.tar*")) == []


def test_a_damaged_artifact_does_not_leave(here: KnowledgeStore, key: SigningKey, tmp_path: Path) -> None:
    entry = deposit_head(here, privacy="public")
    (tmp_path / "here" / entry.sha256).write_bytes(b"damaged")

    with pytest.raises(CorruptKnowledgeError, match=entry.entry_id):
        export_archive(here, tmp_path / "a.tar", entry_ids=[entry.entry_id], key=key)
    with pytest.raises(KnowledgeNotFoundError):
        export_archive(here, tmp_path / "a.tar", entry_ids=["0" * 64], key=key)
    assert list(tmp_path.glob("*a.tar*")) == []


def test_a_full_disk_leaves_no_archive(here: KnowledgeStore, key: SigningKey, tmp_path: Path) -> None:
    entry = deposit_head(here, privacy="public")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (600, hard))
    try:
        with pytest.raises(KnowledgeWriteError, match=r"a\.tar: .*File too large"):
            export_archive(here, tmp_path / "a.tar", entry_ids=[entry.entry_id], key=key)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert list(tmp_path.glob("*a.tar*")) == []


# ---- tampered with


def take_apart(path: Path) -> Members:
    with tarfile.open(path) as tar:
        return [(member, tar.extractfile(member).read()) for member in tar if member.isreg()]  # type: ignore[union-attr]


def put_together(path: Path, members: Members, mode: str = "w") -> None:
    with tarfile.open(path, mode) as tar:  # type: ignore[call-overload]
        for member, content in members:
            member.size = len(content) if member.isreg() else 0
            tar.addfile(member, io.BytesIO(content))


def flipped(content: bytes, position: int = -1) -> bytes:
    changed = bytearray(content)
    changed[position] ^= 1
    return bytes(changed)


def renamed(member: tarfile.TarInfo, name: str) -> tarfile.TarInfo:
    other = tarfile.TarInfo(name)
    other.size = member.size
    return other


def link(name: str, target: str) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.type, member.linkname = tarfile.SYMTYPE, target
    return member


def resigned(change: Callable[[dict], None]) -> Callable[[Members, SigningKey], Members]:
    """What the owner of a trusted key might send."""

    def tamper(members: Members, key: SigningKey) -> Members:
        manifest = json.loads(members[0][1])
        change(manifest)
        content = json.dumps(manifest).encode()
        return [(members[0][0], content), (members[1][0], key.sign(content)), *members[2:]]

    return tamper


def as_personal(manifest: dict) -> None:
    old = manifest["entries"][0]
    rest = {name: value for name, value in old.items() if name not in {"entry_id", "lineage"}} | {"privacy": "personal"}
    entry = describe(lineage=Lineage(**{**old["lineage"], "parents": ()}), **rest)
    manifest["entries"][0] = entry.as_dict()


def as_vectors(manifest: dict) -> None:
    old = manifest["entries"][0]
    rest = {name: value for name, value in old.items() if name not in {"entry_id", "lineage"}} | {"kind": "prototypes"}
    manifest["entries"][0] = describe(lineage=Lineage(**{**old["lineage"], "parents": ()}), **rest).as_dict()


TAMPERED: dict[str, tuple[Callable[[Members, SigningKey], Members], str]] = {
    "no signature": (lambda m, _: [m[0], *m[2:]], "where manifest.sig is expected"),
    "an empty signature": (lambda m, _: [m[0], (m[1][0], b""), *m[2:]], "no trusted key signed"),
    "a changed signature": (lambda m, _: [m[0], (m[1][0], flipped(m[1][1])), *m[2:]], "no trusted key signed"),
    "a signature of a megabyte": (lambda m, _: [m[0], (m[1][0], bytes(2**20)), *m[2:]], "expected at most 64"),
    "a changed manifest": (
        lambda m, _: [(m[0][0], m[0][1].replace(b'"shop"', b'"public"')), *m[1:]],
        "no trusted key signed",
    ),
    "a flipped byte in an artifact": (lambda m, _: [*m[:-1], (m[-1][0], flipped(m[-1][1]))], "has sha256"),
    "a longer artifact": (lambda m, _: [*m[:-1], (m[-1][0], m[-1][1] + b"x")], "bytes; its manifest says"),
    "a missing artifact": (lambda m, _: m[:-1], "it lacks artifacts/"),
    "one artifact too many": (
        lambda m, _: [*m, (renamed(m[-1][0], "artifacts/" + "0" * 64), b"x")],
        "is not in its manifest",
    ),
    "an artifact twice": (lambda m, _: [*m, (renamed(m[-1][0], m[-1][0].name), m[-1][1])], "comes twice"),
    "a way out of the folder": (
        lambda m, _: [*m[:-1], (renamed(m[-1][0], "artifacts/../../" + m[-1][0].name[-64:]), m[-1][1])],
        "is not in its manifest",
    ),
    "an absolute path": (lambda m, _: [*m, (renamed(m[-1][0], "/etc/cron.d/x"), b"x")], "is not in its manifest"),
    "a link": (lambda m, _: [*m[:-1], (link(m[-1][0].name, "/etc/passwd"), b"")], "is no plain file"),
    "a link for a manifest": (
        lambda m, _: [(link("manifest.json", "/etc/passwd"), b""), *m[1:]],
        "where manifest.json",
    ),
    "another order": (lambda m, _: [m[1], m[0], *m[2:]], "where manifest.json is expected"),
    "nothing": (lambda m, _: [], "it has nothing where manifest.json is expected"),
    "no JSON, signed": (
        lambda m, key: [(m[0][0], b"{"), (m[1][0], key.sign(b"{")), *m[2:]],
        "its manifest is wrong",
    ),
    "another format, signed": (resigned(lambda m: m.update(format=2)), "its format is 2; expected 1"),
    "an entry's worth made up, signed": (
        resigned(lambda m: m["entries"][0]["worth"].update(ndcg_10=0.99)),
        "its manifest is wrong: .*entry_id",
    ),
    "another size, signed": (
        resigned(lambda m: m["artifacts"].update(dict.fromkeys(m["artifacts"], 3))),
        "artifacts are not those of its entries",
    ),
    "a personal entry, signed": (resigned(as_personal), "is personal and must not travel"),
    "a head that says it is prototypes, signed": (resigned(as_vectors), "expected vectors with keys"),
}


@pytest.fixture(scope="module")
def sent(
    postgres_url: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[str, Members, SigningKey, tuple[TrustedKey, ...]]]:
    """An archive's members, its keys, and a database that has nothing of it."""
    folder = tmp_path_factory.mktemp("sent")
    with psycopg.connect(postgres_url, autocommit=True) as connection:
        connection.execute("CREATE DATABASE knowledge_tampered TEMPLATE template0")
        url = postgres_url.rsplit("/", 1)[0] + "/knowledge_tampered"
        key = load_signing_key(write_keys(folder / "keys", "shop")[0])
        exported(open_store(url, folder / "artifacts"), key, folder / "a.tar")
        yield url, take_apart(folder / "a.tar"), key, load_trusted_keys(folder / "keys")
        connection.execute("DROP DATABASE knowledge_tampered WITH (FORCE)")


@pytest.mark.parametrize("case", TAMPERED)
def test_what_was_tampered_with_is_refused_and_leaves_nothing(
    case: str, sent: tuple[str, Members, SigningKey, tuple[TrustedKey, ...]], tmp_path: Path
) -> None:
    url, members, key, trusted = sent
    tamper, message = TAMPERED[case]
    put_together(tmp_path / "a.tar", tamper([(copy.copy(member), content) for member, content in members], key))
    there = KnowledgeStore(postgres_url=url, artifacts=ArtifactStore((tmp_path / "there").as_uri()))

    with pytest.raises(ArchiveRefusedError, match=message) as raised:
        import_archive(there, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    assert "nothing of it was taken in" in str(raised.value)
    assert_untouched(there)


def test_what_was_only_taken_apart_and_put_together_is_taken_in(
    sent: tuple[str, Members, SigningKey, tuple[TrustedKey, ...]], database_url: str, tmp_path: Path
) -> None:
    _, members, _, trusted = sent
    put_together(tmp_path / "a.tar", members)

    got = import_archive(
        open_store(database_url, tmp_path / "there"), tmp_path / "a.tar", trusted=trusted, max_bytes=MOST
    )
    assert len(got.added) == 1


def exported(here: KnowledgeStore, key: SigningKey, path: Path) -> Entry:
    entry = deposit_head(here)
    export_archive(here, path, entry_ids=[entry.entry_id], key=key, shop=True)
    with tables.connect(here.postgres_url) as connection:
        connection.execute("DELETE FROM knowledge_entries")
    here.artifacts.remove(entry.sha256)
    return entry


def test_an_unknown_key_is_refused(here: KnowledgeStore, key: SigningKey, tmp_path: Path) -> None:
    exported(here, key, tmp_path / "a.tar")
    write_keys(tmp_path / "others", "stranger")

    with pytest.raises(ArchiveRefusedError, match="no trusted key signed its manifest"):
        import_archive(here, tmp_path / "a.tar", trusted=load_trusted_keys(tmp_path / "others"), max_bytes=MOST)
    assert_untouched(here)


def test_what_unpacks_to_more_than_it_may_is_refused(
    here: KnowledgeStore,
    key: SigningKey,
    trusted: tuple[TrustedKey, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    exported(here, key, tmp_path / "a.tar")

    with pytest.raises(ArchiveRefusedError, match=r"its artifacts have .* bytes; expected at most 100"):
        import_archive(here, tmp_path / "a.tar", trusted=trusted, max_bytes=100)
    monkeypatch.setattr(archive, "_OVERHEAD_BYTES", 0)
    with pytest.raises(ArchiveRefusedError, match=r"it has \d+ bytes; expected at most 100"):
        import_archive(here, tmp_path / "a.tar", trusted=trusted, max_bytes=100)
    assert_untouched(here)


@pytest.mark.parametrize("mode", ["w:gz", "w:xz", "w:bz2"])
def test_a_compressed_archive_is_refused_unopened(
    here: KnowledgeStore, key: SigningKey, trusted: tuple[TrustedKey, ...], tmp_path: Path, mode: str
) -> None:
    exported(here, key, tmp_path / "a.tar")
    put_together(tmp_path / "a.tar", [*take_apart(tmp_path / "a.tar"), (tarfile.TarInfo("bomb"), bytes(10**7))], mode)

    with pytest.raises(ArchiveRefusedError, match="cannot be read as a tar"):
        import_archive(here, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    assert_untouched(here)


def test_an_archive_cut_short_anywhere_is_refused(
    here: KnowledgeStore, key: SigningKey, trusted: tuple[TrustedKey, ...], tmp_path: Path
) -> None:
    path = tmp_path / "a.tar"
    exported(here, key, path)
    whole = path.read_bytes()
    content_end = len(whole.rstrip(b"\0"))
    for length in (0, 100, 512, 700, 2_000, content_end - 200, content_end - 1):
        path.write_bytes(whole[:length])
        with pytest.raises(ArchiveRefusedError):
            import_archive(here, path, trusted=trusted, max_bytes=MOST)
    with pytest.raises(ArchiveRefusedError, match="cannot be read as a tar"):
        import_archive(here, tmp_path / "missing.tar", trusted=trusted, max_bytes=MOST)
    assert_untouched(here)


def test_a_disk_that_fills_up_during_an_import_leaves_nothing_readable(
    here: KnowledgeStore, key: SigningKey, trusted: tuple[TrustedKey, ...], tmp_path: Path
) -> None:
    entry = exported(here, key, tmp_path / "a.tar")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    try:
        with pytest.raises(KnowledgeWriteError, match="File too large"):
            import_archive(here, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert_untouched(here)

    import_archive(here, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    assert here.entries() == [entry]


def test_a_row_that_cannot_be_written_takes_all_others_with_it(
    there: KnowledgeStore, key: SigningKey, trusted: tuple[TrustedKey, ...], tmp_path: Path
) -> None:
    entries = [deposit_head(there, seed, task=f"task-{seed}") for seed in range(4)]
    export_archive(there, tmp_path / "a.tar", entry_ids=[entry.entry_id for entry in entries], key=key, shop=True)
    with tables.connect(there.postgres_url) as connection:
        connection.execute("DELETE FROM knowledge_entries")
        connection.execute("ALTER TABLE knowledge_entries ADD CONSTRAINT no_third CHECK (task <> 'task-2')")

    with pytest.raises(KnowledgeRefusedError, match="no_third"):
        import_archive(there, tmp_path / "a.tar", trusted=trusted, max_bytes=MOST)
    assert there.entries() == []


# ---- keys


def test_key_files_that_are_none_are_named(tmp_path: Path) -> None:
    private, public = write_keys(tmp_path / "keys", "shop")
    other = tmp_path / "ec.key"
    other.write_bytes(
        generate_private_key(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    )
    (tmp_path / "empty").mkdir()

    for load, path in (
        (load_signing_key, public),
        (load_signing_key, other),
        (load_signing_key, tmp_path / "none"),
        (load_trusted_keys, private),
        (load_trusted_keys, tmp_path / "empty"),
        (load_trusted_keys, tmp_path / "none"),
    ):
        with pytest.raises(KeyFileError, match=str(path)):
            load(path)
    assert load_signing_key(private).fingerprint == load_trusted_keys(public)[0].fingerprint
