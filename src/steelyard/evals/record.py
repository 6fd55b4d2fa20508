"""A sealed bundle into the store: one run with parameters, means, tokens, cost, verdict and the files."""

from __future__ import annotations

from statistics import fmean

from steelyard.core.canonical import short
from steelyard.core.clock import stamp
from steelyard.core.results import Scores, Usage
from steelyard.evals.mirror import mirror_if_asked
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.gates.verdict import Verdict
from steelyard.store import EvidenceInfo, RunRecord

__all__ = ["means", "record"]

RECORDED = "recorded"
"""The outcome of evidence that no gate has decided on."""


def record(
    workspace: Workspace,
    bundle: EvidenceBundle,
    verdict: Verdict | None,
    weighed: Scores,
    *,
    started: str,
) -> EvidenceInfo:
    """What the store now knows of the bundle.

    Args:
        workspace: Where the store is.
        bundle: Sealed.
        verdict: Its verdict, or None for a run without a gate.
        weighed: The rows that count.
        started: RFC 3339 time.
    """
    identity, manifest = bundle.identity, bundle.manifest
    mean = means(weighed)
    outcome = verdict.outcome if verdict else RECORDED
    policy = verdict.policy.digest if verdict else ""
    usage = sum((r.usage for r in weighed.rows), Usage())
    evidence = EvidenceInfo(
        id=bundle.id,
        digest=bundle.seal_digest,
        gate=manifest["gate"],
        kind="prompt",
        name=identity.name,
        subject=identity.subject,
        candidate=identity.candidate,
        yardstick=identity.yardstick,
        values=manifest["values"],
        outcome=outcome,
        policy=policy,
        baselines=manifest["baselines"],
        metrics=mean,
        created=manifest["provenance"]["created"],
    )
    numbers: dict[str, float] = {
        **mean,
        "rows": float(len(weighed.rows)),
        "failed_rows": float(sum(r.failure is not None for r in weighed.rows)),
        "invalid_rows": float(sum(r.invalid_output is not None for r in weighed.rows)),
        "model_calls": float(usage.calls),
        "input_tokens": float(usage.input_tokens),
        "output_tokens": float(usage.output_tokens),
        "model_seconds": usage.latency_s,
    }
    if usage.cost_usd is not None:
        numbers["cost_usd_total"] = usage.cost_usd
    provenance = manifest["provenance"]
    run = RunRecord(
        experiment=workspace.settings.experiment,
        name=f"{manifest['gate']} {identity.name or ''}@{short(identity.subject)}".replace(" @-", ""),
        params={
            "gate": manifest["gate"],
            "prompt": identity.name or "-",
            "prompt_digest": identity.subject or "-",
            "task_digest": identity.task,
            "lm": identity.lm_name or "-",
            "lm_digest": identity.lm or "-",
            "dataset": identity.dataset_name,
            "dataset_digest": identity.dataset,
            "trials": str(identity.trials),
            "look": str(manifest["look"]),
            **{f"require.{i}": str(r) for i, r in enumerate(verdict.policy.requirements if verdict else ())},
        },
        metrics=numbers,
        tags={
            "steelyard.verdict": outcome,
            "steelyard.sentence": verdict.sentence if verdict else "run without a gate",
            "steelyard.git_revision": provenance["git_revision"] or "-",
            "steelyard.git_dirty": str(provenance["git_dirty"]).lower(),
        },
        started=started,
        ended=stamp(),
    )
    stored = workspace.store.add_evidence(evidence, bundle.folder, run)
    mirror_if_asked(workspace, bundle)
    return stored


def means(scores: Scores) -> dict[str, float]:
    """Mean of each metric over the rows that have a value."""
    out: dict[str, float] = {}
    for metric in scores.identity.metrics:
        values = [s.value for r in scores.rows if (s := r.score(metric.name)) and s.value is not None]
        if values:
            out[metric.name] = fmean(values)
    return out
