"""Where the baseline's rows come from: stored outputs first, a new run only where that is honest."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

from steelyard.core.canonical import short
from steelyard.core.errors import did_you_mean
from steelyard.core.results import Identity, Scores
from steelyard.evals.workspace import Workspace
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.store import EvidenceInfo

__all__ = ["Baseline", "find_baseline"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What is known of one baseline before anything is run.

    Attributes:
        alias: The alias compared with.
        subject: Digest it stands at; None if absent.
        scores: Its rows where they are known already.
        source: Where the rows come from, in words; None where there are none yet.
        rerun: Whether it may be run anew.
        reason: Why it cannot be compared with; None if it can.
    """

    alias: str
    subject: str | None
    scores: Scores | None = None
    source: str | None = None
    rerun: bool = False
    reason: str | None = None


def find_baseline(
    workspace: Workspace, alias: str, candidate: Identity, gate: str, *, how_to_bless: str
) -> Baseline:
    """The baseline behind an alias, for a candidate.

    Stored evidence of the alias's version counts if dataset, evaluators and trials are the candidate's.
    Otherwise the version may be run anew only if it went live with the task and the model that the candidate
    uses: yesterday's prompt run through today's code is not the baseline.
    """
    name = candidate.name
    if name is None:
        return Baseline(
            alias=alias,
            subject=None,
            reason=f"The gate compares with {alias!r}, but it names no prompt that could have this alias. "
            "Give prompt=..., or demand at_least(...) only.",
        )
    aliases = workspace.aliases(name)
    subject = aliases.get(alias)
    if subject is None:
        return Baseline(
            alias=alias,
            subject=None,
            reason=f"Nothing is {alias!r} yet for prompt {name!r}, so there is nothing to compare with. "
            f"{did_you_mean(alias, aliases, how_to_bless)}",
        )
    known = live_identity(workspace, name, alias, subject, gate)
    same_code = known is not None and known["task"] == candidate.task and known["lm"] == candidate.lm
    if subject == candidate.subject and same_code:
        return Baseline(alias=alias, subject=subject, source="identical")
    stored = _stored(workspace, name, subject, candidate, known)
    if stored is not None:
        return stored_baseline(workspace, alias, subject, stored)
    if same_code:
        return Baseline(alias=alias, subject=subject, rerun=True)
    if known is None:
        why = "it is not recorded with which task code and model it went live"
    elif known["task"] != candidate.task:
        why = "the task's code is not the code it went live with"
    else:
        why = "the model is not the one it went live with"
    return Baseline(
        alias=alias,
        subject=subject,
        reason=f"{name}@{alias} ({short(subject)}) has no stored outputs for this dataset and these "
        f"evaluators, and cannot be run anew: {why}. Run the gate once with the old code "
        f"(`steelyard run … --prompt {name}@{alias}`) so that its outputs are stored, or promote with "
        "--force --reason.",
    )


def stored_baseline(workspace: Workspace, alias: str, subject: str, evidence: EvidenceInfo) -> Baseline:
    """The baseline whose rows a stored bundle holds; its checksums are verified."""
    folder = workspace.store.open_evidence(evidence.id, workspace.evidence_folder)
    bundle = EvidenceBundle.open(folder)
    bundle.verify()
    return Baseline(
        alias=alias, subject=subject, scores=bundle.scores, source=f"stored evidence {evidence.id}"
    )


def _stored(
    workspace: Workspace,
    name: str,
    subject: str,
    candidate: Identity,
    known: Mapping[str, str | None] | None,
) -> EvidenceInfo | None:
    """The newest bundle under the same yardstick: with the candidate's code, else as it went live."""
    found = workspace.store.evidence(name=name, subject=subject, yardstick=candidate.yardstick)
    wanted = [replace(candidate, subject=subject).candidate]
    if known is not None:
        live = replace(candidate, subject=subject, task=known["task"] or candidate.task, lm=known["lm"])
        wanted.append(live.candidate)
    for digest in wanted:
        matching = [e for e in found if e.candidate == digest]
        if matching:
            return matching[-1]
    return None


def live_identity(
    workspace: Workspace, name: str, alias: str, subject: str, gate: str
) -> Mapping[str, str | None] | None:
    """Task and model digests that a version went live with, from the lock or from the ledger's evidence."""
    if workspace.lock is not None:
        recorded = workspace.lock.identity(name, alias, subject, gate)
        if recorded is not None:
            return {"task": recorded["task"], "lm": recorded["lm"]}
    history = workspace.store.history("prompt", name, alias)
    for entry in reversed(history):
        if entry.after != subject:
            continue
        for evidence_id in entry.evidence:
            for evidence in workspace.store.evidence(name=name, subject=subject):
                if evidence.id == evidence_id and evidence.gate == gate:
                    folder = workspace.store.open_evidence(evidence_id, workspace.evidence_folder)
                    identity = EvidenceBundle.open(folder).identity
                    return {"task": identity.task, "lm": identity.lm}
    return None
