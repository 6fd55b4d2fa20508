"""Who writes a bundle: one process at a time, and what was begun and not ended is found again.

    <evidence>/.open/<id>.lock     there from a run's beginning until its evidence is in the store

The lock is the operating system's: the death of the process that holds it frees it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from filelock import FileLock

__all__ = ["ID", "Claim", "unended"]

ID = re.compile(r"[0-9]{8}T[0-9]{6}-[0-9a-f]{8}")
_OPEN = ".open"


class Claim:
    """The right to write one bundle, held until `release` or the process's death."""

    def __init__(self, path: Path, lock: FileLock) -> None:
        self._path, self._lock = path, lock

    @classmethod
    def take(cls, folder: Path) -> Claim | None:
        """The claim on the bundle of a folder, or None where another process or thread has it."""
        from filelock import FileLock, Timeout

        path = _path(folder)
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = FileLock(path, mode=0o600, thread_local=False)
        try:
            lock.acquire(blocking=False)
        except Timeout:
            return None
        return cls(path, lock)

    def release(self, *, ended: bool) -> None:
        """Let go; `ended` if nothing is left to be done for the bundle."""
        if self._lock.is_locked:
            if ended:
                self._path.unlink(missing_ok=True)
            self._lock.release()


def unended(root: Path) -> Iterator[Path]:
    """Folders of the bundles under `root` that were begun and not ended, newest first."""
    if not root.is_dir():
        return
    for folder in sorted((f for f in root.iterdir() if ID.fullmatch(f.name)), reverse=True):
        if not (folder / "manifest.json").is_file():
            continue
        if not (folder / "seal.json").is_file() or _path(folder).exists():
            yield folder


def _path(folder: Path) -> Path:
    return folder.parent / _OPEN / f"{folder.name}.lock"
