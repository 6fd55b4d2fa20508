"""Hugging Face `datasets`: folders that `save_to_disk` wrote, objects, and datasets on the hub at a commit.

Columns are read as those of a Parquet file. What is written reads back to the same digest: as columns of
objects where Arrow keeps them as they are, else with inputs, reference outputs and metadata as JSON text.
Code of a dataset is never run: `trust_remote_code` is not handed on, and the library has none any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from steelyard.core.canonical import JSON, plain
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidFile, InvalidValue, MissingExtra, NotFound, StoreUnavailable
from steelyard.core.settings import Settings
from steelyard.data.rows import Rows
from steelyard.data.tables import columns_of

if TYPE_CHECKING:
    import datasets

__all__ = ["PREFIX", "from_huggingface", "pull_huggingface", "save_huggingface", "to_huggingface"]

PREFIX = "huggingface:"
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SPLIT = re.compile(r"\w+(\.\w+)*")
_OBJECTS = ("inputs", "reference_outputs", "metadata")
_JSON = "_json"


def _library() -> Any:
    try:
        import datasets
    except ModuleNotFoundError as error:
        name = error.name or "datasets"
        raise MissingExtra(name, extra="huggingface", needed_for="Hugging Face datasets") from None
    return datasets


def pull_huggingface(address: str, settings: Settings) -> Dataset:
    """The dataset of `huggingface:FOLDER` or `huggingface:OWNER/NAME@COMMIT`, `#SPLIT` after either.

    A hub's branch moves under one's feet, so a whole commit (40 hex digits) is required.

    Raises:
        NotFound: no such folder or split. InvalidValue: no commit. InvalidFile: rows that cannot be used.
        StoreUnavailable: the hub cannot be reached, or has no such dataset. MissingExtra: no `datasets`.
    """
    place, _, split = address.removeprefix(PREFIX).partition("#")
    folder = Path(place) if Path(place).is_absolute() else settings.root / place
    if folder.is_dir():
        found = _on_disk(folder, lambda: _library().load_from_disk(str(folder)))
        dataset = from_huggingface(found, folder.name, source=address)
        return dataset.split(split) if split else dataset
    name, at, commit = place.partition("@")
    if not at and "/" not in name.strip("/"):
        raise NotFound("folder", place, where=str(settings.root))
    if not _COMMIT.fullmatch(commit):
        raise InvalidValue(
            f"{address!r} names no commit of the hub, so what is read could change",
            do=f"Write {PREFIX}{name}@<40 hex digits of the commit>, or save it to a folder.",
        )
    try:
        found = _library().load_dataset(name, revision=commit, split=split or None)
    except (OSError, ValueError, RuntimeError) as error:  # what the hub's client raises, all told
        raise StoreUnavailable(
            f"Hugging Face ({name})",
            f"{type(error).__name__}: {' '.join(str(error).split())[:200]}",
            do="Check name and commit, and whether the hub can be reached.",
        ) from None
    return from_huggingface(found, name.rpartition("/")[2], source=address, split=split or None)


def from_huggingface(
    found: Any, name: str, *, source: str | None = None, split: str | None = None
) -> Dataset:
    """The dataset of a `datasets.Dataset` or `DatasetDict`.

    Columns are named as in a Parquet or CSV file; class labels become their names.

    Args:
        found: The object.
        name: The dataset's name.
        source: Where it came from, for people.
        split: The split of a single `Dataset` whose rows do not say it.

    Raises:
        InvalidFile: a column that is not known, or a row that cannot be used.
    """
    where = Path(source or name)
    rows = Rows(where, unit="row")
    examples: list[Example] = []
    parts = cast("Mapping[str, Any]", found) if isinstance(found, Mapping) else {split: found}
    for part_name, part in parts.items():
        labels = {c: f for c, f in part.features.items() if type(f).__name__ == "ClassLabel"}
        columns = list(part.column_names)
        json_columns = [c for c in columns if c.removesuffix(_JSON) in _OBJECTS and c.endswith(_JSON)]
        to_row = columns_of(where, [c for c in columns if c not in json_columns])
        for record in part:
            number = len(examples) + 1
            row = _row(rows, to_row, record, json_columns, labels, number)
            if part_name is not None and row.get("split") is None:
                row["split"] = str(part_name)
            rows.check(row, number)
            examples.append(rows.example(row, number))
    if not examples:
        raise InvalidFile(where, "the dataset holds no example", do="Add at least one.")
    return Dataset(name=name, examples=tuple(examples), source=source)


def _row(
    rows: Rows,
    to_row: Any,
    record: Mapping[str, Any],
    texts: list[str],
    labels: Mapping[str, Any],
    number: int,
) -> dict[str, JSON]:
    values = {k: v for k, v in record.items() if k not in texts}
    for column, feature in labels.items():
        if values.get(column) is not None and values[column] >= 0:
            values[column] = feature.int2str(values[column])
    try:
        row = cast("dict[str, JSON]", plain(to_row(list(values.values()))))
        for column in texts:
            if record[column] is not None:
                row[column.removesuffix(_JSON)] = json.loads(record[column])
    except InvalidValue as error:
        raise rows.fault(error.what, error.do, number) from None
    except ValueError as error:
        raise rows.fault(
            f"a column of JSON text holds none ({error})", "Write the dataset again.", number
        ) from None
    return row


def to_huggingface(dataset: Dataset) -> datasets.Dataset | datasets.DatasetDict:
    """The examples as a `DatasetDict` by split, or as one `Dataset` where not all have a usable split.

    Raises:
        InvalidValue: there is no example. MissingExtra: `datasets` is not installed.
    """
    library = _library()
    if not len(dataset):
        raise InvalidValue(f"dataset {dataset.name!r} is empty", do="Add at least one example.")
    for as_text in (False, True):
        try:
            made = _made(library, dataset, as_text=as_text)
            if from_huggingface(made, dataset.name).digest == dataset.digest:
                return made
        except (
            InvalidFile,
            TypeError,
            ValueError,
            OverflowError,
        ):  # Arrow has no one type for a column's values
            if as_text:
                raise
    raise InvalidValue(
        f"dataset {dataset.name!r} does not survive Arrow",
        do="Write it as JSON lines: steelyard data export.",
    )


def _made(library: Any, dataset: Dataset, *, as_text: bool) -> Any:
    splits = list(dict.fromkeys(e.split for e in dataset))
    given = [e.to_json() for e in dataset]  # empty metadata and None are left out
    keys = ["id", *(k for k in (*_OBJECTS, "cluster") if k == "inputs" or any(k in g for g in given))]
    about = {"steelyard": {"name": dataset.name, "digest": dataset.digest}, "source": dataset.source}

    def part(examples: Iterable[Example], *, with_split: bool) -> Any:
        records = [_record(e, keys, as_text) | ({"split": e.split} if with_split else {}) for e in examples]
        # `info` is filled in with the features: each part needs one of its own.
        info = library.DatasetInfo(description=json.dumps(about))
        return library.Dataset.from_list(records, info=info)

    if any(s is None or not _SPLIT.fullmatch(s) or s == "all" for s in splits):
        return part(dataset, with_split=True)
    named = cast("list[str]", splits)
    return library.DatasetDict({s: part(dataset.split(s), with_split=False) for s in named})


def _record(example: Example, keys: Iterable[str], as_text: bool) -> dict[str, Any]:
    out: dict[str, Any] = {}
    given = example.to_json()
    for key in keys:
        value = given.get(key)
        if key in _OBJECTS and as_text:
            out[key + _JSON] = None if value is None else json.dumps(value, ensure_ascii=False)
        else:
            out[key] = value
    return out


def save_huggingface(dataset: Dataset, folder: Path) -> Path:
    """The folder, after the dataset was written there by `save_to_disk`.

    Raises:
        InvalidValue: the folder is not empty, or the dataset is.
    """
    if folder.exists() and any(folder.iterdir()):
        raise InvalidValue(f"{folder} is not empty", do="Name a new folder.")
    made = to_huggingface(dataset)
    _on_disk(folder, lambda: made.save_to_disk(str(folder)))
    return folder


def _on_disk(folder: Path, call: Callable[[], Any]) -> Any:
    library = _library()
    shown = library.utils.logging.is_progress_bar_enabled()
    library.disable_progress_bars()
    try:
        return call()
    except (OSError, ValueError) as error:
        raise InvalidFile(
            folder, f"no dataset: {str(error)[:160]}", do="Write it with save_to_disk."
        ) from None
    finally:
        if shown:
            library.enable_progress_bars()
