"""The runner: planned rows in, durable rows out. Errors become failures of their row, never of the run."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
from collections.abc import Callable, Container, Generator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Protocol, cast

from steelyard.core.canonical import JSON, canonical, plain
from steelyard.core.clock import monotonic
from steelyard.core.dataset import Example
from steelyard.core.errors import CallFailed, Corrupt, InvalidOutput, InvalidValue, ReplayMiss
from steelyard.core.results import Row, Usage
from steelyard.core.score import Failure, Score
from steelyard.evals.blame import described
from steelyard.evals.looping import Late
from steelyard.evals.task import Task
from steelyard.evals.threads import DaemonThreads
from steelyard.lm import call_scope, failure_of
from steelyard.lm.scope import Calls

__all__ = ["STOPPING", "Judged", "Plan", "Progress", "run_rows"]

_PATIENCE_S = 1.0  # that a cancelled task gets to end
_MESSAGE = 2_000  # characters of an error's text that a row keeps


class Judged(Protocol):
    """Scores one row; the runner does not know evaluators."""

    async def __call__(
        self, example: Example, outputs: JSON, invalid: str | None, usage: Usage
    ) -> tuple[Score, ...]:
        """The scores of one output."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """What is to be run.

    Attributes:
        task: The function.
        prompt: The prompt handed to it, or None.
        lm: The model handed to it, or None.
        examples: The examples.
        trials: Repetitions of each.
        concurrency: Most rows at once.
        timeout_s: Seconds for one row's task.
    """

    task: Task
    prompt: object
    lm: object
    examples: Sequence[Example]
    trials: int = 1
    concurrency: int = 1
    timeout_s: float = 120.0

    @property
    def pairs(self) -> tuple[tuple[str, int], ...]:
        """Every planned (example id, trial)."""
        return tuple((e.id, t) for t in range(self.trials) for e in self.examples)

    @cached_property
    def is_async(self) -> bool:
        """Whether the task is async; looked up once, not for every row."""
        return self.task.is_async


@dataclass(slots=True)
class Progress:
    """How far a run is.

    Attributes:
        planned: Rows to be run.
        done: Rows that ended, failures included.
        failed: Rows that ended in a failure.
        usage: Sum over the rows.
    """

    planned: int = 0
    done: int = 0
    failed: int = 0
    usage: Usage = field(default_factory=Usage)


STOPPING = frozenset({"auth", "budget"})
"""Kinds of failure that every later call would meet too: the run stops instead of paying for them."""


async def run_rows(
    plan: Plan,
    judged: Judged,
    write: Callable[[Row], None],
    *,
    skip: Container[tuple[str, int]] = frozenset(),
    answered: Mapping[tuple[str, int], Row] | None = None,
    deadline: float | None = None,
    tick: Callable[[Progress], None] | None = None,
) -> Failure | None:
    """Why the run stopped early, or None where every planned row that is not skipped was run and written.

    Args:
        plan: What to run.
        judged: Scores one row.
        write: Takes a finished row; durable when it returns. What it raises stops the run.
        skip: Pairs that have a row already (a resumed run).
        answered: Rows whose outputs are known and that only need scores.
        deadline: When the run must end, on the clock of `monotonic`; rows in flight are given up then.
        tick: Told after each row.
    """
    by_id = {e.id: e for e in plan.examples}
    todo = [pair for pair in plan.pairs if pair not in skip]
    if not todo:
        return None
    progress = Progress(planned=len(plan.pairs), done=len(plan.pairs) - len(todo))
    waiting = iter(todo)
    stop: Failure | None = None
    loop = asyncio.get_running_loop()
    ended: asyncio.Future[None] = loop.create_future()
    workers: set[asyncio.Task[None]] = set()
    coroutines: dict[asyncio.Task[None], Callable[[], None]] = {}
    given_up: list[Callable[[], None]] = []

    def finish(row: Row) -> None:
        nonlocal stop
        write(row)
        progress.done += 1
        progress.failed += row.failure is not None
        progress.usage += row.usage
        if tick:
            tick(progress)
        failures = (row.failure, *(s.error for s in row.scores))
        stop = stop or next((f for f in failures if f is not None and f.kind in STOPPING), None)

    async def worker() -> None:
        me = cast("asyncio.Task[None]", asyncio.current_task())
        for example_id, trial in waiting:
            if stop is not None:
                return
            example = by_id[example_id]
            known = answered.get((example_id, trial)) if answered else None
            if known is not None:
                finish(await _score_again(example, known, judged))
                continue
            row = await _run_row(plan, example, trial, judged, threads, partial(abandon, me, example, trial))
            if me not in workers:  # it was given up, and its row is written
                return
            finish(row)

    def begin() -> None:
        coroutine, context = worker(), contextvars.copy_context()
        task = loop.create_task(coroutine, context=context)
        coroutines[task] = partial(context.run, coroutine.close)
        workers.add(task)
        task.add_done_callback(left)

    def left(task: asyncio.Task[None]) -> None:
        if task not in workers:
            return
        workers.discard(task)
        del coroutines[task]
        if ended.done() or task.cancelled():
            return
        if (error := task.exception()) is not None:
            ended.set_exception(error)
        elif not workers:
            ended.set_result(None)

    def abandon(task: asyncio.Task[None], example: Example, trial: int) -> None:
        """Go on without a worker whose task swallowed its cancellation."""
        workers.discard(task)
        given_up.append(coroutines.pop(task))
        try:
            finish(_row(example, trial, failure=_late(plan.timeout_s), seconds=plan.timeout_s))
        except BaseException as error:  # it would end in the loop's log; it has to end the run
            if not ended.done():
                ended.set_exception(error)
            return
        begin()

    threads = DaemonThreads()
    over = asyncio.timeout(max(0.0, deadline - monotonic()) if deadline is not None else None)
    for _ in range(min(plan.concurrency, len(todo))):
        begin()
    try:
        async with over:
            await ended
    except TimeoutError:
        if not over.expired():
            raise
        stop = Failure(kind="timeout", message="the time limit of the run is over")
    finally:
        left_over, workers = workers, set()
        for task in left_over:
            task.cancel()
        if left_over:
            _, deaf = await asyncio.wait(left_over, timeout=_PATIENCE_S)
            given_up += [coroutines[task] for task in deaf]
        for close in given_up:  # in its own context, and not whenever the garbage collector comes by
            with contextlib.suppress(Exception):
                close()
        threads.close()
    return stop


async def _run_row(
    plan: Plan,
    example: Example,
    trial: int,
    judged: Judged,
    threads: DaemonThreads,
    abandon: Callable[[], None],
) -> Row:
    outputs: JSON = None
    invalid: str | None = None
    failure: Failure | None = None
    began = monotonic()
    with _scope(example.id, trial) as calls:
        try:
            outputs = plain(await _call(plan, example, threads, abandon))
            canonical(outputs)
        except InvalidOutput as error:
            invalid, outputs = error.reason[:_MESSAGE], _storable(error.output)
        except (asyncio.CancelledError, KeyboardInterrupt):
            raise
        except Exception as error:  # whatever the user's code raises is a failure of its row
            failure = _failure(error, plan.timeout_s if isinstance(error, Late) else None)
        usage = calls.usage
    seconds = monotonic() - began
    if failure is None and calls.refusal is not None:  # the task swallowed it: its answer is none
        failure = _failure(calls.refusal, None)
    if failure is not None:
        return _row(example, trial, failure=failure, usage=usage, seconds=seconds)
    # The evaluators' calls are recorded like the task's, but do not count as its usage.
    with _scope(example.id, trial) as calls:
        scores = await judged(example, outputs, invalid, usage)
    scores = _refused(scores, calls)
    return _row(
        example,
        trial,
        outputs=outputs,
        invalid_output=invalid,
        scores=scores,
        usage=usage,
        seconds=seconds,
    )


async def _score_again(example: Example, row: Row, judged: Judged) -> Row:
    with _scope(example.id, row.trial) as calls:
        scores = await judged(example, row.outputs, row.invalid_output, row.usage)
    return replace(row, scores=_refused(scores, calls))


@contextlib.contextmanager
def _scope(example_id: str, trial: int) -> Generator[Calls]:
    """The scope of a row. What it refused is the row's failure (`calls.refusal`), and never ends the run."""
    with contextlib.suppress(ReplayMiss, Corrupt), call_scope(example_id, trial) as calls:
        yield calls


def _refused(scores: tuple[Score, ...], calls: Calls) -> tuple[Score, ...]:
    """The scores; errors all of them where a call was refused and no evaluator owned up to it."""
    if calls.refusal is None or any(s.error is not None and s.error.kind == "replay_miss" for s in scores):
        return scores
    error = _failure(calls.refusal, None)
    return tuple(Score(name=s.name, error=error, evaluator_version=s.evaluator_version) for s in scores)


async def _call(plan: Plan, example: Example, threads: DaemonThreads, abandon: Callable[[], None]) -> Any:
    """What the task returns, awaited in place.

    A task of asyncio's own for each row would begin one turn of the loop later: all rows would march in step,
    and each would wait for the work of all others.
    """
    arguments = plan.task.arguments(example.inputs, plan.prompt, plan.lm)
    limit = asyncio.timeout(plan.timeout_s)
    stuck: asyncio.TimerHandle | None = None
    try:
        async with limit:
            if not plan.is_async:
                return await threads.start(lambda: plan.task.function(**arguments))
            stuck = asyncio.get_running_loop().call_later(plan.timeout_s + _PATIENCE_S, abandon)
            result = await plan.task.function(**arguments)
    except SystemExit as error:  # asyncio would end the whole run with it
        raise RuntimeError(f"it called sys.exit({error.code!r})") from None
    except Exception:
        if limit.expired():
            raise Late from None
        raise
    finally:
        if stuck is not None:
            stuck.cancel()
    if limit.expired():  # it swallowed its cancellation and answered too late
        raise Late
    return result


def _row(example: Example, trial: int, **fields: Any) -> Row:
    slices = {
        k: v if isinstance(v, str) else str(v).lower() if isinstance(v, bool) else str(v)
        for k, v in example.metadata.items()
        if isinstance(v, (str, int, float, bool))
    }
    return Row(example_id=example.id, trial=trial, cluster=example.cluster, slices=slices, **fields)


def _storable(output: object) -> JSON:
    try:
        value = plain(output)
        canonical(value)
    except InvalidValue:
        return repr(output)[:_MESSAGE].encode("utf-8", "replace").decode()
    return value


def _failure(error: Exception, expired_s: float | None) -> Failure:
    """The failure that an exception of a task means; `expired_s` if our own time limit ended it."""
    if expired_s is not None:
        return _late(expired_s)
    if isinstance(error, CallFailed):
        return Failure(kind=error.kind, message=_clean(error.what), status=error.status)
    if isinstance(error, ReplayMiss):
        return Failure(kind="replay_miss", message=_clean(str(error)))
    known = failure_of(error)
    if known is not None:
        return known
    return Failure(kind="task", message=_clean(described(error)))


def _late(seconds: float) -> Failure:
    return Failure(kind="timeout", message=f"the task gave no answer within {seconds:g} s")


def _clean(text: str) -> str:
    return text[:_MESSAGE].encode("utf-8", "replace").decode()
