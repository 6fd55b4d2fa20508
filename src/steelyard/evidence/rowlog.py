"""A file of checksummed rows, appended one at a time.

One line a row: 16 hex digits of the SHA-256 of the JSON text, a space, the canonical JSON, a line feed.
A row is acknowledged when its whole line was handed to the operating system in one append, so it survives
the death of the process; `sync` makes it survive the death of the machine.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON, canonical
from steelyard.core.errors import Corrupt
from steelyard.core.files import write_atomically

__all__ = ["RowLog", "frame", "read_rows", "recover_rows"]

_CHECK = 16


def frame(value: Mapping[str, JSON]) -> bytes:
    """The line that holds one row."""
    text = canonical(value)
    return _checksum(text) + b" " + text + b"\n"


def _checksum(text: bytes) -> bytes:
    return hashlib.sha256(text).hexdigest()[:_CHECK].encode("ascii")


def _parse(line: bytes) -> dict[str, Any] | None:
    """The row of a line without its line feed, or None where the line is damaged."""
    check, space, text = line[:_CHECK], line[_CHECK : _CHECK + 1], line[_CHECK + 1 :]
    if space != b" " or check != _checksum(text):
        return None
    try:
        value: Any = json.loads(text)
    except (ValueError, RecursionError):  # a right checksum over what is no row: forged
        return None
    return value if isinstance(value, dict) else None  # pyright: ignore[reportUnknownVariableType]


class RowLog:
    """An open row file. Appends are whole lines; safe from several threads (one `write` a row)."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)

    def append(self, value: Mapping[str, JSON]) -> None:
        """Write one row; when this returns, the operating system has it.

        Raises:
            OSError: the disk is full or broken. What was written before stays readable, and a torn line is
                cut off again where the file allows it.
        """
        line = frame(value)
        start = os.fstat(self._fd).st_size
        view = memoryview(line)
        try:
            while view:
                view = view[os.write(self._fd, view) :]
        except OSError:
            if len(view) < len(line):
                os.ftruncate(self._fd, start)
            raise

    def sync(self) -> None:
        """Make what was appended survive a power cut."""
        os.fsync(self._fd)

    def close(self) -> None:
        """Sync and close; closing twice is harmless."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            try:
                os.fsync(fd)
            finally:
                os.close(fd)


def read_rows(path: Path) -> Iterator[dict[str, Any]]:
    """The rows of a sealed file, in the order they were written.

    Raises:
        Corrupt: any line is damaged or cut off.
    """
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            row = _parse(line[:-1]) if line.endswith(b"\n") else None
            if row is None:
                raise Corrupt(
                    path,
                    "the line's checksum does not match",
                    do="Restore the bundle from the store, or run the eval again.",
                    line=number,
                )
            yield row


def recover_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The intact rows of a file that a killed process left, and the number of damaged lines.

    The file is rewritten without the damaged lines, which go to `<name>.damaged` beside it.
    """
    if not path.exists():
        return [], 0
    rows: list[dict[str, Any]] = []
    damaged = 0
    with path.open("rb") as file:
        for line in file:
            row = _parse(line[:-1]) if line.endswith(b"\n") else None
            if row is None:
                damaged += 1
            else:
                rows.append(row)
    if damaged:
        with path.open("rb") as file:
            lines = file.readlines()
        good = [line for line in lines if line.endswith(b"\n") and _parse(line[:-1]) is not None]
        bad = [line for line in lines if not line.endswith(b"\n") or _parse(line[:-1]) is None]
        with path.with_suffix(path.suffix + ".damaged").open("ab") as aside:
            aside.writelines(bad)
        write_atomically(path, b"".join(good))
    return rows, damaged
