"""Datasets by name or path."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidFile, InvalidValue, NotFound
from steelyard.core.ref import check_name
from steelyard.core.settings import Settings

__all__ = ["SUFFIXES", "load_dataset", "read_dataset"]

_READERS = {
    ".jsonl": "steelyard.data.jsonl:read_jsonl",
    ".csv": "steelyard.data.tables:read_csv",
    ".yaml": "steelyard.data.yaml_rows:read_yaml",
    ".yml": "steelyard.data.yaml_rows:read_yaml",
    ".parquet": "steelyard.data.tables:read_parquet",
}
_ADDRESSES = {
    "langsmith:": "steelyard.data.langsmith:pull_langsmith",
    "huggingface:": "steelyard.data.huggingface:pull_huggingface",
}
SUFFIXES = tuple(_READERS)
"""Ends of the file names that are read."""


def load_dataset(name_or_path: str | Path, settings: Settings) -> Dataset:
    """The dataset of a name or a path.

    A `Path`, and a text that ends like a file (`data/x.jsonl`), is read as it is; any other text is a name,
    looked up as `<name>.jsonl`, `.csv`, `.yaml` or `.parquet` in the datasets folder.

    `langsmith:NAME` and `huggingface:…` read from there; see `steelyard.data.langsmith`, `.huggingface`.

    Raises:
        NotFound: no such dataset; the text offers the nearest name.
        InvalidFile: several files of that name, or a file with a mistake; names file and line.
        InvalidValue: no usable name, or a link that leads out of the project; nothing is opened.
    """
    for prefix, reader in _ADDRESSES.items():
        if isinstance(name_or_path, str) and name_or_path.startswith(prefix):
            module, _, function = reader.partition(":")
            return getattr(import_module(module), function)(name_or_path, settings)
    if isinstance(name_or_path, Path) or Path(name_or_path).suffix.lower() in _READERS:
        return read_dataset(Path(name_or_path))
    check_name(name_or_path, kind="dataset name")
    folder = settings.datasets
    found = [f for s in SUFFIXES if (f := folder / (name_or_path + s)).is_file()]
    if len(found) > 1:
        raise InvalidFile(
            found[0],
            f"the name {name_or_path!r} also means {', '.join(f.name for f in found[1:])}",
            do="Keep one of the files, or give the path.",
        )
    if not found:
        raise NotFound("dataset", name_or_path, existing=_names(folder), where=str(folder))
    _check_inside(found[0], settings)
    return read_dataset(found[0], name=name_or_path)


def _check_inside(path: Path, settings: Settings) -> None:
    """Refuse a link that leads out of the project: a change to review could make a report show any file."""
    try:
        real = path.resolve()
    except (OSError, RuntimeError):  # links in a circle
        real = None
    roots = (settings.datasets.resolve(), settings.root.resolve())
    if real is None or not any(real.is_relative_to(root) for root in roots):
        raise InvalidValue(
            f"the file of dataset {path.name!r} is a link that leads out of the project",
            do="Put the file itself there, or give its path in place of a name.",
        )


def read_dataset(path: Path, *, name: str | None = None) -> Dataset:
    """The dataset in a file.

    Args:
        path: A `.jsonl`, `.csv`, `.yaml`, `.yml` or `.parquet` file.
        name: The dataset's name; the file's without its end if left out.

    Raises:
        NotFound: no such file.
        InvalidFile: an unknown kind of file, no example in it, or a mistake.
    """
    reader = _READERS.get(path.suffix.lower())
    if reader is None:
        raise InvalidFile(path, "not a kind of file that is read", do=f"Use one of {', '.join(SUFFIXES)}.")
    if path.is_dir():
        raise InvalidFile(path, "this is a folder", do="Name a file in it.")
    if not path.is_file():
        near = [p.name for p in path.parent.glob("*") if p.suffix.lower() in _READERS]
        raise NotFound("dataset file", path.name, existing=near, where=str(path.parent))
    module, _, function = reader.partition(":")
    read = cast("Callable[[Path], Iterator[Example]]", getattr(import_module(module), function))
    examples = tuple(read(path))
    if not examples:
        raise InvalidFile(path, "the file holds no example", do="Add at least one.", line=1)
    try:
        return Dataset(name=name or path.stem, examples=examples, source=str(path))
    except InvalidValue as error:
        raise InvalidFile(path, error.what, do=error.do) from None


def _names(folder: Path) -> set[str]:
    files = (f for s in SUFFIXES for f in folder.rglob(f"*{s}"))
    return {f.relative_to(folder).with_suffix("").as_posix() for f in files}
