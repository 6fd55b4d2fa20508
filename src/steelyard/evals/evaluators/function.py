"""Evaluators made of functions."""

from __future__ import annotations

import inspect
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, cast, overload

from steelyard.core.canonical import digest
from steelyard.core.errors import InvalidValue
from steelyard.core.score import Direction, Metric, Score
from steelyard.core.source import function_digest
from steelyard.evals.evaluators.base import Sample, failed
from steelyard.evals.threads import DaemonThreads

__all__ = ["FunctionEvaluator", "evaluator"]

OFFERED = tuple(f.name for f in fields(Sample))
"""What a function may ask for by name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FunctionEvaluator:
    """A function that scores one row.

    A sync one runs in a thread of its own, an async one on the runner's loop.

    Attributes:
        metrics: What it measures.
        digest: Identity of the function and of what its metrics' values mean.
        needs: Which fields of `Sample` it takes.
        function: The function.
    """

    metrics: tuple[Metric, ...]
    digest: str
    needs: frozenset[str]
    function: Callable[..., Any] = field(repr=False)

    @property
    def needs_lm(self) -> bool:
        """False: a function that asks a model brings its own."""
        return False

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """What the function returns: it stays a function that can be called and tested."""
        return self.function(*args, **kwargs)

    @property
    def is_async(self) -> bool:
        """Whether calling the function gives an awaitable."""
        return _is_async(self.function)

    async def evaluate(self, sample: Sample) -> tuple[Score, ...]:
        """The scores of one row, one a metric; a wrong return is an error, never a value."""
        if self.is_async:
            return self._scored(await cast("Awaitable[object]", self.function(**self._arguments(sample))))
        threads = DaemonThreads()
        try:
            return await threads.call(lambda: self.evaluate_now(sample))
        finally:
            threads.close()

    def evaluate_now(self, sample: Sample) -> tuple[Score, ...]:
        """The scores by a sync function, in the thread that calls."""
        return self._scored(self.function(**self._arguments(sample)))

    def _arguments(self, sample: Sample) -> dict[str, Any]:
        return {name: getattr(sample, name) for name in self.needs}

    def _scored(self, result: object) -> tuple[Score, ...]:
        if len(self.metrics) == 1:
            only = self.metrics[0]
            if isinstance(result, Mapping) and set(cast("Mapping[str, Any]", result)) == {only.name}:
                result = cast("Mapping[str, Any]", result)[only.name]
            return (self._score(only, result),)
        return self._several(result)

    def _several(self, result: object) -> tuple[Score, ...]:
        names = [m.name for m in self.metrics]
        if isinstance(result, Sequence) and all(isinstance(s, Score) for s in cast("Sequence[Any]", result)):
            result = {s.name: s for s in cast("Sequence[Score]", result)}
        if not isinstance(result, Mapping):
            text = f"it returned {_kind(result)}; several metrics want an object with {names}"
            return tuple(failed(n, "evaluator", text, self.digest) for n in names)
        values = cast("Mapping[Any, object]", result)
        if stray := [k for k in values if k not in names]:
            text = f"it returned the undeclared metrics {stray}; declare them: metrics=[...]"
            return tuple(failed(n, "evaluator", text, self.digest) for n in names)
        return tuple(self._score(m, values.get(m.name)) for m in self.metrics)

    def _score(self, metric: Metric, result: object) -> Score:
        if isinstance(result, Score):
            return replace(result, name=metric.name, evaluator_version=self.digest)
        if isinstance(result, str):
            # A label counts where the metric says what it is worth.
            text = f"it returned the label {result!r:.60}, which no labels={{...}} gives a value"
            return failed(metric.name, "evaluator", text, self.digest)
        item = getattr(result, "item", None)
        if callable(item) and getattr(result, "shape", None) == ():  # a NumPy scalar
            result = item()
        if not isinstance(result, (bool, int, float)):
            text = f"it returned {_kind(result)}, not a bool, number or Score"
            return failed(metric.name, "evaluator", text, self.digest)
        try:
            value = float(result)
        except OverflowError:
            value = math.inf
        if not math.isfinite(value):
            return failed(metric.name, "evaluator", f"it returned {value}", self.digest)
        return Score(name=metric.name, value=value, evaluator_version=self.digest)


@overload
def evaluator(function: Callable[..., Any], /) -> FunctionEvaluator: ...
@overload
def evaluator(
    *,
    name: str | None = None,
    direction: Direction = "higher",
    range: tuple[float, float] | None = (0.0, 1.0),
    unit: str | None = None,
    labels: Mapping[str, float] | None = None,
    metrics: Sequence[Metric] | None = None,
    version: str | None = None,
) -> Callable[[Callable[..., Any]], FunctionEvaluator]: ...
def evaluator(
    function: Callable[..., Any] | None = None,
    /,
    *,
    name: str | None = None,
    direction: Direction = "higher",
    range: tuple[float, float] | None = (0.0, 1.0),
    unit: str | None = None,
    labels: Mapping[str, float] | None = None,
    metrics: Sequence[Metric] | None = None,
    version: str | None = None,
) -> FunctionEvaluator | Callable[[Callable[..., Any]], FunctionEvaluator]:
    """The evaluator made of a function that takes any of `OFFERED` by name; a decorator.

    The function returns a bool, a number, a label of `labels`, a `Score`, or with `metrics` an object that
    has one of these for each. None, NaN, or anything else is an error, never a value.

    Args:
        function: The function, sync or async, where the decorator is used without arguments.
        name: The metric's name; the function's if left out.
        direction: Whether higher or lower is better.
        range: Smallest and largest possible value, or None where there is none.
        unit: For people.
        labels: What each label is worth, for a function that returns words.
        metrics: The metrics of a function that measures several; instead of name, direction, range, unit.
        version: Declared version, for code whose source cannot be read or that calls other code.

    Raises:
        InvalidValue: it asks for something that nobody gives it, or has no stable identity.
    """

    def wrap(given: Callable[..., Any]) -> FunctionEvaluator:
        if not callable(given):
            raise InvalidValue(f"{given!r} is no function", do="Decorate a function with @evaluator.")
        if metrics is not None:
            if labels is not None:
                raise InvalidValue(
                    "labels= goes with one metric",
                    do="Return Score(value=..., label=...) for each of several.",
                )
            measured = tuple(metrics)
        else:
            low, high = range if range is not None else (None, None)
            shown = name or getattr(given, "__name__", type(given).__name__)
            measured = (Metric(name=shown, direction=direction, low=low, high=high, unit=unit),)
        if not measured or len({m.name for m in measured}) < len(measured):
            raise InvalidValue(f"metrics={metrics!r}", do="Give one or more metrics, each with its own name.")
        meaning = [m.to_json() for m in measured]
        if metrics is None:  # a renamed metric measures the same
            del meaning[0]["name"]
        made = _labelled(given, labels) if labels is not None else given
        identity = {
            "evaluator": "function",
            "function": function_digest(given, version=version),
            "labels": dict(labels) if labels is not None else None,
            "metrics": meaning,
        }
        return FunctionEvaluator(
            metrics=measured, digest=digest(identity), needs=_needs(given), function=made
        )

    return wrap if function is None else wrap(function)


def _labelled(function: Callable[..., Any], labels: Mapping[str, float]) -> Callable[..., Any]:
    """The function, with the labels it returns turned into scores."""
    worth = dict(labels)

    def scored(result: object) -> object:
        if isinstance(result, str) and result in worth:
            return Score(name="label", value=float(worth[result]), label=result)
        return result

    if _is_async(function):

        async def awaited(**arguments: Any) -> object:
            return scored(await function(**arguments))

        return awaited

    def called(**arguments: Any) -> object:
        return scored(function(**arguments))

    return called


def _needs(function: Callable[..., Any]) -> frozenset[str]:
    shown = getattr(function, "__qualname__", repr(function))
    wants: set[str] = set()
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):
        raise InvalidValue(
            f"the arguments of {shown} cannot be read", do="Wrap it in a function of your own."
        ) from None
    for parameter in parameters:
        if parameter.name in OFFERED and parameter.kind is not parameter.POSITIONAL_ONLY:
            wants.add(parameter.name)
        elif parameter.kind is parameter.VAR_KEYWORD:
            wants.update(OFFERED)
        elif parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL:
            raise InvalidValue(
                f"evaluator {shown!r} asks for {parameter.name!r}, which nobody gives it",
                do=f"An evaluator takes any of {', '.join(OFFERED)} by name.",
            )
    return frozenset(wants)


def _is_async(function: Callable[..., Any]) -> bool:
    inner = inspect.unwrap(function)
    call = getattr(inner, "__call__", None)  # noqa: B004 - an instance with an async __call__
    return inspect.iscoroutinefunction(inner) or inspect.iscoroutinefunction(call)


def _kind(value: object) -> str:
    return "None" if value is None else f"a {type(value).__name__}"
