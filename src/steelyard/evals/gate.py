"""Running a gate: candidate and baselines on the dataset, evidence first, then the verdict from it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from steelyard.core.canonical import JSON, short
from steelyard.core.clock import monotonic, stamp
from steelyard.core.dataset import Dataset, Example
from steelyard.core.results import Identity, Scores, Usage
from steelyard.core.score import Score
from steelyard.evals.baseline import Baseline, find_baseline
from steelyard.evals.evaluators import invalid_output_scores, resolve_evaluators, score_row
from steelyard.evals.evaluators.base import Check
from steelyard.evals.evaluators.judge import Judge
from steelyard.evals.looping import run_sync
from steelyard.evals.record import record
from steelyard.evals.runner import Plan, Progress, run_rows
from steelyard.evals.spec import Gate
from steelyard.evals.task import Task
from steelyard.evals.weigh import advisory_part, gated_part, weigh
from steelyard.evals.workspace import Workspace, provenance
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter, new_evidence_id
from steelyard.gates import demand_problem
from steelyard.gates.verdict import Verdict
from steelyard.report.model import GateReport

__all__ = ["Prepared", "prepare", "run_gate", "run_only"]


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
    judges = any(e.needs_lm for e in evaluators)
    lm = workspace.lm(spec.lm) if "lm" in task.wants or judges else None
    if lm is not None:
        evaluators = [e.bind(lm) if isinstance(e, Judge) and e.needs_lm else e for e in evaluators]
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


def run_gate(spec: Gate, workspace: Workspace) -> GateReport:
    """The report of a gate: run, recorded as evidence, decided from the evidence alone.

    A verdict of any outcome comes back; only what a person must mend first is raised.

    Raises:
        SteelyardError: a prompt, dataset, evaluator or model that is missing or malformed.
    """
    began = monotonic()
    prepared = prepare(spec, workspace)
    policy = spec.policy
    baselines: list[Baseline] = []
    if not prepared.reasons:
        aliases = dict.fromkeys(r.baseline for r in policy.requirements if r.baseline is not None)
        how = f"Set the first one with: steelyard bless {workspace.evals_name} (it must pass its floors)."
        for alias in aliases:
            baselines.append(find_baseline(workspace, alias, prepared.identity, spec.label, how_to_bless=how))
    bundle, verdict, baselines = _measure(prepared, workspace, baselines)
    return _report(prepared, workspace, bundle, baselines, verdict, monotonic() - began)


def run_only(spec: Gate, workspace: Workspace) -> EvidenceBundle:
    """The evidence of a candidate, run and stored without a verdict.

    Raises:
        SteelyardError: a prompt, dataset, evaluator or model that is missing or malformed.
    """
    prepared = prepare(spec, workspace)
    return _run_arm(prepared, workspace, prepared.prompt, prepared.identity, f"{spec.label}: run")


def _measure(
    prepared: Prepared, workspace: Workspace, baselines: list[Baseline]
) -> tuple[EvidenceBundle, Verdict, list[Baseline]]:
    """Run what must be run, decide from the files, and seal them with the verdict."""
    spec, identity = prepared.spec, prepared.identity
    runnable = not prepared.reasons
    writer = _writer(prepared, workspace, identity)
    started = stamp()
    before = dict(workspace.calls)
    try:
        if runnable:
            _run(prepared, workspace, writer, prepared.prompt, f"{spec.label}: candidate")
        done: list[Baseline] = []
        for baseline in baselines:
            if baseline.rerun and baseline.subject is not None:
                baseline = _rerun(prepared, workspace, baseline)
            if baseline.scores is not None:
                writer.add_baseline(baseline.alias, baseline.scores, baseline.source or "")
            elif baseline.source == "identical":
                writer.add_baseline(baseline.alias, _scores(prepared, writer), "identical")
            done.append(baseline)
    except BaseException:
        writer.close()
        raise
    scores = _scores(prepared, writer)
    reasons = [*prepared.reasons, *(_silent(scores) if runnable else ())]
    subjects = {b.alias: b.subject for b in baselines}
    values = scores.digest_of_values()
    look = _look(workspace, identity, subjects, values) if runnable else 1
    writer.close()
    additions = {
        "baselines": subjects,
        "look": look,
        "reasons": reasons,
        "absent": {b.alias: b.reason for b in baselines if b.reason is not None},
        "values": values,
        "replay": {k: n - before[k] for k, n in workspace.calls.items()},
    }
    # The verdict is computed from the files, not from memory: what is not in the bundle cannot count.
    draft = EvidenceBundle(folder=writer.folder, manifest={**writer.manifest, **additions})
    verdict = weigh(draft)
    bundle = writer.seal(verdict.to_bytes(), **additions)
    record(workspace, bundle, verdict, gated_part(scores, prepared.advisory), started=started)
    return bundle, verdict, done


def _rerun(prepared: Prepared, workspace: Workspace, baseline: Baseline) -> Baseline:
    """A baseline run anew: same task, same model, the alias's version of the prompt."""
    name = prepared.identity.name
    prompt = workspace.prompt(f"{name}@{baseline.subject}")
    identity = replace(prepared.identity, subject=baseline.subject)
    title = f"{prepared.spec.label}: {baseline.alias} ({short(baseline.subject)})"
    bundle = _run_arm(prepared, workspace, prompt, identity, title)
    return replace(baseline, scores=bundle.scores, source=f"run anew ({bundle.id})", rerun=False)


def _run_arm(
    prepared: Prepared, workspace: Workspace, prompt: Any, identity: Identity, title: str
) -> EvidenceBundle:
    """One arm as a bundle of its own, stored without a verdict, so that it need not be run again."""
    writer = _writer(prepared, workspace, identity)
    started = stamp()
    try:
        if not prepared.reasons:
            _run(prepared, workspace, writer, prompt, title)
        scores = _scores(prepared, writer, identity)
    except BaseException:
        writer.close()
        raise
    bundle = writer.seal(
        None, baselines={}, look=1, reasons=list(prepared.reasons), values=scores.digest_of_values()
    )
    record(workspace, bundle, None, gated_part(scores, prepared.advisory), started=started)
    return bundle


def _run(prepared: Prepared, workspace: Workspace, writer: EvidenceWriter, prompt: Any, title: str) -> None:
    def tick(progress: Progress) -> None:
        workspace.say(title, progress)

    async def judged(example: Example, outputs: JSON, invalid: str | None, usage: Usage) -> tuple[Score, ...]:
        if invalid is not None:
            return invalid_output_scores(prepared.evaluators, invalid, usage)
        return await score_row(
            prepared.evaluators,
            inputs=example.inputs,
            outputs=outputs,
            reference_outputs=example.reference_outputs,
            metadata=example.metadata,
            usage=usage,
            timeout_s=plan.timeout_s,
        )

    plan = prepared.plan(prompt, workspace)
    with workspace.recording():
        run_sync(run_rows(plan, judged, writer.append, skip=writer.rows, tick=tick))


def _writer(prepared: Prepared, workspace: Workspace, identity: Identity) -> EvidenceWriter:
    return EvidenceWriter(
        workspace.evidence_folder / new_evidence_id(),
        {
            "gate": prepared.spec.label,
            "identity": identity.to_json(),
            "planned": [list(pair) for pair in prepared.pairs],
            "policy": prepared.spec.policy.to_json(),
            "advisory": sorted(prepared.advisory),
            "provenance": provenance(workspace),
        },
    )


def _scores(prepared: Prepared, writer: EvidenceWriter, identity: Identity | None = None) -> Scores:
    return Scores(
        identity=identity or prepared.identity,
        planned=prepared.pairs,
        rows=tuple(writer.rows.values()),
    )


def _silent(scores: Scores) -> list[str]:
    """Why evaluators that gave no score on any answered row make the run unmeasurable, demanded or not."""
    answered = [r for r in scores.rows if r.failure is None]
    silent = [
        m.name
        for m in scores.identity.metrics
        if answered and all((s := r.score(m.name)) is None or s.value is None for r in answered)
    ]
    return [
        f"The evaluator of {name!r} gave no score on any of {len(answered)} answered rows: "
        "mend it or leave it out."
        for name in silent
    ]


def _look(workspace: Workspace, identity: Identity, subjects: dict[str, str | None], values: str) -> int:
    """Which look this is at the pair on this data: the same values again are the same look."""
    seen: list[str] = []
    for evidence in workspace.store.evidence(candidate=identity.candidate, yardstick=identity.yardstick):
        if dict(evidence.baselines) == subjects and evidence.values not in seen:
            seen.append(evidence.values)
    return seen.index(values) + 1 if values in seen else len(seen) + 1


def _matches(example: Example, wanted: Any) -> bool:
    return all(str(example.metadata.get(k)) == v for k, v in wanted.items())


def _report(
    prepared: Prepared,
    workspace: Workspace,
    bundle: EvidenceBundle,
    baselines: Sequence[Baseline],
    verdict: Verdict,
    seconds: float,
) -> GateReport:
    candidate = bundle.scores
    revision, dirty = workspace.git
    texts: dict[str, str] = {}
    if prepared.prompt is not None:
        texts["candidate"] = prepared.prompt.to_text()
        for baseline in baselines:
            if baseline.subject is not None:
                ref = f"{prepared.prompt.name}@{baseline.subject}"
                texts[baseline.alias] = workspace.prompt(ref).to_text()
    advisory: dict[str, Scores | None] = {}
    if prepared.advisory:
        label = ", ".join(f"{k}={v}" for k, v in prepared.spec.report_only.items())
        advisory[label] = advisory_part(candidate, prepared.advisory)
        for baseline in baselines:
            if baseline.scores is not None:
                rows = advisory_part(baseline.scores, prepared.advisory)
                advisory[f"{label} ({baseline.alias})"] = rows
    report = GateReport(
        gate=prepared.spec.label,
        verdict=verdict,
        candidate=gated_part(candidate, prepared.advisory),
        baselines={b.alias: gated_part(b.scores, prepared.advisory) if b.scores else None for b in baselines},
        inputs={e.id: dict(e.inputs) for e in prepared.dataset},
        references={e.id: e.reference_outputs for e in prepared.dataset},
        evidence_id=bundle.id,
        unset=tuple(b.alias for b in baselines if b.subject is None),
        baseline_source={b.alias: b.source or "absent" for b in baselines},
        prompt_name=prepared.identity.name,
        prompt_texts=texts,
        git_revision=revision,
        git_dirty=dirty,
        replay_counts=bundle.manifest.get("replay", {}),
        seconds=seconds,
        advisory=advisory,
    )
    workspace.reports.append(report)
    return report
