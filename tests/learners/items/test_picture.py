"""Pictures are read within bounds, and whatever is wrong with one is a counted reason."""

import http.server
import io
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from learners.items.image import PictureVectors, StatisticsEncoder
from learners.items.picture import PictureSource, RejectedPicture


def png(colour: str = "red", size: tuple[int, int] = (20, 30)) -> bytes:
    content = io.BytesIO()
    Image.new("RGB", size, colour).save(content, "PNG")
    return content.getvalue()


class Shop(http.server.BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/slow":
            time.sleep(1)
        if self.path == "/away":
            self.send_response(302)
            self.send_header("Location", "ftp://elsewhere/x")
            self.end_headers()
            return
        self.send_response(200 if self.path != "/gone" else 404)
        self.end_headers()
        self.wfile.write(b"x" * 5_000 if self.path == "/large" else png())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def shop() -> Iterator[str]:
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Shop)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


def reason(found: object) -> str:
    assert isinstance(found, RejectedPicture)
    return found.reason


def test_a_local_picture_lies_in_its_folder_or_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / "mug.png").write_bytes(png())
    (tmp_path / "secret.png").write_bytes(png())
    (folder / "link.png").symlink_to(tmp_path / "secret.png")
    source = PictureSource(folder=folder, max_bytes=1_000)
    assert source.read("mug.png") == source.read((folder / "mug.png").as_uri()) == png()
    (folder / "large.png").write_bytes(b"x" * 1_001)
    found = {name: reason(source.read(name)) for name in ("../secret.png", "link.png", "none.png", "large.png", ".")}
    assert found == {
        "../secret.png": "outside",
        "link.png": "outside",
        "none.png": "missing",
        "large.png": "too_large",
        ".": "missing",
    }
    assert reason(source.read("a\0b")) == "missing"
    assert reason(source.read("x" * 5_000)) == "missing"
    assert reason(source.read("gopher://x")) == reason(source.read("http://[")) == "scheme"


def test_the_network_is_asked_only_where_allowed_and_within_bounds(shop: str, tmp_path: Path) -> None:
    assert reason(PictureSource(folder=tmp_path).read(f"{shop}/mug")) == "network_off"
    source = PictureSource(folder=tmp_path, network=True, max_bytes=1_000, timeout_s=60)
    assert source.read(f"{shop}/mug") == png()
    found = {name: reason(source.read(f"{shop}/{name}")) for name in ("large", "gone", "away")}
    assert found == {"large": "too_large", "gone": "unreachable", "away": "unreachable"}
    hasty = PictureSource(folder=tmp_path, network=True, max_bytes=1_000, timeout_s=0.3)
    assert reason(hasty.read(f"{shop}/slow")) == "timeout"


def test_bytes_that_are_no_picture_or_too_many_pixels_are_rejected(tmp_path: Path) -> None:
    source = PictureSource(folder=tmp_path, max_pixels=500)
    assert reason(source.decode("a", b"no picture")) == "unreadable"
    assert reason(source.decode("a", png()[:40])) == "unreadable"
    assert reason(source.decode("a", png()[:-20])) == "too_large"  # the size is known before anything is unpacked
    assert source.decode("a", png(size=(5, 5))).size == (5, 5)


def test_vectors_of_pictures_are_remembered_by_content_and_failures_are_counted(tmp_path: Path) -> None:
    class Counting(StatisticsEncoder):
        pictures = 0

        def encode(self, pictures):
            self.pictures += len(pictures)
            return super().encode(pictures)

    for name, content in {"a.png": png(), "same.png": png(), "b.png": png("blue"), "c.png": b"broken"}.items():
        (tmp_path / name).write_bytes(content)
    encoder, cache = Counting(), tmp_path / "cache" / "vectors.sqlite"
    vectors = PictureVectors(encoder, source=PictureSource(folder=tmp_path), cache=cache)
    found = vectors.encode(["a.png", "same.png", "b.png", "c.png", "none.png", "", "http://x/y.png"])
    assert encoder.pictures == 2
    np.testing.assert_array_equal(found[0], found[1])
    assert not np.allclose(found[0], found[2])
    assert not found[3:].any()
    assert vectors.rejected == {"unreadable": 1, "missing": 1, "network_off": 1}
    again = PictureVectors(encoder, source=PictureSource(folder=tmp_path), cache=cache).encode(["b.png", "a.png"])
    assert encoder.pictures == 2
    np.testing.assert_array_equal(again, found[[2, 0]])
