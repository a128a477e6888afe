"""What every artifact store promises, wherever fsspec reaches: whole bytes under their sum, or nothing."""

import uuid
from pathlib import Path

import pytest

from learners.disk import sha256_of
from learners.knowledge.artifacts import ArtifactStore, address_in
from learners.knowledge.errors import ArtifactStoreError, KnowledgeWriteError

PLACES = ("a folder's path", "a file URL", "memory")


@pytest.fixture(params=PLACES)
def store(request: pytest.FixtureRequest, tmp_path: Path) -> ArtifactStore:
    folder = tmp_path / "deep" / "folder with blanks"
    urls = {
        "a folder's path": str(folder),
        "a file URL": folder.as_uri().replace("%20", " "),
        "memory": f"memory://contract-{uuid.uuid4().hex}/deep",
    }
    return ArtifactStore(urls[request.param])


def names(store: ArtifactStore) -> list[str]:
    return sorted(name for name, _ in store.names())


@pytest.mark.parametrize("content", [b"", b"x", bytes(range(256)) * 5_000])
def test_what_is_written_is_read_under_its_sum(store: ArtifactStore, content: bytes) -> None:
    address = store.write(content)

    assert address == sha256_of(content)
    assert store.read(address) == content
    assert list(store.names()) == [(address, len(content))]
    assert store.write(content) == address
    assert names(store) == [address]


def test_a_place_that_holds_nothing_yet_is_empty(store: ArtifactStore) -> None:
    assert names(store) == []
    with pytest.raises(FileNotFoundError):
        store.read("0" * 64)
    store.remove("0" * 64)


def test_what_is_removed_is_gone_and_the_rest_stays(store: ArtifactStore) -> None:
    one, other = store.write(b"one"), store.write(b"other")
    store.remove(one)
    store.remove(one)

    assert names(store) == [other]
    with pytest.raises(FileNotFoundError):
        store.read(one)


def test_a_damaged_artifact_is_replaced_by_whoever_has_the_content(store: ArtifactStore) -> None:
    address = store.write(b"knowledge")
    with store._files.open(f"{store._root}/{address}", "wb") as file:
        file.write(b"knowledgf")

    store.write(b"knowledge")
    assert store.read(address) == b"knowledge"
    assert names(store) == [address]


def test_a_writer_that_cannot_rename_leaves_nothing_and_says_where(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(store, "_rename", refuse)
        with pytest.raises(KnowledgeWriteError, match=r"cannot write .*No space left on device"):
            store.write(b"knowledge")
    assert names(store) == []
    assert store.read(store.write(b"knowledge")) == b"knowledge"


def test_what_a_killed_writer_left_is_named_and_says_what_it_belongs_to(
    store: ArtifactStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die(*_: object) -> None:
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(store, "_rename", die)
        with pytest.raises(Killed):
            store.write(b"knowledge")
    (left,) = names(store)

    assert address_in(left) == sha256_of(b"knowledge") != left
    with pytest.raises(FileNotFoundError):
        store.read(sha256_of(b"knowledge"))
    store.remove(left)
    assert names(store) == []


def test_a_place_that_does_not_answer_says_so_whatever_is_asked_of_it(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"no folder")
    store = ArtifactStore(str(tmp_path / "file" / "artifacts"))
    for asked in (lambda: store.read("0" * 64), lambda: store.remove("0" * 64), lambda: list(store.names())):
        with pytest.raises(ArtifactStoreError, match=r"cannot be used: .*Not a directory.*expected that it can be"):
            asked()
    with pytest.raises(KnowledgeWriteError, match="Not a directory"):
        store.write(b"knowledge")


@pytest.mark.parametrize("address", ["", "..", "../../etc/passwd", "A" * 64, "0" * 63])
def test_what_is_no_address_is_refused(store: ArtifactStore, address: str) -> None:
    with pytest.raises(ValueError, match="expected 64 hexadecimal digits"):
        store.read(address)
