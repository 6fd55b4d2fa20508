"""Datasets in LangSmith: read at a version or a split, and written so that they read back the same.

What LangSmith's examples have no field for (our id, cluster, reference outputs that are no object) stands in
their metadata under `steelyard`; an example that somebody adds in LangSmith needs none of it.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from steelyard.core.canonical import JSON, canonical
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.settings import Settings
from steelyard.data.langsmith_client import langsmith_client
from steelyard.data.rows import Rows

if TYPE_CHECKING:
    from langsmith import Client

__all__ = ["PREFIX", "Pushed", "pull_langsmith", "push_examples", "push_langsmith"]

PREFIX = "langsmith:"
_MARK = "steelyard"
_NAMESPACE = uuid.UUID("6f3f2a34-6c3d-5d0c-9a41-0d2a3c9b7e11")
_TIME = re.compile(r"\d{4}-\d\d-\d\d([T ].*)?")
_NO_SPLIT = "base"  # what LangSmith calls the split of examples that have none
_BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Pushed:
    """What `push_langsmith` did.

    Attributes:
        dataset_id: LangSmith's id of the dataset.
        ids: LangSmith's id of each example.
        created: New examples.
        updated: Changed examples.
        deleted: Examples that are in the dataset no more.
        url: Where people see it, if LangSmith says so.
    """

    dataset_id: str
    ids: Mapping[str, str]
    created: int
    updated: int
    deleted: int
    url: str | None


def pull_langsmith(address: str, settings: Settings) -> Dataset:
    """The dataset of an address: `langsmith:NAME`, with `@2026-01-31T09:00:00Z`, `@TAG` or `@SPLIT`, or both.

    Its `source` names the version that was read, to the microsecond, so the same can be read again.

    Raises:
        NotFound: no such dataset, version or split. StoreUnavailable: LangSmith cannot be reached.
        InvalidValue: no key. InvalidFile: an example that cannot be used. MissingExtra: no `langsmith`.
    """
    name, *selectors = address.removeprefix(PREFIX).split("@")
    with langsmith_client(settings) as (client, _):
        found = _find(client, name)
        if found is None:
            known = [d.name for d in client.list_datasets(limit=100)]
            raise NotFound("dataset", name, existing=known, where="LangSmith")
        as_of, split = _selected(client, str(found.id), name, selectors)
        version = _version(client, str(found.id), as_of)
        read = list(client.list_examples(dataset_id=found.id, as_of=version or as_of))
    source = f"{PREFIX}{name}" + (f"@{version.isoformat()}" if version else "")
    rows = Rows(Path(source), unit="example")
    examples = tuple(_example(rows, e, i) for i, e in enumerate(read, 1))
    dataset = Dataset(name=name, examples=examples, source=source)
    return dataset if split is None else dataset.split(split)


def _find(client: Client, name: str) -> Any | None:
    return next(iter(client.list_datasets(dataset_name=name, limit=1)), None)


def _selected(
    client: Client, dataset_id: str, name: str, selectors: list[str]
) -> tuple[datetime | str | None, str | None]:
    as_of: datetime | str | None = None
    split: str | None = None
    for selector in selectors:
        if _TIME.fullmatch(selector):
            try:
                time = datetime.fromisoformat(selector)
            except ValueError:
                raise InvalidValue(f"{selector!r} is no time", do="Write 2026-01-31T09:00:00Z.") from None
            as_of = time if time.tzinfo else time.replace(tzinfo=UTC)
            continue
        splits = client.list_dataset_splits(dataset_id=dataset_id, as_of=as_of)
        if selector in splits:
            split = selector
            continue
        tags = {
            t for v in client.list_dataset_versions(dataset_id=dataset_id, limit=100) for t in v.tags or ()
        }
        if selector not in tags:
            raise NotFound("split or version", selector, existing={*splits, *tags}, where=f"dataset {name!r}")
        as_of = selector
    return as_of, split


def _version(client: Client, dataset_id: str, as_of: datetime | str | None) -> datetime | None:
    """When the version that is read was made; None for an empty dataset."""
    from langsmith.utils import LangSmithNotFoundError

    try:
        if isinstance(as_of, datetime):
            return client.read_dataset_version(dataset_id=dataset_id, as_of=as_of).as_of
        return client.read_dataset_version(dataset_id=dataset_id, tag=as_of or "latest").as_of
    except LangSmithNotFoundError:
        return None


def _example(rows: Rows, found: Any, number: int) -> Example:
    metadata = dict(found.metadata or {})
    mark = metadata.pop(_MARK, None)
    mark = mark if isinstance(mark, Mapping) else {}
    splits = [s for s in metadata.pop("dataset_split", None) or [] if s != _NO_SPLIT]
    if len(splits) > 1:  # ours has one: the rest is kept where people can see it
        metadata["dataset_split"] = splits
    outputs: JSON = found.outputs or None  # an example without any has {} or null
    if mark.get("wrapped") and isinstance(outputs, Mapping) and set(outputs) == {"value"}:
        outputs = outputs["value"]
    row: dict[str, JSON] = {
        "id": mark.get("id") or str(found.id),
        "inputs": found.inputs or {},
        "reference_outputs": outputs,
        "metadata": metadata or None,
        "split": splits[0] if splits else None,
        "cluster": mark.get("cluster"),
    }
    rows.check(row, number)
    return rows.example(row, number)


def push_langsmith(
    dataset: Dataset, settings: Settings, *, name: str | None = None, prune: bool = True
) -> Pushed:
    """What was changed to make LangSmith's dataset of that name hold exactly these examples.

    The same dataset again changes nothing. LangSmith keeps earlier versions by time.

    Args:
        dataset: The dataset.
        settings: Where LangSmith and its key are.
        name: Its name there; the dataset's own if left out.
        prune: Delete the examples there that the dataset does not have.

    Raises:
        StoreUnavailable: LangSmith cannot be reached. InvalidValue: no key, or LangSmith refuses something.
    """
    with langsmith_client(settings) as (client, _):
        return push_examples(client, dataset, name or dataset.name, prune=prune)


def push_examples(client: Client, dataset: Dataset, name: str, *, prune: bool, update: bool = True) -> Pushed:
    """`push_langsmith` with a client at hand; `update=False` leaves examples as they are there.

    Raises:
        InvalidValue: the dataset there is somebody else's: no example is of ours, and none is in both.
    """
    found = _find(client, name)
    if found is None:
        found = client.create_dataset(name, metadata={"steelyard_source": dataset.source or dataset.name})
    there = {str(e.id): e for e in client.list_examples(dataset_id=found.id)}
    ids = _example_ids(str(found.id), dataset, set(there))
    if (
        there
        and not set(ids.values()) & set(there)
        and not any(_MARK in (e.metadata or {}) for e in there.values())
    ):
        raise InvalidValue(
            f"LangSmith has a dataset {name!r} that holds {len(there)} examples of somebody else's",
            do="Send it under another name: steelyard data push NAME --as OTHER.",
        )
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for example in dataset:
        body = _body(example) | {"id": ids[example.id]}
        known = there.get(ids[example.id])
        if known is None:
            new.append(body)
        elif update and not _same(body, known):
            outputs = body.pop("reference_outputs", {})  # what is left out stays there as it was
            changed.append({"split": [_NO_SPLIT], **body, "outputs": outputs})
    for batch in _batches(new):
        client.create_examples(dataset_id=found.id, examples=batch)
    for batch in _batches(changed):
        client.update_examples(dataset_id=found.id, updates=batch)
    gone = sorted(set(there) - set(ids.values())) if prune else []
    for batch in _batches(gone):
        client.delete_examples(batch)
    return Pushed(
        dataset_id=str(found.id),
        ids=ids,
        created=len(new),
        updated=len(changed),
        deleted=len(gone),
        url=found.url,
    )


def _example_ids(dataset_id: str, dataset: Dataset, there: set[str]) -> dict[str, str]:
    """LangSmith's id of each example: its own where it came from there, else one made of dataset and id."""
    return {
        e.id: e.id if e.id in there else str(uuid.uuid5(_NAMESPACE, f"{dataset_id}\n{e.id}")) for e in dataset
    }


def _body(example: Example) -> dict[str, Any]:
    mark: dict[str, JSON] = {"id": example.id}
    reference = example.reference_outputs
    if reference is not None and not (isinstance(reference, Mapping) and reference):
        reference, mark["wrapped"] = {"value": reference}, True
    if example.cluster is not None:
        mark["cluster"] = example.cluster
    if _MARK in example.metadata or ("dataset_split" in example.metadata and example.split is None):
        raise InvalidValue(
            f"example {example.id!r} has metadata of a name that LangSmith or Steelyard keeps for itself",
            do=f"Rename {_MARK!r} or 'dataset_split' in its metadata.",
        )
    splits = example.metadata.get("dataset_split") or ([example.split] if example.split is not None else None)
    metadata = {k: v for k, v in example.metadata.items() if k != "dataset_split"} | {_MARK: mark}
    body: dict[str, Any] = {"inputs": dict(example.inputs), "metadata": metadata}
    if reference is not None:
        body["reference_outputs"] = dict(reference)
    if splits:
        body["split"] = splits
    return body


def _same(body: Mapping[str, Any], known: Any) -> bool:
    metadata = {k: v for k, v in (known.metadata or {}).items() if k != "dataset_split"}
    splits = [s for s in (known.metadata or {}).get("dataset_split") or [] if s != _NO_SPLIT]
    have = [known.inputs, known.outputs or None, metadata, splits]
    want = [body["inputs"], body.get("reference_outputs"), body["metadata"], body.get("split") or []]
    return canonical(have) == canonical(want)


def _batches(items: list[Any]) -> list[list[Any]]:
    return [items[i : i + _BATCH] for i in range(0, len(items), _BATCH)]
