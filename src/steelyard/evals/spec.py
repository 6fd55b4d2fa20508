"""The spec of a gate: what is run, on what, scored how, and what is demanded."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steelyard.core.dataset import Dataset
from steelyard.core.errors import InvalidValue
from steelyard.gates.policy import Policy, Requirement

__all__ = ["Gate"]


@dataclass(frozen=True, kw_only=True)
class Gate:
    """An eval and its requirements, as a value: run it in pytest, from the command line or in code.

    Attributes:
        task: The function under evaluation; takes any of `inputs`, `prompt`, `lm` by name, sync or async.
        dataset: A dataset's name, a path, or a `Dataset`.
        name: The gate's name; promotion asks for it by this name. In pytest the test's name if left out.
        prompt: Ref of the prompt under test (`"support-intent"` is the file in the checkout), or None.
        evaluators: What scores each output.
        require: What is demanded; none at all is unmeasurable, never a pass.
        split: Only the examples of this split.
        trials: Repetitions of each example; they are averaged, never counted as more examples.
        lm: Model spec such as `"local:smollm2"` or `"openai:gpt-5-mini"`, an `LM`, or None for the settings'.
        report_only: Examples whose metadata has all these values are run and reported, but not weighed.
        version: Declared version of the task, for code whose source cannot be read or that calls other code.
        timeout_s: Seconds for one row's task, and for each evaluator on it; None for the settings'.
        run_timeout_s: Seconds for all rows of this gate; None for the settings'. When they are over the run
            stops, unmeasurable and resumable.
        max_tokens_total: Most tokens for the model calls of this gate, baselines and judges included,
            recordings not; None for the settings'. A run that would exceed it stops, resumable.
        max_cost_usd: The same in US dollars.
        concurrency: Most rows at once; None lets the model and the settings say.
        alpha: One-sided error rate of each question.
        max_missing: Largest share of planned rows that may be missing or in error.
    """

    task: Callable[..., Any]
    dataset: str | Dataset
    name: str | None = None
    prompt: str | None = None
    evaluators: Sequence[Any] = ()
    require: Sequence[Requirement] = ()
    split: str | None = None
    trials: int = 1
    lm: Any = None
    report_only: Mapping[str, str] = field(default_factory=dict[str, str])
    version: str | None = None
    timeout_s: float | None = None
    run_timeout_s: float | None = None
    max_tokens_total: int | None = None
    max_cost_usd: float | None = None
    concurrency: int | None = None
    alpha: float = 0.05
    max_missing: float = 0.02

    def __post_init__(self) -> None:
        if self.trials < 1:
            raise InvalidValue(f"trials={self.trials}", do="Give 1 or more.")
        if self.concurrency is not None and self.concurrency < 1:
            raise InvalidValue(f"concurrency={self.concurrency}", do="Give 1 or more.")
        for name in ("timeout_s", "run_timeout_s", "max_tokens_total", "max_cost_usd"):
            limit = getattr(self, name)
            if limit is not None and not limit > 0:
                raise InvalidValue(f"{name}={limit}", do="Give a number above 0, or leave it out.")
        if not 0 < self.alpha < 0.5:
            raise InvalidValue(f"alpha={self.alpha}", do="Give an error rate such as 0.05.")
        if not 0 <= self.max_missing < 1:
            raise InvalidValue(f"max_missing={self.max_missing}", do="Give a share such as 0.02.")
        for requirement in self.require:
            if not isinstance(requirement, Requirement):  # pyright: ignore[reportUnnecessaryIsInstance]
                raise InvalidValue(
                    f"{requirement!r} is no requirement",
                    do="Use at_least(...), at_most(...) or not_worse_than(...).",
                )

    @property
    def policy(self) -> Policy:
        """The requirements as a policy."""
        return Policy(
            requirements=tuple(self.require),
            alpha=self.alpha,
            max_missing=self.max_missing,
            report_only=dict(self.report_only),
        )

    @property
    def label(self) -> str:
        """The gate's name, or the task's where it has none."""
        return self.name or getattr(self.task, "__name__", "gate")
