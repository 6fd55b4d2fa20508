"""The lines of a text file, decoded one by one, so that every mistake has its line."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from steelyard.core.errors import InvalidFile

__all__ = ["MAX_LINE", "read_lines"]

MAX_LINE = 5_000_000
"""Bytes of the longest line that is read; an honest example is far shorter."""


def read_lines(path: Path) -> Iterator[tuple[int, str]]:
    """1-based number and text of each line, ends of line kept. A UTF-8 byte order mark is skipped.

    Raises:
        InvalidFile: the file cannot be opened, is not UTF-8, holds a NUL, or has a line over `MAX_LINE`.
    """
    try:
        file = path.open("rb")
    except OSError as error:
        raise InvalidFile(path, f"cannot be read: {error.strerror}", do="Check path and rights.") from None
    with file:
        number = 0
        while raw := file.readline(MAX_LINE + 1):
            number += 1
            if number == 1:
                if raw[:2] in (b"\xff\xfe", b"\xfe\xff"):
                    raise InvalidFile(path, "the file is in UTF-16", do="Save it as UTF-8.", line=1)
                raw = raw.removeprefix(b"\xef\xbb\xbf")
            if len(raw) > MAX_LINE:
                raise InvalidFile(
                    path,
                    f"the line is longer than {MAX_LINE:,} bytes",
                    do="Shorten the example, or check that every example ends with a line break.",
                    line=number,
                )
            if b"\0" in raw:
                raise InvalidFile(
                    path, "the line holds a NUL byte", do="Save the file as UTF-8 text.", line=number
                )
            try:
                text = raw.decode("utf-8")
            except UnicodeDecodeError as error:
                raise InvalidFile(
                    path,
                    f"byte 0x{raw[error.start]:02x} at column {error.start + 1} is not UTF-8",
                    do="Save the file as UTF-8.",
                    line=number,
                ) from None
            yield number, text
