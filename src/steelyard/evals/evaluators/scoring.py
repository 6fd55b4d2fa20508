"""All scores of one row: every evaluator bounded in time, none able to harm another."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.clock import monotonic
from steelyard.core.errors import CallFailed, InvalidValue, ReplayMiss
from steelyard.core.plugins import Registry
from steelyard.core.results import Usage
from steelyard.core.score import Score
from steelyard.evals.blame import described
from steelyard.evals.evaluators import resources, structure, text
from steelyard.evals.evaluators.base import Check, Evaluator, Sample, error_scores, failed

__all__ = ["EVALUATORS", "invalid_output_scores", "resolve_evaluators", "score_row"]

EVALUATORS: Registry[Any] = Registry("evaluator", "steelyard.evaluators")
"""Evaluators by name, for settings and the command line; a plugin's entry point is a value or a factory."""

for _module in (resources, structure, text):
    for _name in _module.__all__:
        EVALUATORS.add(_name, partial(getattr, _module, _name))


async def score_row(
    evaluators: Sequence[Evaluator],
    *,
    inputs: Mapping[str, JSON],
    outputs: JSON,
    reference_outputs: JSON = None,
    metadata: Mapping[str, JSON] | None = None,
    usage: Usage | None = None,
    timeout_s: float = 60.0,
    trace: object = None,
) -> tuple[Score, ...]:
    """The scores of one row: exactly one a metric, in the order of the evaluators.

    Built-in checks run inline; functions and judges run beside each other. What raises, hangs or returns
    something that is no score gives an error for its own metrics only.

    Args:
        evaluators: The evaluators, judges bound.
        inputs: What the task got.
        outputs: What it returned, as plain JSON.
        reference_outputs: The example's.
        metadata: The example's.
        usage: What the row's model calls consumed.
        timeout_s: Seconds that each evaluator may take.
        trace: The row's trace.
    """
    sample = Sample(
        inputs=inputs,
        outputs=outputs,
        reference_outputs=reference_outputs,
        metadata=metadata or {},
        usage=usage or Usage(),
        trace=trace,
    )
    slow = {
        i: asyncio.create_task(_bounded(e, sample, timeout_s))
        for i, e in enumerate(evaluators)
        if not isinstance(e, Check)
    }
    try:
        out: list[Score] = []
        for i, evaluator in enumerate(evaluators):
            out += (await slow[i]) if i in slow else await _bounded(evaluator, sample, timeout_s)
        return tuple(out)
    finally:
        for task in slow.values():
            task.cancel()


async def _bounded(evaluator: Evaluator, sample: Sample, timeout_s: float) -> tuple[Score, ...]:
    began = monotonic()
    try:
        scores = await asyncio.wait_for(_contained(evaluator, sample), timeout_s)
    except TimeoutError as error:
        late = monotonic() - began >= timeout_s
        text = f"no score within {timeout_s:g} s" if late else f"TimeoutError: {error}"
        return error_scores(evaluator, "timeout" if late else "evaluator", text)
    except CallFailed as error:  # a judge, or a function that calls a model
        return error_scores(evaluator, error.kind, error.what)
    except ReplayMiss as error:
        return error_scores(evaluator, "replay_miss", str(error))
    except Exception as error:
        return error_scores(evaluator, "evaluator", described(error))
    names = tuple(m.name for m in evaluator.metrics)
    given: tuple[object, ...] = tuple(scores)
    if tuple(getattr(s, "name", None) for s in given) != names:
        return error_scores(evaluator, "evaluator", f"it gave scores other than its metrics {list(names)}")
    return tuple(_in_range(evaluator, s) for s in scores)


async def _contained(evaluator: Evaluator, sample: Sample) -> tuple[Score, ...]:
    try:
        return await evaluator.evaluate(sample)
    except SystemExit as error:  # asyncio would end the whole run with it
        raise RuntimeError(f"it called sys.exit({error.code!r})") from None


def _in_range(evaluator: Evaluator, score: Score) -> Score:
    metric = next(m for m in evaluator.metrics if m.name == score.name)
    value = score.value
    if value is None or not metric.bounded:
        return score
    if metric.low <= value <= metric.high:  # type: ignore[operator]  # bounded: both are numbers
        return score
    return failed(
        score.name,
        "evaluator",
        f"{value:g} is outside the metric's range [{metric.low:g}, {metric.high:g}]",
        score.evaluator_version,
    )


def invalid_output_scores(
    evaluators: Sequence[Evaluator], reason: str, usage: Usage | None = None
) -> tuple[Score, ...]:
    """The scores of a row whose answer is unusable: the worst value, labelled `invalid_output`.

    A metric without a range has no worst value: what only looks at the row's usage is measured as ever,
    anything else is an error.

    Args:
        evaluators: The evaluators.
        reason: Why the answer is unusable.
        usage: What the row's model calls consumed.
    """
    out: list[Score] = []
    for evaluator in evaluators:
        if isinstance(evaluator, Check) and evaluator.needs == frozenset({"usage"}) and usage is not None:
            out.append(evaluator.check(Sample(usage=usage)))
            continue
        for metric in evaluator.metrics:
            worst = metric.low if metric.direction == "higher" else metric.high
            if metric.bounded and worst is not None:
                score = Score(
                    name=metric.name,
                    value=float(worst),
                    label="invalid_output",
                    explanation=reason,
                    evaluator_version=evaluator.digest,
                )
            else:
                text = f"the output is invalid ({reason}), and a metric without a range has no worst value"
                score = failed(metric.name, "evaluator", text, evaluator.digest)
            out.append(score)
    return tuple(out)


def resolve_evaluators(given: Sequence[Evaluator | str]) -> tuple[Evaluator, ...]:
    """The evaluators, those given by name looked up, and no metric measured twice.

    Raises:
        NotFound: no evaluator has that name; the text offers the nearest.
        InvalidValue: something is no evaluator, or two measure a metric of the same name.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance] - user code is untyped
        raise InvalidValue(f"evaluators={given!r} is no list", do="Write evaluators=[exact_match()].")
    out: list[Evaluator] = []
    owner: set[str] = set()
    for one in given:
        evaluator = _named(one) if isinstance(one, str) else one
        if not isinstance(evaluator, Evaluator):  # pyright: ignore[reportUnnecessaryIsInstance]
            raise InvalidValue(
                _no_evaluator(evaluator), do="Write exact_match(), or decorate with @evaluator."
            )
        if not evaluator.metrics:
            raise InvalidValue(f"{evaluator!r} measures nothing", do="Give it at least one metric.")
        for metric in evaluator.metrics:
            if metric.name in owner:
                raise InvalidValue(
                    f"two evaluators measure {metric.name!r}",
                    do=f"Rename one: name={metric.name + '_2'!r}.",
                )
            owner.add(metric.name)
        out.append(evaluator)
    return tuple(out)


def _named(name: str) -> Evaluator:
    found = EVALUATORS.get(name)
    if isinstance(found, Evaluator):
        return found
    try:
        return found()  # a factory, with its defaults
    except TypeError:
        raise InvalidValue(
            f"the evaluator {name!r} needs arguments, so its name alone is not enough",
            do=f"Import it and call it: {name}(...).",
        ) from None


def _no_evaluator(value: object) -> str:
    name = getattr(value, "__name__", None)
    if name is not None:
        return f"the function {name!r} is no evaluator"
    return f"{value!r} is no evaluator"
