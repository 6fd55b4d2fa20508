"""Where prompts come from without a store: the committed lock file, and the working files."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.ref import Ref
from steelyard.core.settings import Settings
from steelyard.prompts.files import path_of, read_working
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.refresher import loading

__all__ = ["FromFiles", "FromLock", "Working"]


class Working:
    """The working files, each read again when it has changed: a look costs one `stat`."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._read: dict[str, tuple[Path, tuple[int, int, int], Prompt]] = {}

    def read(self, name: str) -> Prompt:
        """The prompt in a file.

        Raises:
            NotFound: there is no such file. InvalidFile: it cannot be used.
        """
        known = self._read.get(name)
        if known is not None and _stamp(known[0]) == known[1]:
            return known[2]
        path = path_of(name, self._settings)
        before = _stamp(path)  # taken first: what is written while it is read is read again
        prompt = read_working(name, self._settings)
        if before is not None:
            self._read[name] = (path, before, prompt)
        return prompt


class FromFiles:
    """Every alias is the working file: for development."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def read(self, ref: Ref, working: Working) -> Prompt:
        """The working file's prompt.

        Raises:
            NotFound: there is no such file, or it has not the digest asked for.
            InvalidFile: it cannot be used.
            InvalidValue: a number is asked for; only a store has numbers.
        """
        if ref.version is not None:
            raise InvalidValue(
                f"{ref} is asked for, and prompts_from = 'files' knows no numbers",
                do="Ask for an alias or a digest, or set prompts_from = 'store'.",
            )
        prompt = working.read(ref.name)
        if ref.digest is not None and not prompt.digest.startswith(ref.digest):
            raise NotFound(
                f"version of prompt {ref.name!r}", ref.digest, existing=[prompt.digest], where="its file"
            )
        return prompt


class FromLock:
    """Aliases and digests as the committed lock file has them. It is read once, so a deploy stays pinned."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._prompts: dict[tuple[str, str], Prompt] | None = None
        self._reading = threading.Lock()

    def in_child(self) -> None:
        """In a forked child: no thread of it is reading."""
        self._reading = threading.Lock()

    def read(self, ref: Ref, working: Working) -> Prompt:
        """The lock's prompt.

        Raises:
            NotFound: the lock file or the ref in it is not there. InvalidFile: it cannot be used.
            InvalidValue: a number is asked for; only a store has numbers.
        """
        if ref.version is not None:
            raise InvalidValue(
                f"{ref} is asked for, and the lock file knows no numbers",
                do="Ask for an alias or a digest, or set prompts_from = 'store'.",
            )
        path = self._settings.lock
        if not path.is_file():
            raise NotFound(
                "lock file",
                path.name,
                where=str(path.parent),
                do="Commit the one that steelyard bless writes.",
            )
        with self._reading, loading():
            if self._prompts is None:
                from steelyard.prompts.lock import read_lock

                lock = read_lock(path)
                made = {
                    (name, digest): Prompt.from_content(name, content, expect=digest)
                    for name, by_digest in lock.versions.items()
                    for digest, content in by_digest.items()
                }
                for name, by_alias in lock.aliases.items():
                    made |= {(name, alias): made[name, at.digest] for alias, at in by_alias.items()}
                self._prompts = made
        wanted = ref.alias or ref.digest or ""
        found = self._prompts.get((ref.name, wanted))
        if found is None and ref.digest is not None:
            fits = [p for (n, key), p in self._prompts.items() if n == ref.name and key.startswith(wanted)]
            found = fits[0] if len(fits) == 1 else None
        if found is None:
            there = sorted(key for name, key in self._prompts if name == ref.name)
            raise NotFound(
                "alias" if ref.alias else "version",
                wanted,
                existing=there,
                where=f"{path.name} for prompt {ref.name!r}",
                do="Bring the lock up to date with: steelyard prompts sync",
            )
        return found


def _stamp(path: Path) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size, found.st_ino
