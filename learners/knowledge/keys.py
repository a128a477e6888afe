"""Keys that sign and verify archives: Ed25519, in PEM files.

Source: Bernstein et al., "High-speed high-security signatures", CHES 2011; RFC 8032.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key, load_pem_public_key

from learners.disk import sha256_of
from learners.knowledge.errors import KeyFileError


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private key, and the name that the public one goes by."""

    key: Ed25519PrivateKey
    fingerprint: str

    def sign(self, content: bytes) -> bytes:
        """Return the signature, 64 bytes."""
        return self.key.sign(content)


@dataclass(frozen=True, slots=True)
class TrustedKey:
    """A public key whose archives are taken in.

    Args:
        key: The key.
        fingerprint: SHA-256 of its 32 bytes.
        path: The file that it came from.
    """

    key: Ed25519PublicKey
    fingerprint: str
    path: Path

    def verifies(self, signature: bytes, content: bytes) -> bool:
        """Say whether this key signed the content."""
        try:
            self.key.verify(signature, content)
        except InvalidSignature:
            return False
        return True


def load_signing_key(path: Path) -> SigningKey:
    """Read a private key, as `openssl genpkey -algorithm ed25519` writes it.

    Raises:
        KeyFileError: If the file holds no such key, or one that a passphrase protects.
    """
    try:
        key = load_pem_private_key(path.read_bytes(), password=None)
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(path=str(path), cause=str(error)) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise KeyFileError(path=str(path), cause=f"it holds a {type(key).__name__}")
    return SigningKey(key, fingerprint_of(key.public_key()))


def load_trusted_keys(place: Path) -> tuple[TrustedKey, ...]:
    """Read public keys: one file, or every `*.pem` of a folder.

    Raises:
        KeyFileError: If there is none, or a file holds something else.
    """
    paths: Iterable[Path] = sorted(place.glob("*.pem")) if place.is_dir() else [place]
    keys = tuple(map(_load_trusted_key, paths))
    if not keys:
        raise KeyFileError(path=str(place), cause="the folder has no *.pem")
    return keys


def fingerprint_of(key: Ed25519PublicKey) -> str:
    """Return the SHA-256 of a key's 32 bytes, in hexadecimal."""
    return sha256_of(key.public_bytes_raw())


def _load_trusted_key(path: Path) -> TrustedKey:
    try:
        key = load_pem_public_key(path.read_bytes())
    except (OSError, ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise KeyFileError(path=str(path), cause=str(error)) from error
    if not isinstance(key, Ed25519PublicKey):
        raise KeyFileError(path=str(path), cause=f"it holds a {type(key).__name__}")
    return TrustedKey(key, fingerprint_of(key), path)
