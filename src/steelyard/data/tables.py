"""Tables: CSV and Parquet. A column's name says where its cells go."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from steelyard.core.canonical import JSON, plain
from steelyard.core.dataset import Example
from steelyard.core.errors import InvalidFile, InvalidValue, MissingExtra, closest
from steelyard.data.lines import read_lines
from steelyard.data.rows import FIELDS, SYNONYMS, Rows

__all__ = ["columns_of", "read_csv", "read_parquet"]

_OBJECTS = ("inputs", "reference_outputs", "metadata")
_BATCH = 2_000
_Place = tuple[str, str | None]  # a field's word, and the key in it


def read_csv(path: Path) -> Iterator[Example]:
    """The examples of a CSV file with a header; every cell is text.

    `inputs.question`, `reference_outputs.answer`, `metadata.language` are keys of those objects; `id`,
    `split`, `cluster` and `expected` (or another word for the reference outputs) are themselves; where no
    column begins with `inputs.`, any other word is an input. An empty cell is left out, but for inputs,
    where it is the empty text.

    Raises:
        InvalidFile: with the line of the first mistake.
    """
    rows = Rows(path)
    lines = (text for _, text in read_lines(path))
    reader = csv.reader(lines, strict=True)
    places: list[_Place] | None = None
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            do = "Put text with a comma, a quote or a line break in double quotes; double a quote inside."
            raise InvalidFile(path, f"no CSV: {error}", do=do, line=line) from None
        if not any(cells):
            continue
        if places is None:
            places = _places(path, cells, line)
            continue
        if len(cells) != len(places):
            raise InvalidFile(
                path,
                f"{len(cells)} cells, but the header has {len(places)} columns",
                do="Quote a text that holds a comma, and fill up missing cells.",
                line=line,
            )
        values: list[JSON] = [
            cell if cell or place[0] in ("inputs", "input") else None
            for cell, place in zip(cells, places, strict=True)
        ]
        yield rows.example(_row(places, values), line)


def read_parquet(path: Path) -> Iterator[Example]:
    """The examples of a Parquet file: columns as in JSON lines, or dotted as in CSV.

    Raises:
        InvalidFile: with the number of the row of the first mistake. MissingExtra: pyarrow is not installed.
    """
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError:
        raise MissingExtra("pyarrow", extra="evals", needed_for="reading Parquet") from None
    rows = Rows(path, unit="row")
    try:
        with pq.ParquetFile(path) as file:
            to_row = columns_of(path, list(file.schema_arrow.names))
            number = 0
            for batch in file.iter_batches(batch_size=_BATCH):
                for record in _records(path, batch):
                    number += 1
                    try:
                        row = plain(to_row(list(record.values())))
                    except InvalidValue as error:
                        raise rows.fault(error.what, error.do, number) from None
                    rows.check(row, number)
                    yield rows.example(row, number)
    except (pa.ArrowException, OSError) as error:
        reason = str(error).partition("\n")[0][:200]
        raise InvalidFile(path, f"no Parquet file: {reason}", do="Write the file again.") from None


def _records(path: Path, batch: Any) -> list[dict[str, Any]]:
    """The rows of a batch as Python values, where Python has values for them."""
    try:
        return batch.to_pylist()
    except (ValueError, OverflowError, LookupError) as error:  # dates beyond 9999, unknown time zones
        reason = str(error).partition("\n")[0][:200]
        raise InvalidFile(
            path, f"a value has no plain form: {reason}", do="Store dates and times as text."
        ) from None


def columns_of(path: Path, columns: list[str]) -> Callable[[list[JSON]], dict[str, JSON]]:
    """What turns the cells of a row of these columns into a row; columns may be objects or dotted.

    Raises:
        InvalidFile: a column is not known, or stands twice.
    """
    if len(set(columns)) < len(columns):
        twice = next(c for c in columns if columns.count(c) > 1)
        raise InvalidFile(path, f"the column {twice!r:.80} stands twice", do="Keep one.")
    nested = any(c in _OBJECTS for c in columns)
    plainly: list[_Place] = [(c, None) for c in columns]
    places = plainly if nested else _places(path, columns, None)
    return lambda cells: _row(places, cells)


def _places(path: Path, header: list[str], line: int | None) -> list[_Place]:
    """Where each column's cells go."""
    names = [h.strip() for h in header]
    if len(names) == 1 and line is not None:
        for sign, word in (("\t", "tabs"), (";", "semicolons")):
            if sign in header[0]:
                raise InvalidFile(
                    path, f"the columns are separated by {word}", do="Separate them by commas.", line=line
                )
    explicit = any(n.partition(".")[0] in ("inputs", "input") for n in names)
    places: list[_Place] = []
    for name in names:
        word, dot, key = name.partition(".")
        field = SYNONYMS.get(word, word)
        if field in _OBJECTS and dot and key:
            place: _Place = ("inputs" if word == "input" else word, key)
        elif not dot and (word in FIELDS or word in SYNONYMS) and word not in ("inputs", "metadata"):
            place = (word, None)
        else:
            place = ("inputs", _plain_input(path, name, line, explicit=explicit))
        if place in places:
            raise InvalidFile(path, f"the column {name!r} stands twice", do="Keep one.", line=line)
        places.append(place)
    return places


def _plain_input(path: Path, name: str, line: int | None, *, explicit: bool) -> str:
    known = [*FIELDS, *SYNONYMS]
    close = closest(name.partition(".")[0].lower(), known, cutoff=0.75)
    if explicit or close or not name or "." in name:
        do = "Columns are inputs.x, reference_outputs.y, metadata.z, id, split, cluster."
        if close in ("inputs", "metadata", "input"):
            do = f"Did you mean '{close}.{name.partition('.')[2] or 'NAME'}'?"
        elif close:
            do = f"Did you mean {close!r}?"
        raise InvalidFile(path, f"unknown column {name[:80]!r}", do=do, line=line)
    return name


def _row(places: list[_Place], cells: list[JSON]) -> dict[str, JSON]:
    row: dict[str, JSON] = {}
    for (word, key), cell in zip(places, cells, strict=True):
        if cell is None:
            continue
        if key is None:
            row[word] = cell
        else:
            row.setdefault(word, {})[key] = cell
    return row
