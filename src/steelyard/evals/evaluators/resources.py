"""Built-ins that read what a row consumed: latency, cost, output tokens. No range; lower is better."""

from __future__ import annotations

from collections.abc import Callable

from steelyard.core.errors import InvalidValue
from steelyard.core.results import Usage
from steelyard.core.score import Metric
from steelyard.evals.evaluators.base import Check, Outcome, Sample

__all__ = ["cost", "latency", "output_tokens"]


def latency(*, name: str = "latency_s") -> Check:
    """An evaluator that gives the seconds a row waited for the model, as measured when it was live."""
    return _of_usage("latency", name, "s", lambda usage: usage.latency_s)


def cost(*, name: str = "cost_usd") -> Check:
    """An evaluator that gives a row's US dollars; an unknown price is an error, never 0."""

    def dollars(usage: Usage) -> float:
        if usage.cost_usd is None:
            raise InvalidValue("the price of a model call is unknown", do="Leave cost() out for this model.")
        return usage.cost_usd

    return _of_usage("cost", name, "USD", dollars)


def output_tokens(*, name: str = "output_tokens") -> Check:
    """An evaluator that gives the tokens that the model wrote for a row."""
    return _of_usage("output_tokens", name, "tokens", lambda usage: usage.output_tokens)


def _of_usage(kind: str, name: str, unit: str, read: Callable[[Usage], float]) -> Check:
    def function(sample: Sample) -> Outcome:
        if sample.usage.calls == 0:
            raise InvalidValue(
                "no model call was seen in this row, so it has no latency, cost or tokens",
                do="Call the model through `lm` or the openai package inside the task.",
            )
        return Outcome(float(read(sample.usage)))

    return Check(
        kind=kind,
        metric=Metric(name=name, direction="lower", low=None, high=None, unit=unit),
        arguments={},
        function=function,
        needs=frozenset({"usage"}),
    )
