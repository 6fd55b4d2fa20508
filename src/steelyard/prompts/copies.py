"""The last good copy of what a store gave, on disk: what serves when the store is down.

One file a ref and store, private to the account, replaced at once. Its first line holds the SHA-256 of all
that follows, so a damaged file is always noticed; it is then set aside in `damaged/`, and counts as absent.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.core.canonical import digest_bytes
from steelyard.core.errors import SteelyardError
from steelyard.core.ref import Ref
from steelyard.prompts.prompt import Prompt
from steelyard.prompts.refresher import loading, logger

__all__ = ["Copies", "Copy"]

_FIRST_LINE = re.compile(rb"steelyard-prompt 1 (sha256:[0-9a-f]{64})\n")


@dataclass(frozen=True, slots=True, kw_only=True)
class Copy:
    """A prompt as a store gave it.

    Attributes:
        prompt: The prompt.
        number: The registry's number of the version; None where it has none (a lock file's).
        confirmed: Unix time at which the store last said that the ref means this version.
    """

    prompt: Prompt
    number: int | None
    confirmed: float


class Copies:
    """The copies of one store.

    Args:
        folder: Where they are; made when the first is written.
        store: The store's address, without secrets. Another store's copies are not seen.
    """

    def __init__(self, folder: Path, store: str) -> None:
        self.folder, self.store = folder, store
        self.damaged: list[Path] = []

    def path(self, ref: Ref) -> Path:
        """The file of a ref, whether or not it is there."""
        key = digest_bytes(f"{self.store}\0{ref}".encode())[7:39]
        return self.folder / f"{re.sub(r'[^A-Za-z0-9_-]', '_', str(ref))[:60]}.{key}"

    def read(self, ref: Ref) -> Copy | None:
        """The copy of a ref; None if there is none that can be used. Never raises."""
        path = self.path(ref)
        try:
            data = path.read_bytes()
        except OSError:
            return None
        try:
            line = _FIRST_LINE.match(data)
            if line is None or digest_bytes(data[line.end() :]).encode() != line[1]:
                raise ValueError("its checksum does not match")
            body = json.loads(data[line.end() :])
            if body["ref"] != str(ref) or body["store"] != self.store:
                raise ValueError("it belongs to another ref")
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            self._set_aside(path, str(error))
            return None
        try:
            return Copy(prompt=_prompt(ref, body), number=body["number"], confirmed=body["confirmed"])
        except SteelyardError:  # whole, but of a newer Steelyard
            return None

    def write(self, ref: Ref, copy: Copy) -> None:
        """Keep a copy in place of the last one; at every moment the old one or the new one is there.

        Raises:
            OSError: it cannot be written.
        """
        body = json.dumps(_body(ref, self.store, copy), ensure_ascii=False).encode("utf-8")
        self.folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with loading():
            from steelyard.core.files import write_atomically
        write_atomically(self.path(ref), f"steelyard-prompt 1 {digest_bytes(body)}\n".encode() + body)

    def _set_aside(self, path: Path, why: str) -> None:
        self.damaged.append(path)
        aside = self.folder / "damaged" / f"{path.name}.{time.time_ns()}"
        try:
            aside.parent.mkdir(mode=0o700, exist_ok=True)
            path.replace(aside)
            went = f"set aside at {aside}"
        except OSError as error:  # a folder that cannot be written: it is skipped all the same
            went = f"left where it is ({error})"
        logger().warning(
            "The copy of a prompt at %s is damaged (%s); it is not used, and was %s.", path, why, went
        )


def _body(ref: Ref, store: str, copy: Copy) -> dict[str, Any]:
    prompt = copy.prompt
    return {
        "ref": str(ref),
        "store": store,
        "number": copy.number,
        "confirmed": copy.confirmed,
        "digest": prompt.digest,
        "content": prompt.content(),
        "description": prompt.description,
        "described": {k: v.description for k, v in prompt.variables.items() if v.description},
    }


def _prompt(ref: Ref, body: Mapping[str, Any]) -> Prompt:
    return Prompt.from_content(
        ref.name,
        body["content"],
        description=body["description"],
        described=body["described"],
        expect=body["digest"],
    )
