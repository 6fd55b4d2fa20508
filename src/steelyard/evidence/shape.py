"""The shape of what is read from a bundle. Checksums stop accidents; a forged bundle has right ones."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.results import Identity, Row

__all__ = ["BadShape", "check_manifest", "identity_of", "planned_of", "row_of"]

_LONGEST = 200  # characters of an alias, which is part of a folder's name


class BadShape(ValueError):
    """A value that no Steelyard writes; the text says which, as a clause."""


def check_manifest(manifest: Mapping[str, JSON]) -> None:
    """Nothing, if what a verdict is computed from has the right types, as far as it is there.

    Raises:
        BadShape: otherwise.
    """
    identity_of(manifest)
    planned_of(manifest)
    checks: dict[str, Callable[[Any], bool]] = {
        "policy": lambda v: isinstance(v, dict),
        "advisory": _texts,
        "baselines": lambda v: isinstance(v, dict) and all(map(_folder_part, cast("dict[str, Any]", v))),
        "look": lambda v: type(v) is int and 1 <= v < 2**53,
        "reasons": _texts,
        "absent": lambda v: isinstance(v, dict) and _texts(list(cast("dict[str, Any]", v).values())),
    }
    for key, right in checks.items():
        if key in manifest and not right(manifest[key]):
            raise BadShape(f"{key!r} is not what Steelyard writes")


def identity_of(manifest: Mapping[str, JSON]) -> Identity:
    """What was run.

    Raises:
        BadShape: the manifest does not say it.
    """
    value = manifest.get("identity")
    try:
        identity = Identity.from_json(cast("Mapping[str, JSON]", value))
        names = [m.name for m in identity.metrics]
        texts = [identity.kind, identity.task, identity.dataset, identity.dataset_name, *names]
        texts += [x for pair in identity.evaluators.items() for x in pair]
        optional = (identity.name, identity.subject, identity.lm, identity.lm_name)
        ends = [e for m in identity.metrics for e in (m.low, m.high) if e is not None]
        right = (
            _texts([*texts, *(t for t in optional if t is not None)])
            and type(identity.trials) is int
            and 1 <= identity.trials < 2**53
            and all(m.direction in ("higher", "lower") for m in identity.metrics)
            and len(set(names)) == len(names)
            and all(map(_number, ends))
        )
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise BadShape(f"'identity' is not what Steelyard writes ({type(error).__name__})") from None
    if not right:
        raise BadShape("'identity' is not what Steelyard writes")
    return identity


def planned_of(manifest: Mapping[str, JSON]) -> tuple[tuple[str, int], ...]:
    """The planned pairs.

    Raises:
        BadShape: the manifest has none, a pair is none, or one stands twice.
    """
    value = manifest.get("planned")
    if not isinstance(value, list):
        raise BadShape("'planned' is not what Steelyard writes")
    try:
        pairs = tuple((example, trial) for example, trial in cast("list[Any]", value))
    except (TypeError, ValueError):
        pairs = ((None, None),)
    if not all(type(example) is str and type(trial) is int for example, trial in pairs):
        raise BadShape("'planned' holds what is no pair of example and trial")
    if len(set(pairs)) < len(pairs):
        raise BadShape("'planned' holds a pair twice")
    return cast("tuple[tuple[str, int], ...]", pairs)


def row_of(value: Any) -> Row:
    """The row that `Row.to_json` wrote.

    Raises:
        BadShape: it is none.
    """
    try:
        row = Row.from_json(value)
        usage = row.usage
        right = (
            type(row.example_id) is str
            and type(row.trial) is int
            and (row.cluster is None or type(row.cluster) is str)
            and (row.invalid_output is None or type(row.invalid_output) is str)
            and (not row.slices or all(type(v) is str for v in row.slices.values()))
            and (row.failure is None or type(row.failure.message) is str)
            and all(map(_score, row.scores))
            and _number(row.seconds)
            and (usage.cost_usd is None or _number(usage.cost_usd))
            and _number(usage.latency_s)
            and type(usage.calls) is type(usage.input_tokens) is type(usage.output_tokens) is int
        )
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise BadShape(f"it is no row ({type(error).__name__})") from None
    if not right:
        raise BadShape("it is no row")
    return row


def _score(score: Any) -> bool:
    return (
        type(score.name) is str
        and (score.label is None or type(score.label) is str)
        and (score.value is None or type(score.value) in (float, int))
        and (score.explanation is None or type(score.explanation) is str)
        and (score.error is None or type(score.error.message) is str)
    )


def _number(value: object) -> bool:
    return type(value) in (int, float) and math.isfinite(cast("float", value))


def _texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(t, str) for t in cast("list[object]", value))


def _folder_part(alias: str) -> bool:
    """Whether `baseline-<alias>` is one folder in the bundle, whatever wrote the alias."""
    return 0 < len(alias) <= _LONGEST and alias.isprintable() and not set(alias) & set("/\\")
