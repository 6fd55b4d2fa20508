"""LangSmith evaluators: functions of (run, example) or of parts of a row, and RunEvaluator objects."""

from __future__ import annotations

import inspect
import uuid
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib.util import find_spec
from typing import Any, Literal, cast

from steelyard.core.canonical import JSON, digest
from steelyard.core.errors import InvalidValue, MissingExtra
from steelyard.core.objects import described_object
from steelyard.evals.evaluators.foreign.identity import identified
from steelyard.evals.evaluators.foreign.part import Part, Reading, Seen

__all__ = ["annotated", "part_of", "read"]

_BY_NAME = ("run", "example", "inputs", "outputs", "reference_outputs", "attachments")
_EPOCH = datetime(2000, 1, 1, tzinfo=UTC)  # a run needs a start, and a score may not depend on the clock


def part_of(value: Any, version: str | None) -> Part | None:
    """The evaluator, or None for anything else of the package."""
    if hasattr(value, "evaluate_run") and hasattr(value, "aevaluate_run"):
        return _object(value, version)
    return _function(value, version) if callable(value) and not inspect.isclass(value) else None


def _object(value: Any, version: str | None) -> Part:
    inner = inspect.unwrap(value)
    is_async = bool(getattr(value, "is_async", False))
    if inner is value:
        identity: dict[str, JSON] = identified(value, "langsmith", version)
        is_async = (type(value).evaluate_run.__module__.startswith("langsmith.") and not is_async) or is_async
        gives: Literal["bool", "number", "unknown"] = annotated(type(value).evaluate_run)
    else:  # a decorated function: it is known by that
        identity = {"run_evaluator": described_object(inner, version)}
        gives = annotated(inner)
    named = getattr(value, "_name", None) or getattr(value, "__name__", None)
    keys = list(getattr(value, "feedback_keys", None) or ())

    def call(seen: Seen) -> Any:
        run, example = _run(seen), _example(seen)
        return value.aevaluate_run(run, example) if is_async else value.evaluate_run(run, example)

    return Part(
        package="langsmith",
        name=str(keys[0]) if len(keys) == 1 else str(named or type(value).__name__),
        call=call,
        read=read,
        identity=identity,
        is_async=is_async,
        gives=gives,
    )


def _function(function: Any, version: str | None) -> Part | None:
    name = getattr(function, "__name__", type(function).__name__)
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return None
    by_name = [p.name for p in parameters if p.name in _BY_NAME and p.kind is not p.POSITIONAL_ONLY]
    needed = {
        p.name for p in parameters if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    }
    whole = any(p.kind is p.VAR_KEYWORD for p in parameters)
    if whole:
        by_name = list(dict.fromkeys([*by_name, "inputs", "outputs", "reference_outputs"]))
    if not by_name or needed - set(by_name):
        # LangSmith also takes any two names for run and example; `f(output, expected)` would compare these.
        taken = ", ".join(p.name for p in parameters) or "nothing"
        raise InvalidValue(
            f"the function {name!r} is no evaluator: it takes {taken}",
            do="Decorate it with @steelyard.evaluator, or take (run, example) or any of inputs, outputs, "
            "reference_outputs, by these names, as LangSmith's evaluators do.",
        )
    is_async = inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(function)

    def call(seen: Seen) -> Any:
        offered = {
            "run": lambda: _run(seen),
            "example": lambda: _example(seen),
            "inputs": lambda: seen.inputs,
            "outputs": lambda: seen.outputs,
            "reference_outputs": lambda: seen.reference,
            "attachments": dict[str, Any],
        }
        return function(**{k: offered[k]() for k in by_name})

    return Part(
        package="langsmith",
        name=name,
        call=call,
        read=read,
        identity={"function": described_object(function, version)},
        is_async=is_async,
        gives=annotated(function),
    )


def annotated(function: Any) -> Literal["bool", "number", "unknown"]:
    """What a function says that it returns."""
    said = getattr(inspect.unwrap(function), "__annotations__", {}).get("return")
    word = getattr(said, "__name__", said)
    if word == "bool":
        return "bool"
    return "number" if word in ("float", "int") else "unknown"


def read(returned: Any) -> tuple[Reading, ...]:
    """What an evaluator of LangSmith's form returned: a value, a result, a dict, or several of these."""
    if returned is None or isinstance(returned, (bool, int, float)):
        return (Reading(value=returned),)
    if isinstance(returned, str):
        return (Reading(value=returned),)
    if isinstance(returned, Mapping):
        found = cast("Mapping[str, Any]", returned)
        if "results" in found:
            return read(list(found["results"]))
        return (_one(found),)
    if isinstance(returned, (list, tuple)):
        return tuple(r for one in cast("list[Any]", returned) for r in read(one))
    if hasattr(returned, "score") and hasattr(returned, "key"):
        return (_one({k: getattr(returned, k, None) for k in ("key", "score", "value", "comment", "extra")}),)
    item = getattr(returned, "item", None)
    if callable(item) and getattr(returned, "shape", None) == ():
        return (Reading(value=item()),)
    return (Reading(error=f"it returned a {type(returned).__name__}, no score"),)


def _one(found: Mapping[str, Any]) -> Reading:
    extra: Any = found.get("extra")
    key, why, value = found.get("key"), found.get("comment"), found.get("score")
    if isinstance(extra, Mapping) and extra.get("error"):  # how LangSmith notes that an evaluator failed
        return Reading(name=key, error=str(why or "it failed"))
    label = found.get("value")
    if value is None and label is not None:
        value, label = label, None
    if not ({"score", "value"} & set(found)):
        return Reading(name=key, error=f"it returned {sorted(found)}, neither score nor value")
    return Reading(
        name=key,
        value=value,
        label=label if isinstance(label, str) else None,
        explanation=why if isinstance(why, str) else None,
    )


def _run(seen: Seen) -> Any:
    schemas = _schemas()
    identity = uuid.uuid5(uuid.NAMESPACE_OID, digest([seen.inputs, seen.outputs]))
    return schemas.Run(
        id=identity,
        trace_id=identity,
        name="task",
        run_type="chain",
        start_time=_EPOCH,
        end_time=_EPOCH,
        dotted_order="",
        inputs=_as_object(seen.inputs, "input"),
        outputs=_as_object(seen.outputs, "output"),
    )


def _example(seen: Seen) -> Any:
    schemas = _schemas()
    return schemas.Example(
        id=uuid.uuid5(uuid.NAMESPACE_OID, digest([seen.inputs, seen.reference])),
        dataset_id=uuid.NAMESPACE_OID,
        created_at=_EPOCH,
        inputs=_as_object(seen.inputs, "input"),
        outputs=_as_object(seen.reference, "output") if seen.reference is not None else None,
        metadata=dict(seen.sample.metadata),
    )


def _as_object(value: JSON, word: str) -> dict[str, JSON]:
    # LangSmith's own rule for a target that returns no dict.
    return dict(cast("Mapping[str, Any]", value)) if isinstance(value, Mapping) else {word: value}


def _schemas() -> Any:
    if find_spec("langsmith") is None:
        raise MissingExtra("langsmith", extra="langchain", needed_for="An evaluator of (run, example)")
    from langsmith import schemas

    return schemas
