"""JSON lines: one object a line."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidFile, InvalidValue
from steelyard.core.files import SHARED, replacing
from steelyard.data.lines import read_lines
from steelyard.data.rows import Rows

__all__ = ["read_jsonl", "write_jsonl"]

_MAX_INT = 2**53 - 1
_DEEP = 100  # brackets in a line from which its nesting is checked


def read_jsonl(path: Path) -> Iterator[Example]:
    """The examples of a file, one by one; blank lines are skipped.

    Raises:
        InvalidFile: with the line of the first mistake.
    """
    rows = Rows(path)
    for number, text in read_lines(path):
        if text.isspace():
            continue
        try:
            row = _DECODER.decode(text)
        except _Refused as error:
            raise InvalidFile(path, error.what, do=error.do, line=number) from None
        except RecursionError:
            raise InvalidFile(path, "nested too deeply", do="Flatten the example.", line=number) from None
        except ValueError as error:
            raise _syntax(path, number, text, error) from None
        if "\\u" in text or text.count("[") + text.count("{") > _DEEP:
            rows.check(row, number)  # a lone surrogate or a depth that canonical JSON refuses
        yield rows.example(row, number)


def write_jsonl(dataset: Dataset, path: str | Path) -> Path:
    """The path, after the dataset was written there as JSON lines, whole or not at all.

    Examples keep their order; the file reads back to a dataset with the same digest.

    Raises:
        InvalidValue: an example holds what JSON cannot hold, or the file cannot be written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode=SHARED) as file:
            for example in dataset:
                file.write(_line(example).encode("utf-8") + b"\n")
    except OSError as error:
        raise InvalidValue(
            f"{path} cannot be written: {error.strerror}", do="Check path and rights."
        ) from None
    return path


def _line(example: Example) -> str:
    try:
        text = json.dumps(example.to_json(), ensure_ascii=False, allow_nan=False)
        text.encode("utf-8")
    except (ValueError, TypeError, RecursionError) as error:
        raise InvalidValue(
            f"example {example.id!r} cannot be written as JSON: {error}", do="Mend the example."
        ) from None
    return text


class _Refused(ValueError):
    """JSON that parses, but is not accepted."""

    def __init__(self, what: str, do: str) -> None:
        super().__init__(what)
        self.what, self.do = what, do


def _object(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    # One copy of every key: a million rows share theirs.
    out = {sys.intern(k): v for k, v in pairs}
    if len(out) < len(pairs):
        keys = [k for k, _ in pairs]
        twice = next(k for k in keys if keys.count(k) > 1)
        raise _Refused(f"the key {twice[:80]!r} stands twice in one object", "Keep one of them.")
    return out


def _constant(text: str) -> Any:
    raise _Refused(f"{text} is not JSON", "Write null, or leave the field out.")


def _integer(text: str) -> int:
    if len(text) > 17 or not -_MAX_INT <= (value := int(text)) <= _MAX_INT:
        raise _Refused(
            f"the integer {text[:40]} is beyond ±(2**53 - 1), which JSON numbers hold exactly",
            "Store it as text.",
        )
    return value


def _decimal(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise _Refused(f"the number {text[:40]} is too large", "Store it as text.")
    return value


_DECODER = json.JSONDecoder(
    object_pairs_hook=_object, parse_constant=_constant, parse_int=_integer, parse_float=_decimal
)


def _syntax(path: Path, line: int, text: str, error: ValueError) -> InvalidFile:
    column = getattr(error, "colno", 1)
    what = f"no JSON: {getattr(error, 'msg', error)} at column {column}"
    do = "Write one whole JSON object on the line."
    start = text.lstrip()[:1]
    if "control character" in what:
        do = "Write a tab inside text as \\t, a line break as \\n."
    elif start == "[" or (line == 1 and text.strip() == "{"):
        do = "JSON lines hold one object a line, without a list around them and without commas between."
    elif "Extra data" in what:
        do = "Put each object on a line of its own."
    elif "property name" in what or "Expecting value" in what:
        do = "Put keys and text in double quotes; no comma after the last one."
    return InvalidFile(path, what, do=do, line=line)
