"""Near-duplicates between the splits of a dataset: what is trained on must not be what is tested on."""

from __future__ import annotations

import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.dataset import Dataset, Example
from steelyard.core.errors import InvalidValue

__all__ = ["NearDuplicate", "near_duplicates"]

_SHINGLE = 4
_NOISE = re.compile(r"[\W_]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class NearDuplicate:
    """Two examples that say nearly the same.

    Attributes:
        a: Id of the example in the first split.
        b: Id of the example in the second.
        similarity: Jaccard similarity of their inputs' shingles, 1 for the same text.
    """

    a: str
    b: str
    similarity: float


def near_duplicates(
    dataset: Dataset, a: str = "train", b: str = "test", *, threshold: float = 0.7
) -> tuple[NearDuplicate, ...]:
    """The pairs of examples, one of each split, whose inputs are alike, most alike first.

    All text in the inputs is normalised (Unicode NFKC, case folded, everything but letters and digits one
    blank), cut into overlapping runs of 4 characters, and compared by Jaccard similarity
    |A ∩ B| / |A ∪ B|. Only pairs that share one of the rarest shingles that a pair of that similarity must
    share are compared (prefix filtering; Chaudhuri, Ganti, Kaushik 2006), so no pair is lost.

    Args:
        dataset: The dataset.
        a: One split.
        b: The other.
        threshold: Smallest similarity that counts, over 0 and up to 1.

    Raises:
        NotFound: no example has that split. InvalidValue: the threshold is out of range, or a is b.
    """
    if not 0 < threshold <= 1:
        raise InvalidValue(f"threshold={threshold}", do="Give a number over 0 and up to 1.")
    if a == b:
        raise InvalidValue(f"{a!r} compared with itself", do="Name two splits.")
    left = [(e.id, _shingles(e)) for e in dataset.split(a)]
    right = [(e.id, _shingles(e)) for e in dataset.split(b)]
    counts: dict[str, int] = defaultdict(int)
    for _, shingles in (*left, *right):
        for shingle in shingles:
            counts[shingle] += 1
    index: dict[str, list[int]] = defaultdict(list)
    for position, (_, shingles) in enumerate(right):
        for shingle in _prefix(shingles, counts, threshold):
            index[shingle].append(position)
    found: list[NearDuplicate] = []
    for id_a, shingles in left:
        near = {p for s in _prefix(shingles, counts, threshold) for p in index.get(s, ())}
        for position in near:
            id_b, others = right[position]
            shared = len(shingles & others)
            similarity = shared / (len(shingles) + len(others) - shared)
            if similarity >= threshold:
                found.append(NearDuplicate(a=id_a, b=id_b, similarity=similarity))
    return tuple(sorted(found, key=lambda d: (-d.similarity, d.a, d.b)))


def _shingles(example: Example) -> frozenset[str]:
    text = unicodedata.normalize("NFKC", " ".join(_texts(example.inputs))).casefold()
    text = f" {_NOISE.sub(' ', text).strip()} "
    return frozenset(text[i : i + _SHINGLE] for i in range(max(1, len(text) - _SHINGLE + 1)))


def _texts(value: JSON) -> Iterator[str]:
    if isinstance(value, Mapping):
        items = cast("Mapping[str, Any]", value)
        for key in sorted(items):
            yield from _texts(items[key])
    elif isinstance(value, (list, tuple)):
        for member in cast("Iterable[Any]", value):
            yield from _texts(member)
    elif value is not None:
        yield str(value)


def _prefix(shingles: frozenset[str], counts: Mapping[str, int], threshold: float) -> list[str]:
    """The rarest shingles, as many that two sets which reach the threshold cannot both miss a shared one."""
    ordered = sorted(shingles, key=lambda s: (counts[s], s))
    # J(A, B) >= t needs |A n B| >= t |A|; the epsilon keeps a product such as 0.7 * 10 from rounding up.
    needed = -int(-(threshold * len(ordered) - 1e-9) // 1)
    return ordered[: len(ordered) - max(needed, 1) + 1]
