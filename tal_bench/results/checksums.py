"""SHA-256 checksums that detect damaged files."""

from __future__ import annotations

import hashlib
from pathlib import Path

from tal_bench.errors import DataError


def with_checksum(content: bytes) -> bytes:
    """Prepend a line with the SHA-256 of the content."""
    return hashlib.sha256(content).hexdigest().encode() + b"\n" + content


def verified(content: bytes) -> bytes:
    """Return the content that `with_checksum` was given.

    Raises:
        ValueError: The checksum in the first line does not match the rest.
    """
    checksum, _, rest = content.partition(b"\n")
    if hashlib.sha256(rest).hexdigest().encode() != checksum:
        raise ValueError("checksum mismatch")
    return rest


def file_checksum(file: Path) -> str:
    """Return the SHA-256 of a file."""
    with file.open("rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def verify_file(file: Path, expected: str) -> None:
    """Compare the SHA-256 of a file with the expected one; a missing file is accepted.

    Raises:
        DataError: The checksums differ.
    """
    if file.is_file() and file_checksum(file) != expected:
        raise DataError("damaged: checksum mismatch", where=file, hint="delete it and run again")
