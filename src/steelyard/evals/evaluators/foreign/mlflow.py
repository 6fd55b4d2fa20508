"""MLflow scorers and judges. Nothing of MLflow is imported: whoever made the scorer has done that."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Mapping
from typing import Any, Literal, cast

from steelyard.core.canonical import JSON, plain
from steelyard.core.errors import InvalidValue
from steelyard.core.objects import described_object
from steelyard.evals.evaluators.foreign.identity import identified, package_version
from steelyard.evals.evaluators.foreign.langsmith import annotated
from steelyard.evals.evaluators.foreign.part import Part, Reading, Seen

__all__ = ["part_of"]

_NAMES = ("name", "description", "aggregations", "timeout", "mlflow_version", "serialization_version")
_YES_NO = {"yes": 1.0, "no": 0.0}


def part_of(value: Any, version: str | None) -> Part | None:
    """The scorer, or None for anything else of the package.

    By MLflow's own rule True and "yes" pass; of a number it says nothing.

    Raises:
        InvalidValue: the scorer judges a trace or a whole session, and a row has neither.
    """
    if not any(
        b.__module__.startswith("mlflow.genai.") and b.__name__ == "Scorer" for b in type(value).__mro__
    ):
        return None
    name = str(value.name)
    takes = set(inspect.signature(value.__call__).parameters)
    needed: Any = getattr(value, "required_columns", None) or ()
    if (
        value.is_session_level_scorer
        or not takes & {"inputs", "outputs", "expectations"}
        or "trace" in needed
    ):
        what = "a whole session" if value.is_session_level_scorer else "a trace"
        raise InvalidValue(
            f"MLflow's scorer {name!r} judges {what}, and a row has inputs, outputs and reference outputs",
            do="Use one that takes these.",
        )

    def call(seen: Seen) -> Any:
        reference = seen.reference
        if reference is not None and not isinstance(reference, Mapping):
            reference = {"expected_response": reference}  # what MLflow's own scorers look for
        inputs = seen.inputs if isinstance(seen.inputs, Mapping) else {"input": seen.inputs}
        return value.run(inputs=inputs, outputs=seen.outputs, expectations=reference)

    gives = _gives(value)
    return Part(
        package="mlflow",
        name=name,
        call=call,
        read=_read,
        identity=_identity(value, version),
        direction="higher" if gives == "bool" else None,
        low=0.0,
        high=1.0,
        gives=gives,
        labels=_YES_NO,
    )


def _gives(value: Any) -> Literal["bool", "number", "unknown"]:
    function = getattr(value, "_original_func", None)
    if function is not None:
        return annotated(function)
    said: Any = getattr(value, "feedback_value_type", None)
    said = getattr(value, "_feedback_value_type", said) or said
    if said is bool or (typing.get_origin(said) is Literal and set(typing.get_args(said)) <= {"yes", "no"}):
        return "bool"
    if said in (int, float):
        return "number"
    return "unknown"


def _identity(value: Any, version: str | None) -> dict[str, JSON]:
    package = ["mlflow", package_version("mlflow")]
    function = getattr(value, "_original_func", None)
    if function is not None:
        return {"package": package, "scorer": described_object(function, version)}
    out = identified(value, "mlflow", version, leave_out=_NAMES)
    try:
        dumped = cast("dict[str, Any]", plain(value.model_dump()))
    except Exception:  # a scorer class of the user's own says so of itself: its source is in `out`
        return out
    kept = {k: v for k, v in dumped.items() if k not in _NAMES}
    for inner in kept.values():
        if isinstance(inner, dict):
            for name in _NAMES:
                cast("dict[str, Any]", inner).pop(name, None)
    return out | {"settings": kept}


def _read(returned: Any) -> tuple[Reading, ...]:
    if isinstance(returned, list):
        return tuple(r for one in cast("list[Any]", returned) for r in _read(one))
    if hasattr(returned, "rationale") and hasattr(returned, "name"):
        wrong = getattr(returned, "error", None)
        if wrong is not None:
            code, said = getattr(wrong, "error_code", ""), getattr(wrong, "error_message", None) or str(wrong)
            return (Reading(name=returned.name, error=f"{code}: {said}".removeprefix(": ")),)
        value = getattr(returned, "value", None)
        return (Reading(name=returned.name, value=value, explanation=returned.rationale),)
    return (Reading(value=returned),)
