"""Which adapter takes an evaluator, and what its metric means when its package does not say."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from importlib import import_module
from typing import Any, cast

from steelyard.core.canonical import JSON, digest
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Direction, Metric
from steelyard.evals.evaluators.base import Evaluator
from steelyard.evals.evaluators.foreign.part import ForeignEvaluator, Part, Picks

__all__ = ["ACCEPTED", "adapt", "recognised"]

_ADAPTERS = {
    "autoevals": "autoevals",
    "deepeval": "deepeval",
    "langsmith": "langsmith",
    "mlflow": "mlflow",
    "openevals": "openevals",
    "pydantic_evals": "pydantic_evals",
}
"""The adapter's module by the first part of the module that a class, or a base of it, comes from."""

ACCEPTED = (
    "built-ins such as exact_match(), functions decorated with @evaluator, functions of (run, example) or of "
    "inputs, outputs, reference_outputs, and evaluators of LangSmith, openevals, autoevals, MLflow, "
    "pydantic-evals and DeepEval"
)
_UNSET: Any = object()


def adapt(
    evaluator: Any,
    *,
    name: str | None = None,
    direction: Direction | None = None,
    low: float | None = _UNSET,
    high: float | None = _UNSET,
    unit: str | None = None,
    labels: Mapping[str, float] | None = None,
    metrics: Sequence[Metric] | None = None,
    field: str | None = None,
    reference: str | None = None,
    input: str | None = None,
    version: str | None = None,
) -> ForeignEvaluator:
    """An evaluator of another package, with what that package does not say.

    What is left out is the package's own, where it has a rule. A bool means pass or fail. A number counts
    only if the package or you say which end is better; its range is [0, 1] unless said otherwise, and a value
    outside of it is an error, never clipped.

    Args:
        evaluator: The evaluator, as the package made it.
        name: The metric's name.
        direction: Whether higher or lower is better.
        low: Smallest possible value; None with `high=None` for a metric without a range.
        high: Largest possible value.
        unit: For people.
        labels: What each label is worth, for one that gives words.
        metrics: The metrics of one that gives several values, each by the name that it gives.
        field: Path of the part of the outputs that it gets; None for the whole.
        reference: Path in the reference outputs; `field` if left out, where that is given.
        input: Path in the inputs; None for the whole.
        version: Declared version, for one whose settings have no identity.

    Raises:
        InvalidValue: no adapter knows it; it gives numbers and nobody says which end is better; or it has no
            stable identity.
    """
    picks = Picks(field=field, reference=reference if reference is not None else field, input=input)
    part = _part(evaluator, version)
    if part is None:
        raise InvalidValue(f"{_shown(evaluator)} is no evaluator", do=f"Known are {ACCEPTED}.")
    known = dict(labels) if labels is not None else dict(part.labels)
    if not all(map(math.isfinite, known.values())):
        raise InvalidValue(f"labels={known} has a value that is no finite number", do="Give finite numbers.")
    bools_only = False
    if metrics is not None:
        if (name, direction, unit) != (None, None, None) or low is not _UNSET or high is not _UNSET:
            raise InvalidValue(
                "metrics= says it all", do="Leave name, direction, low, high and unit to the metrics."
            )
        measured = tuple(metrics)
        if not measured or len({m.name for m in measured}) < len(measured):
            raise InvalidValue(f"metrics={metrics!r}", do="Give one or more metrics, each with its own name.")
    else:
        better = direction or part.direction
        if better is None and labels is not None:
            better = "higher"  # whoever says what labels are worth has said which is better
        if better is None and part.gives == "number":
            raise InvalidValue(
                f"{part.package}'s {part.name} gives a number, and nobody says which end is better",
                do="Say it: steelyard.adapt(evaluator, direction='higher', low=0, high=1).",
            )
        bools_only = better is None
        bounds = _bounds(part, low, high, labels)
        measured = (
            Metric(
                name=name or part.name, direction=better or "higher", low=bounds[0], high=bounds[1], unit=unit
            ),
        )
    meaning = [m.to_json() for m in measured]
    if metrics is None:  # a renamed metric measures the same
        del meaning[0]["name"]
    identity: dict[str, JSON] = {
        "evaluator": "foreign",
        "package": part.package,
        "of": part.identity,
        "picks": [picks.field, picks.reference, picks.input],
        "labels": known,
        "metrics": meaning,
        "version": version,
    }
    return ForeignEvaluator(
        metrics=measured,
        digest=digest(identity),
        part=part,
        picks=picks,
        labels=known,
        bools_only=bools_only,
    )


def recognised(value: Any) -> Evaluator | None:
    """The evaluator that a value of another package is; None where no adapter knows it.

    Raises:
        InvalidValue: an adapter knows it, and it needs `adapt`.
    """
    if isinstance(value, Evaluator):
        return value
    return adapt(value) if _adapter(value) is not None else None


def _part(value: Any, version: str | None) -> Part | None:
    found = _adapter(value)
    if found is None:
        return None
    module: Any = import_module(f"steelyard.evals.evaluators.foreign.{found}")
    return module.part_of(value, version)


def _adapter(value: Any) -> str | None:
    """The adapter's name. Nothing foreign is imported: whoever made the value has done that."""
    kind = cast("type", value) if inspect.isclass(value) else type(value)
    for base in kind.__mro__:
        found = _ADAPTERS.get(base.__module__.partition(".")[0])
        if found is not None:
            return found
    module = getattr(inspect.unwrap(value) if callable(value) else value, "__module__", None) or ""
    found = _ADAPTERS.get(str(module).partition(".")[0])
    if found is not None:
        return found
    return "langsmith" if inspect.isroutine(value) and not inspect.isbuiltin(value) else None


def _bounds(
    part: Part, low: Any, high: Any, labels: Mapping[str, float] | None
) -> tuple[float | None, float | None]:
    if low is not _UNSET or high is not _UNSET:
        if (low is None) != (high is None) and _UNSET not in (low, high):
            raise InvalidValue(f"low={low}, high={high}", do="Give both ends, or None for both.")
        default = (part.low, part.high) if part.low is not None else (0.0, 1.0)
        ends = (default[0] if low is _UNSET else low, default[1] if high is _UNSET else high)
        return (None, None) if None in ends else ends
    if labels:
        values = labels.values()
        if len(set(values)) < 2:
            raise InvalidValue(
                f"labels={dict(labels)} cannot tell good from bad", do="Give two or more different values."
            )
        return min(values), max(values)
    return (part.low, part.high) if part.low is not None else (0.0, 1.0)


def _shown(value: object) -> str:
    name = getattr(value, "__qualname__", None)
    return f"the function {name!r}" if inspect.isroutine(value) else f"{value!r:.200}"
