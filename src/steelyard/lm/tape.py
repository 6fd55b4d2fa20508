"""Recordings on disk: one checksummed file a call, written whole or not at all."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from steelyard.core.errors import Corrupt
from steelyard.core.files import write_atomically
from steelyard.core.results import Usage

__all__ = ["KEPT_HEADERS", "Recording", "Tape"]

_MAGIC = b"steelyard-recording 1 "
KEPT_HEADERS = ("content-type", "content-encoding")
"""The headers of an answer that a recording keeps: never one that could hold a key or lead elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """One full success: the answer's bytes and what it consumed. No request, no header that could hold a key.

    Attributes:
        key: The key of the call.
        status: HTTP status, 2xx.
        headers: `content-type` and `content-encoding`, as far as they were there.
        body: The raw body; for a stream, all of it.
        usage: What the call consumed when it was live; None where no model was asked.
        about: Method, path and model's name, for people.
    """

    key: str
    status: int
    headers: Mapping[str, str]
    body: bytes
    usage: Usage | None
    about: Mapping[str, str]

    def to_bytes(self) -> bytes:
        """The file's content: magic and checksum of the rest, a line of JSON, the body."""
        meta: dict[str, Any] = {
            "key": self.key,
            "status": self.status,
            "headers": dict(self.headers),
            "usage": self.usage.to_json() if self.usage else None,
            "about": dict(self.about),
        }
        rest = json.dumps(meta, sort_keys=True).encode() + b"\n" + self.body
        return _MAGIC + hashlib.sha256(rest).hexdigest().encode() + b"\n" + rest

    @classmethod
    def from_bytes(cls, data: bytes, *, key: str) -> Recording:
        """The recording that `to_bytes` wrote.

        Raises:
            ValueError: it is not what was written, or not the recording of that key.
        """
        head, _, rest = data.partition(b"\n")
        if not head.startswith(_MAGIC):
            raise ValueError("it does not start like a recording")
        if head[len(_MAGIC) :] != hashlib.sha256(rest).hexdigest().encode():
            raise ValueError("the checksum does not match")
        line, _, body = rest.partition(b"\n")
        try:
            meta = json.loads(line)
        except RecursionError:
            raise ValueError("its head is nested too deeply") from None
        if meta["key"] != key:
            raise ValueError(f"it is the recording of another request ({str(meta['key'])[:12]})")
        _check(meta)
        return cls(
            key=key,
            status=meta["status"],
            headers=meta["headers"],
            body=body,
            usage=Usage.from_json(meta["usage"]) if meta["usage"] is not None else None,
            about=meta["about"],
        )


def _check(meta: Mapping[str, Any]) -> None:
    # A checksum keeps accidents out; recordings that others hand us are held to what `to_bytes` can write.
    if type(meta["status"]) is not int or not 200 <= meta["status"] < 300:
        raise ValueError(f"its status is {str(meta['status'])[:20]}, and only successes are recorded")
    for name, texts in (("headers", meta["headers"]), ("about", meta["about"])):
        if not isinstance(texts, dict) or not all(isinstance(v, str) for v in texts.values()):
            raise ValueError(f"its {name} are no texts by name")
    if odd := sorted(set(meta["headers"]) - set(KEPT_HEADERS)):
        raise ValueError(f"it has the header {odd[0][:40]!r}, which is never recorded")
    if any("\r" in v or "\n" in v or not v.isascii() for v in meta["headers"].values()):
        raise ValueError("a header of it is no header")
    if (usage := meta["usage"]) is not None:
        counts = [usage.get(k) for k in ("calls", "input_tokens", "output_tokens", "replayed")]
        amounts = [usage.get("latency_s"), 0 if usage["cost_usd"] is None else usage["cost_usd"]]
        if not all(type(n) is int and n >= 0 for n in counts) or not all(
            type(n) in (int, float) and 0 <= n < float("inf") for n in amounts
        ):
            raise ValueError("its usage is no usage")


class Tape:
    """A folder of recordings, safe for many threads and processes.

    Args:
        folder: Where they lie; made on the first write, for the owner's eyes only.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def path(self, key: str) -> Path:
        """The file of a key."""
        return self.folder / key[:2] / f"{key}.rec"

    def get(self, key: str) -> Recording | None:
        """The recording of a key, or None.

        Raises:
            Corrupt: there is one, and it is damaged.
        """
        path = self.path(key)
        try:
            data = path.read_bytes()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Corrupt(path, f"it cannot be read ({error})", do="Look at the disk.") from None
        try:
            return Recording.from_bytes(data, key=key)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Corrupt(
                path, str(error), do="Delete it and record again: --steelyard-lm=auto does both."
            ) from None

    def put(self, recording: Recording) -> None:
        """Write a recording in place of any earlier one; readers see the old file or the new, never half."""
        path = self.path(recording.key)
        for folder in (self.folder, path.parent):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        # Not synced: an answer that a power cut loses is only asked for again.
        write_atomically(path, recording.to_bytes(), durable=False)

    def quarantine(self, key: str) -> Path:
        """Where a damaged file was moved to; the key has no recording then."""
        path, away = self.path(key), self.folder / "quarantine"
        away.mkdir(mode=0o700, parents=True, exist_ok=True)
        n = 0
        while (target := away / f"{key}.{n}.rec").exists():
            n += 1
        with contextlib.suppress(FileNotFoundError):  # another process was first
            path.replace(target)
        return target
