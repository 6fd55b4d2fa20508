"""A gate with everything it names looked up and checked, before anything is run or paid for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from steelyard.core.dataset import Dataset, Example
from steelyard.core.results import Identity
from steelyard.evals.evaluators import resolve_evaluators
from steelyard.evals.evaluators.base import Check
from steelyard.evals.evaluators.judge import Judge
from steelyard.evals.runner import Plan
from steelyard.evals.spec import Gate
from steelyard.evals.task import Task
from steelyard.evals.workspace import Workspace
from steelyard.gates import demand_problem

__all__ = ["Prepared", "prepare"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A gate with everything it names looked up; nothing was run yet.

    Attributes:
        spec: The gate.
        task: Its task.
        dataset: Its examples.
        prompt: The prompt under test, or None.
        lm: The model, or None where the task takes none.
        evaluators: The evaluators, judges bound to their model.
        identity: What the run will measure.
        advisory: Ids of the examples that are only reported.
        reasons: Why nothing can be measured, whatever the model answers.
    """

    spec: Gate
    task: Task
    dataset: Dataset
    prompt: Any
    lm: Any
    evaluators: Sequence[Any]
    identity: Identity
    advisory: frozenset[str]
    reasons: tuple[str, ...]

    @property
    def pairs(self) -> tuple[tuple[str, int], ...]:
        """Every planned (example id, trial)."""
        return tuple((e.id, t) for t in range(self.spec.trials) for e in self.dataset)

    def plan(self, prompt: Any, workspace: Workspace) -> Plan:
        """What is to be run with a prompt: the candidate's, or a baseline's."""
        settings = workspace.settings
        wished = self.spec.concurrency or settings.concurrency
        most = self.lm.concurrency if self.lm is not None else 8
        return Plan(
            task=self.task,
            prompt=prompt,
            lm=self.lm,
            examples=self.dataset.examples,
            trials=self.spec.trials,
            concurrency=min(wished, most) if wished and self.lm is not None else wished or most,
            timeout_s=self.spec.timeout_s or settings.row_timeout_s,
        )


def prepare(spec: Gate, workspace: Workspace) -> Prepared:
    """Everything that a gate names, looked up and checked, before anything is run or paid for.

    Raises:
        SteelyardError: a prompt, dataset, evaluator or model that is missing or malformed.
    """
    task = Task.of(spec.task, version=spec.version)
    dataset = workspace.dataset(spec.dataset, spec.split)
    prompt = workspace.prompt(spec.prompt) if spec.prompt is not None else None
    evaluators = resolve_evaluators(spec.evaluators)
    ours = any(isinstance(e, Judge) and e.needs_lm and e.asks is None for e in evaluators)
    lm = workspace.lm(spec.lm) if "lm" in task.wants or ours else None
    evaluators = [
        e.bind(workspace.lm(e.asks or spec.lm)) if isinstance(e, Judge) and e.needs_lm else e
        for e in evaluators
    ]
    metrics = {m.name: (m, e.digest) for e in evaluators for m in e.metrics}
    identity = Identity(
        kind="prompt",
        name=prompt.name if prompt else None,
        subject=prompt.digest if prompt else None,
        task=task.digest,
        lm=lm.digest if lm is not None and "lm" in task.wants else None,
        lm_name=lm.name if lm is not None and "lm" in task.wants else None,
        dataset=dataset.digest,
        dataset_name=dataset.name,
        evaluators={name: digest for name, (_, digest) in metrics.items()},
        metrics=tuple(m for m, _ in metrics.values()),
        trials=spec.trials,
    )
    advisory = frozenset(e.id for e in dataset if spec.report_only and _matches(e, spec.report_only))
    reasons: list[str] = []
    if not len(dataset):
        reasons.append(f"dataset {dataset.name!r} is empty: nothing was measured. Add examples.")
    elif len(advisory) == len(dataset):
        reasons.append("every example is marked report_only: nothing is left to be weighed.")
    if not evaluators:
        reasons.append("no evaluator: nothing was measured. Give evaluators=[...].")
    if not spec.require:
        reasons.append("no requirement: nothing was demanded, so nothing can pass. Give require=[...].")
    references = [e.reference_outputs for e in dataset]
    for evaluator in evaluators if references else ():
        if isinstance(evaluator, Check) and (reason := evaluator.missing_reference(references)):
            reasons.append(reason)
    if evaluators:
        problems = (demand_problem(r, identity.metrics) for r in spec.policy.requirements)
        reasons += dict.fromkeys(f"{p.sentence} {p.advice}".strip() for p in problems if p is not None)
    return Prepared(
        spec=spec,
        task=task,
        dataset=dataset,
        prompt=prompt,
        lm=lm,
        evaluators=evaluators,
        identity=identity,
        advisory=advisory,
        reasons=tuple(reasons),
    )


def _matches(example: Example, wanted: Any) -> bool:
    return all(str(example.metadata.get(k)) == v for k, v in wanted.items())
