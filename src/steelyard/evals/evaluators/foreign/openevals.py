"""openevals evaluators: functions that give `{"key", "score", "comment"}`, and what its factories make."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any, cast

from steelyard.core.objects import described_object
from steelyard.evals.evaluators.foreign.identity import package_version
from steelyard.evals.evaluators.foreign.langsmith import read
from steelyard.evals.evaluators.foreign.part import Part, Seen

__all__ = ["part_of"]

_BETTER_HIGH = (
    # Shares of what matches, by their own documentation: 1 is best. `levenshtein_distance` is a similarity.
    "exact_match",
    "levenshtein_distance",
    "trajectory_strict_match",
    "trajectory_subset",
    "trajectory_superset",
    "trajectory_unordered_match",
    "create_trajectory_match_evaluator",
    "create_async_trajectory_match_evaluator",
)
_JSON = ("create_json_match_evaluator", "create_async_json_match_evaluator")


def part_of(value: Any, version: str | None) -> Part | None:
    """The evaluator, or None for anything else of the package.

    A model as judge says neither range nor which end is good: its prompts ask for TRUE where an answer is
    correct, and also where it is lazy or biased. Its direction has to be declared.
    """
    if not inspect.isroutine(value):
        return None
    made = value.__qualname__.partition(".")[0]
    cells = _cells(value)
    name = str(cells.get("feedback_key") or made.removesuffix("_async"))
    known = made.removesuffix("_async") in _BETTER_HIGH
    low, high = 0.0, 1.0
    if made in _JSON:
        name, known = "json_match", cells.get("judge") is None and not cells.get("rubric")
    elif "trajectory_match_mode" in cells:
        name = f"trajectory_{cells['trajectory_match_mode']}_match"
    inner = _cells(cells["scorer"]) if inspect.isfunction(cells.get("scorer")) else {}
    choices: Any = inner.get("choices") or cells.get("choices")
    if isinstance(choices, Sequence) and choices:
        numbers = [float(c) for c in cast("Sequence[Any]", choices)]
        low, high = min(numbers), max(numbers)
    parameters = inspect.signature(value).parameters
    takes = {"outputs", "reference_outputs"}
    if made not in _JSON:  # json_match fails on inputs that it is given
        takes.add("inputs")
    if not any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        takes &= set(parameters)

    def call(seen: Seen) -> Any:
        offered = {"inputs": seen.inputs, "outputs": seen.outputs, "reference_outputs": seen.reference}
        return value(**{k: v for k, v in offered.items() if k in takes and v is not None})

    return Part(
        package="openevals",
        name=name,
        call=call,
        read=read,
        identity={
            "package": ["openevals", package_version("openevals")],
            "function": described_object(value, version),
        },
        is_async=inspect.iscoroutinefunction(value),
        direction="higher" if known else None,
        low=low,
        high=high,
        gives="number",
    )


def _cells(function: Any) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            out[key] = cell.cell_contents
        except ValueError:
            continue
    return out
