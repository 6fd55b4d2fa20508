"""What an adapter says of a foreign evaluator, and the evaluator that is made of it."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue, SteelyardError
from steelyard.core.score import Direction, Metric, Score
from steelyard.evals.evaluators.base import Sample, error_scores, failed
from steelyard.evals.evaluators.fields import ABSENT, output_at, reference_at
from steelyard.evals.threads import DaemonThreads
from steelyard.lm import failure_of
from steelyard.lm.one_loop import on_one_loop

__all__ = ["ForeignEvaluator", "Part", "Picks", "Reading", "Seen"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """One row as a foreign evaluator sees it: the sample, or the parts of it that were asked for."""

    inputs: JSON
    outputs: JSON
    reference: JSON
    sample: Sample


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """One value that a foreign evaluator gave.

    Attributes:
        value: A bool, a number, or a label; None where it gave none (it skipped the row).
        name: What it calls it; None for its only one.
        label: A word beside the value.
        explanation: Why, in words.
        error: Why there is no value.
    """

    value: Any = None
    name: str | None = None
    label: str | None = None
    explanation: str | None = None
    error: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """A foreign evaluator as its adapter understands it.

    Attributes:
        package: The distribution it comes from, for error texts.
        name: What it calls its metric.
        call: Calls it on a row.
        read: What it returned, read.
        identity: Its package's version, its class and its settings: everything of it that changes a score.
        is_async: Whether `call` gives an awaitable.
        direction: Whether higher is better; None where the package does not say.
        low, high: Its range where the package says so; both None where it does not.
        gives: What its values are, as far as that can be known before it is called.
        labels: What its labels are worth by the package's own rule.
    """

    package: str
    name: str
    call: Callable[[Seen], Any]
    read: Callable[[Any], tuple[Reading, ...]]
    identity: JSON
    is_async: bool = False
    direction: Direction | None = None
    low: float | None = None
    high: float | None = None
    gives: Literal["bool", "number", "unknown"] = "unknown"
    labels: Mapping[str, float] = field(default_factory=dict[str, float])


@dataclass(frozen=True, slots=True, kw_only=True)
class Picks:
    """Which parts of a row an evaluator gets, as paths; None is the whole.

    Attributes:
        field: In the outputs.
        reference: In the reference outputs.
        input: In the inputs.
    """

    field: str | None = None
    reference: str | None = None
    input: str | None = None

    def of(self, sample: Sample) -> Seen | None:
        """The row; None where the outputs lack the field.

        Raises:
            InvalidValue: the inputs or the reference outputs lack theirs, or the outputs are no object.
        """
        outputs = sample.outputs if self.field is None else output_at(sample.outputs, self.field)
        if outputs is ABSENT:
            return None
        reference = sample.reference_outputs
        if self.reference is not None:
            reference = reference_at(reference, self.reference)
        inputs: JSON = dict(sample.inputs)
        if self.input is not None:
            inputs = output_at(inputs, self.input)
            if inputs is ABSENT:
                raise InvalidValue(f"the inputs have no field {self.input!r}", do="Mend input=.")
        return Seen(inputs=inputs, outputs=outputs, reference=reference, sample=sample)


@dataclass(frozen=True, slots=True, kw_only=True)
class ForeignEvaluator:
    """An evaluator of another package.

    A sync one runs in a thread of its own, an async one on an event loop that stays; both in the row's scope,
    so that their model calls are recorded and replayed.

    Attributes:
        metrics: What it measures.
        digest: Identity of the package's version, the class, its settings, and what its values mean.
        part: How it is called and read.
        picks: What of a row it gets.
        labels: What its labels are worth.
        bools_only: Whether a number would be an error, because nobody said which end is better.
    """

    metrics: tuple[Metric, ...]
    digest: str
    part: Part = field(repr=False)
    picks: Picks
    labels: Mapping[str, float]
    bools_only: bool = False

    @property
    def needs(self) -> frozenset[str]:
        """All that a row has: what a foreign evaluator looks at is its own affair."""
        return frozenset({"inputs", "outputs", "reference_outputs", "metadata"})

    @property
    def needs_lm(self) -> bool:
        """False: it brings its own model, if any."""
        return False

    async def evaluate(self, sample: Sample) -> tuple[Score, ...]:
        """The scores of one row, one a metric. What it raises, skips or returns unreadably is an error."""
        seen = self.picks.of(sample)
        if seen is None:
            return tuple(self._absent(m) for m in self.metrics)
        try:
            returned = await self._called(seen)
        except SteelyardError:
            raise
        except Exception as error:  # a failed model call beneath it keeps its kind
            known = failure_of(error)
            if known is None:
                raise
            return error_scores(self, known.kind, known.message)
        return self._scores(self.part.read(returned))

    async def _called(self, seen: Seen) -> Any:
        if self.part.is_async:

            async def work() -> Any:
                return await cast("Awaitable[Any]", self.part.call(seen))

            return await on_one_loop(work)
        threads = DaemonThreads()
        try:
            return await threads.call(lambda: self.part.call(seen))
        finally:
            threads.close()

    def _scores(self, readings: tuple[Reading, ...]) -> tuple[Score, ...]:
        if not readings:
            return error_scores(self, "evaluator", f"{self._shown} skipped the row: it gave no value")
        if len(self.metrics) == 1 and len(readings) == 1:
            return (self._score(self.metrics[0], readings[0]),)
        by_name = {r.name: r for r in readings}
        names = [m.name for m in self.metrics]
        if strangers := [str(n) for n in by_name if n not in names]:
            text = f"{self._shown} gave {', '.join(strangers)}; declare each: adapt(..., metrics=[...])"
            return error_scores(self, "evaluator", text)
        return tuple(self._score(m, by_name.get(m.name, Reading())) for m in self.metrics)

    def _score(self, metric: Metric, reading: Reading) -> Score:
        value = reading.value
        item = getattr(value, "item", None)
        if callable(item) and getattr(value, "shape", None) == ():  # a NumPy scalar
            value = item()
        label = reading.label
        if reading.error is not None:
            return failed(metric.name, "evaluator", f"{self._shown}: {reading.error}", self.digest)
        if value is None:
            text = f"{self._shown} skipped the row: it gave no value"
            return failed(metric.name, "evaluator", text, self.digest)
        if isinstance(value, str):
            label = str(getattr(value, "value", value))  # an enum of texts is its text
            if label not in self.labels:
                text = (
                    f"{self._shown} gave the label {label!r:.60}; say its worth: adapt(..., labels={{...}})"
                )
                return failed(metric.name, "evaluator", text, self.digest)
            value = self.labels[label]
        elif self.bools_only and not isinstance(value, bool):
            text = (
                f"{self._shown} gave {value!r:.60}, and nobody says whether more is better: "
                "adapt(..., direction='higher', low=0, high=1)"
            )
            return failed(metric.name, "evaluator", text, self.digest)
        if not isinstance(value, (bool, int, float)):
            text = f"{self._shown} gave a {type(value).__name__}, no bool, number or label"
            return failed(metric.name, "evaluator", text, self.digest)
        try:
            number = float(value)
        except OverflowError:
            number = math.inf
        if not math.isfinite(number):
            return failed(metric.name, "evaluator", f"{self._shown} gave {number}", self.digest)
        return Score(
            name=metric.name,
            value=number,
            label=label,
            explanation=reading.explanation,
            evaluator_version=self.digest,
        )

    def _absent(self, metric: Metric) -> Score:
        worst = metric.low if metric.direction == "higher" else metric.high
        text = f"the output has no field {self.picks.field!r}"
        if not metric.bounded or worst is None:
            return failed(metric.name, "evaluator", text, self.digest)
        return Score(
            name=metric.name,
            value=float(worst),
            label="absent",
            explanation=text,
            evaluator_version=self.digest,
        )

    @property
    def _shown(self) -> str:
        return f"{self.part.package}'s {self.part.name}"
