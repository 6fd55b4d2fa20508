"""All scores of one row: every evaluator bounded in time, none able to harm another."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, cast

from steelyard.core.canonical import JSON
from steelyard.core.errors import CallFailed, InvalidValue, ReplayMiss
from steelyard.core.plugins import Registry
from steelyard.core.results import Usage
from steelyard.core.score import Metric, Score
from steelyard.evals.blame import described
from steelyard.evals.evaluators import resources, structure, text
from steelyard.evals.evaluators.base import Check, Evaluator, Sample, error_scores, failed
from steelyard.evals.evaluators.foreign import ACCEPTED, recognised
from steelyard.evals.evaluators.function import FunctionEvaluator
from steelyard.evals.looping import Late, within
from steelyard.evals.threads import DaemonThreads

__all__ = ["EVALUATORS", "Scoring", "invalid_output_scores", "resolve_evaluators", "score_row"]

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
    with Scoring(evaluators, timeout_s) as scoring:
        return await scoring.scores(sample)


class Scoring:
    """The evaluators of a run, sorted once by how each is run, with the threads of the sync ones.

    Args:
        evaluators: The evaluators, judges bound.
        timeout_s: Seconds that each evaluator may take on a row.
    """

    def __init__(self, evaluators: Sequence[Evaluator], timeout_s: float) -> None:
        self._evaluators, self._timeout_s = tuple(evaluators), timeout_s
        self._names = [tuple(m.name for m in e.metrics) for e in self._evaluators]
        places = range(len(self._evaluators))
        self._inline = [i for i in places if isinstance(self._evaluators[i], Check)]
        self._sync = [i for i in places if _is_sync(self._evaluators[i])]
        self._other = [i for i in places if i not in self._inline and i not in self._sync]
        self._threads = DaemonThreads(lanes=_LANES)

    def __enter__(self) -> Scoring:
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.close()

    async def scores(self, sample: Sample) -> tuple[Score, ...]:
        """The scores of one row, one a metric, in the order of the evaluators."""
        found: dict[int, tuple[Score, ...]] = {}
        others = {i: asyncio.ensure_future(self._awaited(i, sample)) for i in self._other}
        try:
            for i in self._inline:
                found[i] = self._caught(i, cast("Check", self._evaluators[i]).check, sample)
            if self._sync:
                await self._in_threads(sample, found)
            for i, task in others.items():
                found[i] = await task
        finally:
            for task in others.values():
                task.cancel()
        out: list[Score] = []
        for i in range(len(self._evaluators)):
            out += found[i]
        return tuple(out)

    async def _in_threads(self, sample: Sample, found: dict[int, tuple[Score, ...]]) -> None:
        """Sync functions, one after the other in one thread; beside each other once that takes a while.

        Threads take what nobody has begun, so one that hangs holds up nothing but itself.
        """
        waiting = iter(self._sync)  # `next` on it is atomic
        done: dict[int, tuple[Score, ...]] = {}
        loop = asyncio.get_running_loop()
        over: asyncio.Future[None] = loop.create_future()

        def work() -> None:
            for i in waiting:
                try:
                    done[i] = self._caught(i, _sync_function(self._evaluators[i]), sample)
                except (
                    BaseException
                ) as error:  # KeyboardInterrupt raised by the function: no signal comes here
                    text = f"{type(error).__name__}: {error}"
                    done[i] = error_scores(self._evaluators[i], "evaluator", text)
            if len(done) == len(self._sync):
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    loop.call_soon_threadsafe(_set, over)

        def spread() -> None:
            nonlocal timer
            timer = loop.call_later(self._timeout_s, _set, over)
            for _ in self._sync:
                self._threads.run(work, urgent=True)

        timer = loop.call_later(min(_GRACE_S, self._timeout_s), spread)
        self._threads.run(work)
        try:
            await over
        finally:
            timer.cancel()
        for i in self._sync:
            found[i] = done[i] if i in done else self._too_late(i)

    def _too_late(self, i: int) -> tuple[Score, ...]:
        return error_scores(self._evaluators[i], "timeout", f"no score within {self._timeout_s:g} s")

    async def _awaited(self, i: int, sample: Sample) -> tuple[Score, ...]:
        evaluator = self._evaluators[i]
        try:
            return self._checked(i, await within(evaluator.evaluate(sample), self._timeout_s))
        except Late:
            return self._too_late(i)
        except Exception as error:  # whatever an evaluator raises is an error of its own metrics
            return _error(evaluator, error)

    def _caught(
        self, i: int, evaluate: Callable[[Sample], Score | tuple[Score, ...]], sample: Sample
    ) -> tuple[Score, ...]:
        try:
            found = evaluate(sample)
            return self._checked(i, (found,) if isinstance(found, Score) else found)
        except SystemExit as error:
            text = f"RuntimeError: it called sys.exit({error.code!r})"
            return error_scores(self._evaluators[i], "evaluator", text)
        except Exception as error:  # as above
            return _error(self._evaluators[i], error)

    def _checked(self, i: int, scores: tuple[Score, ...]) -> tuple[Score, ...]:
        """The scores, if they are one a metric and inside its range."""
        evaluator, names = self._evaluators[i], self._names[i]
        given: tuple[object, ...] = tuple(scores)
        if tuple(getattr(s, "name", None) for s in given) != names:
            return error_scores(
                evaluator, "evaluator", f"it gave scores other than its metrics {list(names)}"
            )
        return tuple(_in_range(m, s) for m, s in zip(evaluator.metrics, scores, strict=True))


_LANES = 4
"""Threads for sync functions that are over at once, as most are."""

_GRACE_S = 0.01
"""Seconds after which sync functions of a row that are still not done get threads of their own."""


def _set(over: asyncio.Future[None]) -> None:
    if not over.done():
        over.set_result(None)


def _is_sync(evaluator: Evaluator) -> bool:
    return isinstance(evaluator, FunctionEvaluator) and not evaluator.is_async


def _sync_function(evaluator: Evaluator) -> Callable[[Sample], tuple[Score, ...]]:
    return cast("FunctionEvaluator", evaluator).evaluate_now


def _error(evaluator: Evaluator, error: Exception) -> tuple[Score, ...]:
    if isinstance(error, CallFailed):  # a judge, or a function that calls a model
        return error_scores(evaluator, error.kind, error.what)
    if isinstance(error, ReplayMiss):
        return error_scores(evaluator, "replay_miss", str(error))
    return error_scores(evaluator, "evaluator", described(error))


def _in_range(metric: Metric, score: Score) -> Score:
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


def resolve_evaluators(given: Sequence[Any]) -> tuple[Evaluator, ...]:
    """The evaluators, those given by name looked up, other packages' adapted, and no metric measured twice.

    Raises:
        NotFound: no evaluator has that name; the text offers the nearest.
        InvalidValue: something is no evaluator, or two measure a metric of the same name.
    """
    if isinstance(given, str) or not isinstance(given, Sequence):  # pyright: ignore[reportUnnecessaryIsInstance] - user code is untyped
        raise InvalidValue(f"evaluators={given!r} is no list", do="Write evaluators=[exact_match()].")
    out: list[Evaluator] = []
    owner: set[str] = set()
    for one in given:
        evaluator = _named(one) if isinstance(one, str) else recognised(one)
        if evaluator is None:
            raise InvalidValue(f"{one!r:.200} is no evaluator", do=f"Accepted are {ACCEPTED}.")
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
