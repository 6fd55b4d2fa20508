"""DeepEval metrics: the score counts, not whether it reaches the metric's own threshold."""

from __future__ import annotations

import copy
import inspect
import json
from collections.abc import Mapping
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Direction
from steelyard.evals.evaluators.foreign.identity import identified
from steelyard.evals.evaluators.foreign.part import Part, Reading, Seen

__all__ = ["part_of"]

_RESULTS = frozenset(
    {
        # What measuring leaves on a metric, and how it is run and shown.
        "async_mode",
        "confidence",
        "error",
        "evaluation_cost",
        "evaluation_model",
        "flaky",
        "input_tokens",
        "output_tokens",
        "reason",
        "score",
        "score_breakdown",
        "skipped",
        "success",
        "system_one_fallback_reason",
        "verbose_logs",
        "verbose_mode",
    }
)
_LISTS = ("context", "retrieval_context", "tools_called", "expected_tools")


def part_of(value: Any, version: str | None) -> Part | None:
    """The metric, or None for anything else of the package.

    Raises:
        InvalidValue: it judges conversations or compares two answers.
    """
    bases = {b.__name__ for b in type(value).__mro__ if b.__module__.startswith("deepeval.")}
    if bases & {"BaseConversationalMetric", "BaseArenaMetric"}:
        raise InvalidValue(
            f"DeepEval's {type(value).__name__} judges conversations or compares answers, and a row is one",
            do="Use a metric of LLMTestCase.",
        )
    if "BaseMetric" not in bases:
        return None
    quiet = {"_show_indicator": False} if _takes_indicator(value) else {}

    def call(seen: Seen) -> Any:
        # Measuring writes on the metric: every row gets one of its own. The sync path needs no loop.
        metric = copy.copy(value)
        for name in ("score", "reason", "success", "error"):
            setattr(metric, name, None)
        metric.async_mode, metric.skipped = False, False
        returned = metric.measure(_case(seen), **quiet)
        if metric.score is None and isinstance(returned, (bool, int, float)):
            metric.score = returned
        return metric

    return Part(
        package="deepeval",
        name=_name(value),
        call=call,
        read=_read,
        identity=identified(value, "deepeval", version, leave_out=_RESULTS),
        direction=_direction(value),
        low=0.0,
        high=1.0,
        gives="number",
    )


def _name(value: Any) -> str:
    named = getattr(value, "name", None)
    shown = named if isinstance(named, str) else getattr(value, "__name__", None)
    if not isinstance(shown, str) or shown == "Base Metric":
        return type(value).__name__
    return shown


def _direction(value: Any) -> Direction | None:
    """Which end its own `is_successful` calls good, asked of a copy; None where it calls neither or both."""
    found: list[bool] = []
    for score in (0.0, 1.0):
        metric = copy.copy(value)
        metric.score, metric.threshold, metric.error, metric.success = score, 0.5, None, None
        try:
            found.append(bool(metric.is_successful()))
        except Exception:  # a metric of the user's own that wants more than a score
            return None
    return {(False, True): "higher", (True, False): "lower"}.get((found[0], found[1]))  # pyright: ignore[reportReturnType]


def _takes_indicator(value: Any) -> bool:
    parameters = inspect.signature(value.measure).parameters
    return "_show_indicator" in parameters or any(p.kind is p.VAR_KEYWORD for p in parameters.values())


def _case(seen: Seen) -> Any:
    from deepeval.test_case import LLMTestCase  # pyright: ignore[reportMissingImports]  # not in our pins

    fields: dict[str, Any] = {
        "input": _text(seen.inputs),
        "actual_output": _text(seen.outputs),
        "expected_output": None if seen.reference is None else _text(seen.reference),
        "metadata": dict(seen.sample.metadata) or None,
    }
    sample = seen.sample
    for name in _LISTS:
        for holder in (sample.outputs, sample.reference_outputs, sample.inputs):
            if isinstance(holder, Mapping) and name in holder:
                fields[name] = cast("Mapping[str, Any]", holder)[name]
                break
    return LLMTestCase(**fields)


def _text(value: JSON) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, sort_keys=True)


def _read(metric: Any) -> tuple[Reading, ...]:
    if getattr(metric, "error", None) is not None:
        return (Reading(error=str(metric.error)),)
    if getattr(metric, "skipped", False):
        return ()
    why = getattr(metric, "reason", None)
    return (Reading(value=metric.score, explanation=why if isinstance(why, str) else None),)
