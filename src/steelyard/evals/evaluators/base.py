"""What an evaluator is: metrics, an identity, and a score for one row."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from steelyard.core.canonical import JSON, digest
from steelyard.core.errors import InvalidValue, did_you_mean
from steelyard.core.results import Usage
from steelyard.core.score import Failure, Metric, Score
from steelyard.evals.evaluators.fields import has_reference

__all__ = ["Check", "Evaluator", "Outcome", "Sample", "error_scores", "failed"]

_MESSAGE = 2_000  # characters of an error's text that a score keeps


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One row as evaluators see it.

    Attributes:
        inputs: What the task got.
        outputs: What it returned, as plain JSON.
        reference_outputs: The example's, None where it has none.
        metadata: The example's.
        usage: What the row's model calls consumed.
        trace: The row's trace, None where none was recorded.
    """

    inputs: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    outputs: JSON = None
    reference_outputs: JSON = None
    metadata: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    usage: Usage = field(default_factory=Usage)
    trace: object = None


@runtime_checkable
class Evaluator(Protocol):
    """Scores one row. A plain value: the same digest means the same yardstick.

    Attributes:
        metrics: What it measures; `evaluate` gives exactly one score a metric.
        digest: Identity of everything that changes a score, `sha256:<hex>`; the metrics' names do not.
        needs: Which fields of `Sample` it looks at.
        needs_lm: Whether it must be bound to a model (`bind(lm)`) before it can evaluate.
    """

    @property
    def metrics(self) -> tuple[Metric, ...]: ...  # noqa: D102 - see Attributes

    @property
    def digest(self) -> str: ...  # noqa: D102

    @property
    def needs(self) -> frozenset[str]: ...  # noqa: D102

    @property
    def needs_lm(self) -> bool: ...  # noqa: D102

    async def evaluate(self, sample: Sample) -> tuple[Score, ...]:
        """The scores of one row, one a metric.

        What it raises becomes an error of kind `evaluator`, never a value.
        """
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a built-in found.

    Attributes:
        value: The value, a finite number.
        label: A word for it.
        explanation: Why.
    """

    value: float
    label: str | None = None
    explanation: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """A built-in evaluator: a pure, bounded function of the row, run where the runner runs.

    Attributes:
        kind: Which built-in it is.
        metric: What it measures.
        arguments: The factory's arguments as plain JSON; with `kind` they are the identity.
        function: What gives the outcome.
        needs: Which fields of `Sample` it looks at.
    """

    kind: str
    metric: Metric
    arguments: Mapping[str, JSON]
    function: Callable[[Sample], Outcome] = field(repr=False, compare=False)
    needs: frozenset[str] = frozenset({"outputs", "reference_outputs"})

    @property
    def metrics(self) -> tuple[Metric, ...]:
        """The one metric."""
        return (self.metric,)

    @property
    def digest(self) -> str:
        """Identity of kind, arguments and what the metric's values mean."""
        meaning = {k: v for k, v in self.metric.to_json().items() if k != "name"}
        return digest(
            {"evaluator": self.kind, "arguments": dict(self.arguments), "metric": meaning, "form": 1}
        )

    @property
    def needs_lm(self) -> bool:
        """False: no built-in check asks a model."""
        return False

    def missing_reference(self, references: Iterable[JSON]) -> str | None:
        """Why no row can be scored: none of the references holds what this check compares with."""
        if "reference_outputs" not in self.needs:
            return None
        path = self.arguments.get("reference")
        path = path if isinstance(path, str) else None
        keys: set[str] = set()
        for reference in references:
            if has_reference(reference, path):
                return None
            keys |= set(reference) if isinstance(reference, Mapping) else set()
        what = "reference_outputs" if path is None else f"reference_outputs.{path}"
        hint = did_you_mean(path or "", keys, f"They hold {', '.join(sorted(keys))}." if keys else "")
        return (
            f"{self.metric.name}: no example has {what}, so nothing can be compared with it. {hint}".strip()
        )

    def check(self, sample: Sample) -> Score:
        """The score of one row."""
        try:
            outcome = self.function(sample)
        except InvalidValue as error:
            return failed(self.metric.name, "evaluator", str(error), self.digest)
        except TimeoutError as error:
            return failed(self.metric.name, "timeout", str(error), self.digest)
        if not math.isfinite(outcome.value):
            return failed(self.metric.name, "evaluator", f"the value is {outcome.value}", self.digest)
        return Score(
            name=self.metric.name,
            value=float(outcome.value),
            label=outcome.label,
            explanation=outcome.explanation,
            evaluator_version=self.digest,
        )

    async def evaluate(self, sample: Sample) -> tuple[Score, ...]:
        """The score of one row, alone in a tuple."""
        return (self.check(sample),)


def failed(name: str, kind: str, message: str, version: str | None) -> Score:
    """A score that has an error instead of a value."""
    text = message[:_MESSAGE].encode("utf-8", "replace").decode()
    return Score(name=name, error=Failure(kind=kind, message=text), evaluator_version=version)


def error_scores(evaluator: Evaluator, kind: str, message: str) -> tuple[Score, ...]:
    """One error a metric of an evaluator."""
    return tuple(failed(m.name, kind, message, evaluator.digest) for m in evaluator.metrics)
