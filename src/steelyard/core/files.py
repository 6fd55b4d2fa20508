"""Writing a file so that a crash leaves the old one or the new one, never a part."""

from __future__ import annotations

import os
import secrets
from collections.abc import Generator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

__all__ = ["PRIVATE", "SHARED", "replacing", "write_atomically"]

PRIVATE = 0o600
"""For what only its owner reads: evidence, recordings, caches."""
SHARED = 0o666
"""For what is committed or shown to colleagues; the process's umask applies, as with any new file."""


@contextmanager
def replacing(path: Path, *, mode: int = PRIVATE, durable: bool = True) -> Generator[BinaryIO]:
    """A file to write; it stands at the path once the block ends well, and is gone if the block raises.

    The bytes are on disk before the name is: the file is synced, moved over the old one, and the folder is
    synced. Several writers at one time are safe; the last one wins.

    Args:
        path: Where it shall stand; the folder must exist.
        mode: `PRIVATE`, or `SHARED`; the umask narrows it, as with any new file.
        durable: False leaves the syncing to the operating system: whole all the same after the death of the
            process, perhaps lost after a power cut.

    Raises:
        OSError: the folder cannot be written or the disk is full; the old file is untouched.
    """
    part = path.with_name(f".{path.name[:100]}.{secrets.token_hex(6)}.part")
    try:
        with open(part, "xb", opener=lambda name, flags: os.open(name, flags, mode)) as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):  # what went wrong is said by the error under way
            part.unlink(missing_ok=True)
        raise
    if durable:
        _sync_folder(path.parent)


def write_atomically(path: Path, data: bytes, *, mode: int = PRIVATE, durable: bool = True) -> None:
    """Put bytes at a path; see `replacing`."""
    with replacing(path, mode=mode, durable=durable) as file:
        left = memoryview(data)
        while left:
            left = left[os.write(file.fileno(), left) :]


def _sync_folder(folder: Path) -> None:
    if os.name == "nt":  # folders cannot be opened there, and need not be
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
