"""Examples and datasets: plain values with an identity."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from steelyard.core.canonical import JSON, digest_of_list
from steelyard.core.errors import InvalidValue, NotFound

__all__ = ["Dataset", "Example"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """One example of a dataset.

    Attributes:
        id: Unique in the dataset.
        inputs: What the task gets; a JSON object.
        reference_outputs: What a good answer is or must hold; any JSON, None where there is none.
        metadata: Anything else about the example, such as `language` for slices.
        split: `train`, `dev`, `test` or any other word; None for an undivided dataset.
        cluster: Name of the group of examples that are not independent of each other (paraphrases of one
            ticket, questions on one document); None means the example stands alone.
    """

    id: str
    inputs: Mapping[str, JSON]
    reference_outputs: JSON = None
    metadata: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    split: str | None = None
    cluster: str | None = None

    def to_json(self) -> dict[str, JSON]:
        """The example as a JSON object; `None` fields and empty metadata are left out."""
        out: dict[str, JSON] = {"id": self.id, "inputs": dict(self.inputs)}
        if self.reference_outputs is not None:
            out["reference_outputs"] = self.reference_outputs
        if self.metadata:
            out["metadata"] = dict(self.metadata)
        if self.split is not None:
            out["split"] = self.split
        if self.cluster is not None:
            out["cluster"] = self.cluster
        return out


@dataclass(frozen=True, kw_only=True)
class Dataset:
    """Examples under a name. Order matters neither to identity nor to verdicts.

    Attributes:
        name: The dataset's name.
        examples: The examples, ids unique.
        source: Where it came from, for people: a path, an address. Not part of the identity.

    Raises:
        InvalidValue: two examples have one id.
    """

    name: str
    examples: tuple[Example, ...]
    source: str | None = None

    def __post_init__(self) -> None:
        twice = [i for i, n in Counter(e.id for e in self.examples).items() if n > 1]
        if twice:
            shown = ", ".join(map(repr, twice[:5]))
            raise InvalidValue(
                f"dataset {self.name!r} has duplicate ids: {shown}"
                + (f" and {len(twice) - 5} more" if len(twice) > 5 else ""),
                do="Give every example an id of its own.",
            )

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` over the examples, whatever their order."""
        ordered = sorted(self.examples, key=lambda e: e.id)
        return digest_of_list(e.to_json() for e in ordered)

    def __len__(self) -> int:
        return len(self.examples)

    def __iter__(self) -> Iterator[Example]:
        return iter(self.examples)

    def split(self, name: str) -> Dataset:
        """The examples of one split, under the same name.

        Raises:
            NotFound: no example has that split.
        """
        kept = tuple(e for e in self.examples if e.split == name)
        if not kept:
            raise NotFound(
                "split",
                name,
                existing={e.split for e in self.examples if e.split is not None},
                where=f"dataset {self.name!r}",
            )
        return self._with(kept)

    def where(self, condition: Callable[[Example], bool]) -> Dataset:
        """The examples that meet a condition, under the same name."""
        return self._with(e for e in self.examples if condition(e))

    def _with(self, examples: Iterable[Example]) -> Dataset:
        return Dataset(name=self.name, examples=tuple(examples), source=self.source)
