"""Pictures from where the catalogue says: bounded in bytes, pixels and seconds; what is wrong is a value, no error."""

import io
import time
from dataclasses import dataclass
from http.client import HTTPException, HTTPMessage
from pathlib import Path
from typing import IO
from urllib.error import URLError
from urllib.parse import unquote, urlparse
from urllib.request import HTTPRedirectHandler, Request, build_opener

from PIL import Image

_CHUNK_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class RejectedPicture:
    """A picture that cannot be used, and why; `reason` is one of few words, so that it can be counted."""

    source: str
    reason: str  # missing | outside | too_large | unreadable | network_off | timeout | unreachable | scheme


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureSource:
    """Where pictures may come from, and how much of one is read.

    Args:
        folder: Local pictures lie in it; a path that leads out of it is refused, since catalogues come from outside.
        network: Whether http and https are followed.
        max_bytes: Most bytes of a picture.
        max_pixels: Most pixels of a picture; a small file can unpack to gigabytes.
        timeout_s: Longest wait for one picture, from the first byte asked for to the last one read.
    """

    folder: Path
    network: bool = False
    max_bytes: int = 10 * 2**20
    max_pixels: int = 50_000_000
    timeout_s: float = 10.0

    def read(self, source: str) -> bytes | RejectedPicture:
        """Return a picture's bytes, not yet looked at.

        Args:
            source: A path below the folder, a file: URI, or an http(s) URL.

        >>> PictureSource(folder=Path("/tmp")).read("https://example.com/a.jpg").reason
        'network_off'
        >>> PictureSource(folder=Path("/tmp")).read("../etc/passwd").reason
        'outside'
        """
        try:
            parsed = urlparse(source)
        except ValueError:
            return RejectedPicture(source, "scheme")
        if parsed.scheme in {"http", "https"}:
            return self._fetch(source) if self.network else RejectedPicture(source, "network_off")
        if parsed.scheme not in {"", "file"}:
            return RejectedPicture(source, "scheme")
        return self._open(source, unquote(parsed.path) if parsed.scheme else source)

    def stamp(self, source: str) -> str:
        """Return what changes when a local picture does: size and time. Empty if it is not local, or not there.

        >>> PictureSource(folder=Path("/tmp")).stamp("https://example.com/a.jpg")
        ''
        """
        try:
            parsed = urlparse(source)
            if parsed.scheme not in {"", "file"}:
                return ""
            path = (self.folder / (unquote(parsed.path) if parsed.scheme else source)).resolve()
            found = path.stat() if path.is_relative_to(self.folder.resolve()) else None
        except (OSError, ValueError):
            return ""
        return "" if found is None else f"{found.st_size}:{found.st_mtime_ns}"

    def decode(self, source: str, content: bytes) -> Image.Image | RejectedPicture:
        """Return the picture, in RGB, that bytes hold; transparent parts become white, as in a shop."""
        try:
            with Image.open(io.BytesIO(content)) as picture:
                if picture.width * picture.height > self.max_pixels:
                    return RejectedPicture(source, "too_large")
                return on_white(picture)
        except Exception:  # noqa: BLE001 - a broken or hostile file makes one of fifty decoders raise nearly anything
            return RejectedPicture(source, "unreadable")

    def _open(self, source: str, name: str) -> bytes | RejectedPicture:
        try:
            path, root = (self.folder / name).resolve(), self.folder.resolve()
            if not path.is_relative_to(root):
                return RejectedPicture(source, "outside")
            if not path.is_file():
                return RejectedPicture(source, "missing")
            if path.stat().st_size > self.max_bytes:
                return RejectedPicture(source, "too_large")
            return path.read_bytes()
        except (OSError, ValueError):  # ValueError: a NUL in the name
            return RejectedPicture(source, "missing")

    def _fetch(self, url: str) -> bytes | RejectedPicture:
        until, content = time.monotonic() + self.timeout_s, bytearray()
        try:
            with build_opener(_ShortRedirects).open(url, timeout=self.timeout_s) as reply:
                while chunk := reply.read1(_CHUNK_BYTES):
                    content += chunk
                    if len(content) > self.max_bytes:
                        return RejectedPicture(url, "too_large")
                    if time.monotonic() > until:
                        return RejectedPicture(url, "timeout")
        except TimeoutError:
            return RejectedPicture(url, "timeout")
        except (URLError, OSError, ValueError, HTTPException) as error:
            late = isinstance(getattr(error, "reason", None), TimeoutError)
            return RejectedPicture(url, "timeout" if late else "unreachable")
        return bytes(content)


def on_white(picture: Image.Image) -> Image.Image:
    """Return a picture in RGB, laid on white where it is transparent.

    >>> on_white(Image.new("RGBA", (1, 1), (255, 0, 0, 0))).getpixel((0, 0))
    (255, 255, 255)
    """
    if picture.mode in {"RGBA", "LA", "PA"} or "transparency" in picture.info:
        layered = picture.convert("RGBA")
        ground = Image.new("RGBA", layered.size, (255, 255, 255, 255))
        return Image.alpha_composite(ground, layered).convert("RGB")
    return picture.convert("RGB")


class _ShortRedirects(HTTPRedirectHandler):
    """Follow a redirect only to http or https, and three times at most."""

    max_redirections = 3

    def redirect_request(  # noqa: PLR0917 - the library calls it so
        self, req: Request, fp: IO[bytes], code: int, msg: str, headers: HTTPMessage, newurl: str
    ) -> Request | None:
        if urlparse(newurl).scheme not in {"http", "https"}:
            return None
        return super().redirect_request(req, fp, code, msg, headers, newurl)
