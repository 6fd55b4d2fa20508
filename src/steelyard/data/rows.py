"""From a row of any file to an example: names and their synonyms, ids, what is refused."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

from steelyard.core.canonical import JSON, canonical, digest
from steelyard.core.dataset import Example
from steelyard.core.errors import InvalidFile, InvalidValue, did_you_mean

__all__ = ["FIELDS", "SYNONYMS", "Rows"]

FIELDS = ("id", "inputs", "reference_outputs", "metadata", "split", "cluster")
SYNONYMS = {
    "input": "inputs",
    "expected": "reference_outputs",
    "expected_output": "reference_outputs",
    "expectations": "reference_outputs",
    "target": "reference_outputs",
}
"""Other projects' words for a field, understood on import."""

_MAX_ID = 500
_SHORT = 32  # text up to this length repeats often (languages, splits), so one copy of it is kept


class Rows:
    """Makes the examples of one file, and keeps what must agree between its rows.

    Args:
        path: The file, for error texts.
        unit: What a row's number counts: `"line"`, or `"row"` where the file has no lines.
    """

    def __init__(self, path: Path, *, unit: str = "line") -> None:
        self.path, self.unit = path, unit
        self._lines: dict[str, int] = {}  # id -> line
        self._spelling: dict[str, tuple[str, int]] = {}  # field -> the word first used for it, and where

    def example(self, row: object, line: int) -> Example:
        """The example that a row describes.

        Raises:
            InvalidFile: the row is no example, or does not agree with the rows before it.
        """
        if not isinstance(row, Mapping):
            raise self.fault(
                f"a row is an object such as {{'inputs': {{...}}}}, this one is a {type(row).__name__}",
                "Write one object a row.",
                line,
            )
        fields: dict[str, Any] = {}
        for word, value in cast("Mapping[str, JSON]", row).items():
            field = SYNONYMS.get(word, word)
            if field not in FIELDS:
                raise self._unknown(word, line)
            if value is None:
                continue
            self._agree(field, word, line, twice=field in fields)
            fields[field] = {word: value} if word == "input" and not isinstance(value, Mapping) else value
        if "inputs" not in fields:
            raise self.fault("the row has no 'inputs'", "Give the task's inputs as an object.", line)
        for field in ("inputs", "metadata"):
            if field in fields and not isinstance(fields[field], Mapping):
                raise self.fault(
                    f"{field!r} is a {type(fields[field]).__name__}, not an object",
                    f"Write {{'{field}': {{'name': value}}}}.",
                    line,
                )
        for field in ("split", "cluster"):
            if field in fields:
                fields[field] = self._word(field, fields[field], line)
        if "metadata" in fields:
            fields["metadata"] = {k: _kept(v) for k, v in fields["metadata"].items()}
        fields["id"] = self._id(fields, line)
        return Example(**fields)

    def check(self, value: JSON, line: int) -> None:
        """Refuse what canonical JSON cannot hold, so that the dataset's digest cannot fail later."""
        try:
            canonical(value)
        except InvalidValue as error:
            raise self.fault(error.what, error.do, line) from None

    def fault(self, what: str, do: str, line: int | None = None) -> InvalidFile:
        """The error for a row of this file."""
        if line is not None and self.unit != "line":
            return InvalidFile(self.path, f"{self.unit} {line}: {what}", do=do)
        return InvalidFile(self.path, what, do=do, line=line)

    def _unknown(self, word: str, line: int) -> InvalidFile:
        known = [*FIELDS, *SYNONYMS]
        do = did_you_mean(str(word), known, f"Known keys: {', '.join(FIELDS)}.")
        return self.fault(f"unknown key {str(word)[:80]!r}", do, line)

    def _agree(self, field: str, word: str, line: int, *, twice: bool) -> None:
        first, where = self._spelling.setdefault(field, (word, line))
        if twice:
            raise self.fault(f"{field!r} is given twice, as {word!r} too", "Keep one of them.", line)
        if word != first:
            raise self.fault(
                f"{word!r} here, but {first!r} in {self.unit} {where}: two words for one thing",
                f"Use {field!r} in every row.",
                line,
            )

    def _word(self, field: str, value: object, line: int) -> str:
        if not isinstance(value, str) or not value.strip():
            raise self.fault(f"{field!r} is {value!r:.40}", "Give a word, or leave it out.", line)
        return sys.intern(value)

    def _id(self, fields: Mapping[str, Any], line: int) -> str:
        value = fields.get("id")
        derived = value is None
        if derived:
            value = "row-" + self._digest(fields, line).removeprefix("sha256:")[:16]
        elif isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str) or not 0 < len(value) <= _MAX_ID or not value.strip().isprintable():
            raise self.fault(
                f"the id {value!r:.60} cannot be used", f"Give a text of 1 to {_MAX_ID} characters.", line
            )
        first = self._lines.setdefault(value, line)
        if first != line:
            same = f"the same example as in {self.unit} {first}, neither has an id"
            raise self.fault(
                same if derived else f"the id {value!r} stands in {self.unit} {first} already",
                "Take one out." if derived else "Give every example an id of its own.",
                line,
            )
        return value

    def _digest(self, fields: Mapping[str, Any], line: int) -> str:
        content = {k: fields[k] for k in ("inputs", "reference_outputs", "metadata") if k in fields}
        try:
            return digest(content)
        except InvalidValue as error:
            raise self.fault(error.what, error.do, line) from None


def _kept(value: Any) -> Any:
    return sys.intern(value) if type(value) is str and len(value) <= _SHORT else value
