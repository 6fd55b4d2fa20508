"""pydantic-evals evaluators: a bool is an assertion, a number a score, a text a label."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Literal, cast

from steelyard.core.errors import InvalidValue
from steelyard.core.score import Direction
from steelyard.evals.evaluators.foreign.identity import identified
from steelyard.evals.evaluators.foreign.langsmith import annotated
from steelyard.evals.evaluators.foreign.part import Part, Reading, Seen

__all__ = ["part_of"]

_OWN = "pydantic_evals."
_ASSERTIONS = ("Contains", "Equals", "EqualsExpected", "IsInstance")


def part_of(value: Any, version: str | None) -> Part | None:
    """The evaluator, or None for anything else of the package.

    Raises:
        InvalidValue: it looks at what a row does not have.
    """
    kind = type(value)
    if not any(b.__module__.startswith(_OWN) and b.__name__ == "Evaluator" for b in kind.__mro__):
        return None
    if kind.__module__.startswith(_OWN) and kind.__name__ in ("MaxDuration", "HasMatchingSpan"):
        raise InvalidValue(
            f"pydantic-evals' {kind.__name__} looks at the task's time or spans, and a row has neither",
            do="Use latency() for time.",
        )
    is_async = inspect.iscoroutinefunction(kind.evaluate)

    def call(seen: Seen) -> Any:
        context = _context(seen)
        return value.evaluate_async(context) if is_async else value.evaluate_sync(context)

    gives, direction = _meaning(value)
    identity = identified(value, "pydantic-evals", version, leave_out=("evaluation_name",))
    return Part(
        package="pydantic-evals",
        name=str(value.get_default_evaluation_name()),
        call=call,
        read=_read,
        identity=identity | {"own_version": value.get_evaluator_version()},
        is_async=is_async,
        direction=direction,
        gives=gives,
    )


def _meaning(value: Any) -> tuple[Literal["bool", "number", "unknown"], Direction | None]:
    kind = type(value)
    if kind.__module__.startswith(_OWN):
        if kind.__name__ in _ASSERTIONS:
            return "bool", "higher"
        if kind.__name__ == "LLMJudge" and value.score is not False:
            return "number", "higher"  # its grading gives 0 (worst) to 1 by its own prompt
        return "unknown", None
    found = annotated(kind.evaluate)
    return found, "higher" if found == "bool" else None


def _context(seen: Seen) -> Any:
    from pydantic_evals.evaluators import EvaluatorContext
    from pydantic_evals.otel._errors import SpanTreeRecordingError  # pyright: ignore[reportPrivateImportUsage]

    return EvaluatorContext(
        name=None,
        inputs=seen.inputs,
        metadata=dict(seen.sample.metadata),
        expected_output=seen.reference,
        output=seen.outputs,
        # The time its model calls took when they were live; a row knows no other that replays.
        duration=seen.sample.usage.latency_s,
        _span_tree=SpanTreeRecordingError("steelyard records no spans"),
        attributes={},
        metrics={
            "input_tokens": seen.sample.usage.input_tokens,
            "output_tokens": seen.sample.usage.output_tokens,
        },
    )


def _read(returned: Any) -> tuple[Reading, ...]:
    if isinstance(returned, Mapping):
        return tuple(_one(v, k) for k, v in cast("Mapping[str, Any]", returned).items())
    return (_one(returned, None),)


def _one(value: Any, name: str | None) -> Reading:
    if hasattr(value, "value") and hasattr(value, "reason"):
        return Reading(name=name, value=value.value, explanation=value.reason)
    return Reading(name=name, value=value)
