"""Running a gate: candidate and baselines on the dataset, evidence first, then the verdict from it."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import replace

from steelyard.core.canonical import short
from steelyard.core.clock import monotonic, stamp
from steelyard.core.errors import RunStopped
from steelyard.core.results import Identity, Scores
from steelyard.evals.arm import Limits, Stopped, manifest_of, run_arm, run_into
from steelyard.evals.baseline import Baseline, find_baseline
from steelyard.evals.creep import creep_since
from steelyard.evals.prepared import Prepared, prepare
from steelyard.evals.record import record
from steelyard.evals.resume import begin, how_to_resume, storing
from steelyard.evals.spec import Gate
from steelyard.evals.weigh import advisory_part, gated_part, weigh
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle, EvidenceWriter
from steelyard.evidence.claim import Claim
from steelyard.gates.verdict import Verdict
from steelyard.report.model import GateReport

__all__ = ["Prepared", "prepare", "run_gate", "run_only"]


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
        RunStopped: not every row could be run; what was run is kept.
    """
    prepared = prepare(spec, workspace)
    limits = Limits.of(prepared, workspace)
    try:
        return run_arm(prepared, workspace, prepared.prompt, prepared.identity, limits, "run")
    except Stopped as stopped:
        do = f"Mend it, then: {how_to_resume(workspace, stopped.evidence_id)}"
        raise RunStopped(spec.label, stopped.sentence, do=do) from None


def _measure(
    prepared: Prepared, workspace: Workspace, baselines: list[Baseline]
) -> tuple[EvidenceBundle, Verdict, list[Baseline]]:
    """Run what must be run, decide from the files, and seal them with the verdict."""
    spec, identity = prepared.spec, prepared.identity
    runnable = not prepared.reasons
    started = stamp()
    before = dict(workspace.calls)
    limits = Limits.of(prepared, workspace)
    subjects = {b.alias: b.subject for b in baselines}
    begun = begin(workspace, manifest_of(prepared, workspace, identity), decided=True)
    if begun.sealed is not None and begun.claim is not None:
        return _stored(prepared, workspace, begun.sealed, begun.claim, baselines)
    writer = begun.writer
    assert writer is not None
    try:
        with storing(workspace, spec.label, writer):
            done: list[Baseline] = []
            try:
                if runnable:
                    run_into(prepared, workspace, begun, prepared.prompt, limits, "candidate")
                scores = writer.scores()
                for baseline in baselines:
                    if baseline.rerun and baseline.subject is not None:
                        baseline = _rerun(prepared, workspace, baseline, limits)
                    if baseline.scores is not None:
                        writer.add_baseline(baseline.alias, baseline.scores, baseline.source or "")
                    elif baseline.source == "identical":
                        writer.add_baseline(baseline.alias, scores, "identical")
                    done.append(baseline)
            except Stopped as stopped:
                return _unended(prepared, workspace, writer, baselines, stopped)
            reasons = [*prepared.reasons, *(_silent(scores) if runnable else ())]
            values = scores.digest_of_values()
            additions = {
                "baselines": subjects,
                "look": _look(workspace, identity, subjects, values) if runnable else 1,
                "reasons": reasons,
                "absent": {b.alias: b.reason for b in baselines if b.reason is not None},
                "values": values,
                "replay": {k: n - before[k] for k, n in workspace.calls.items()},
            }
            # The verdict is computed from the files, not from memory: what is not in the bundle cannot count.
            draft = writer.draft(**additions)
            verdict = weigh(draft)
            bundle = writer.seal(verdict.to_bytes(), **additions)
        record(workspace, bundle, verdict, gated_part(bundle.scores, prepared.advisory), started=started)
        writer.end()
    finally:
        with contextlib.suppress(OSError):  # the disk's own fault is told already
            writer.close()
    return bundle, verdict, done


def _unended(
    prepared: Prepared,
    workspace: Workspace,
    writer: EvidenceWriter,
    baselines: list[Baseline],
    stopped: Stopped,
) -> tuple[EvidenceBundle, Verdict, list[Baseline]]:
    """The verdict of a run that stopped before its end: unmeasurable, neither sealed nor stored."""
    workspace.unended[prepared.spec.label] = writer.id
    command = how_to_resume(workspace, writer.id)
    reason = f"The run stopped: {stopped.sentence}. Mend it, then {command.replace(f' {writer.id}', '')}."
    draft = writer.draft(
        baselines={b.alias: b.subject for b in baselines}, look=1, reasons=[reason], absent={}
    )
    return draft, weigh(draft), [replace(b, rerun=False) for b in baselines]


def _stored(
    prepared: Prepared, workspace: Workspace, bundle: EvidenceBundle, claim: Claim, baselines: list[Baseline]
) -> tuple[EvidenceBundle, Verdict, list[Baseline]]:
    """The verdict of a bundle that was sealed and is stored only now."""
    try:
        bundle.verify()
        verdict = weigh(bundle)
        weighed = gated_part(bundle.scores, prepared.advisory)
        record(workspace, bundle, verdict, weighed, started=bundle.manifest["provenance"]["created"])
    except BaseException:
        claim.release(ended=False)
        raise
    claim.release(ended=True)
    known = [replace(b, scores=bundle.baseline(b.alias), rerun=False) for b in baselines]
    return bundle, verdict, known


def _rerun(prepared: Prepared, workspace: Workspace, baseline: Baseline, limits: Limits) -> Baseline:
    """A baseline run anew: same task, same model, the alias's version of the prompt."""
    name = prepared.identity.name
    prompt = workspace.prompt(f"{name}@{baseline.subject}")
    identity = replace(prepared.identity, subject=baseline.subject)
    title = f"{baseline.alias} ({short(baseline.subject)})"
    bundle = run_arm(prepared, workspace, prompt, identity, limits, title)
    return replace(baseline, scores=bundle.scores, source=f"run anew ({bundle.id})", rerun=False)


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
    creep = creep_since(prepared, workspace, candidate, verdict)
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
        creep=creep,
    )
    workspace.reports.append(report)
    return report
