"""Blessing: the first version behind an alias, if the floors pass."""

from __future__ import annotations

from steelyard.core.canonical import short
from steelyard.core.errors import Refused
from steelyard.evals.gate import run_gate
from steelyard.evals.spec import Gate
from steelyard.evals.workspace import Workspace
from steelyard.gates import Policy, decide
from steelyard.gates.verdict import Outcome
from steelyard.release import bless

__all__ = ["bless_gate"]

_ADVICE: dict[Outcome, str] = {
    "fail": "Improve the prompt, or set floors that a pilot supports.",
    "inconclusive": "Add examples, or set floors that a pilot supports.",
    "unmeasurable": "Mend the cause and bless again.",
}


def bless_gate(gate: Gate, workspace: Workspace, *, alias: str | None = None) -> tuple[str, Outcome]:
    """What happened, in words, and the verdict on the floors.

    Args:
        gate: The gate that will guard the alias.
        workspace: Where everything is.
        alias: The alias to set; the gate's baseline if left out.

    Raises:
        Refused: the alias is set already, the gate has no floor, or a floor does not pass.
    """
    compared = next((r.baseline for r in gate.require if r.baseline), None)
    alias = alias or compared or workspace.settings.baseline
    floors = tuple(r for r in gate.require if r.baseline is None)
    what = f"blessing the prompt of gate {gate.label!r} as {alias!r}"
    if not floors:
        raise Refused(
            what,
            because="the gate demands no floor, so the first version would be accepted unseen",
            do="Add at_least(metric, floor) with a floor that a pilot supports.",
        )
    report = run_gate(gate, workspace)
    candidate = report.candidate
    policy = gate.policy
    verdict = decide(
        Policy(
            requirements=floors,
            alpha=policy.alpha,
            max_missing=policy.max_missing,
            report_only=policy.report_only,
        ),
        candidate,
        {},
        look=report.verdict.look,
    )
    if verdict.outcome != "pass" or candidate is None:
        raise Refused(what, because=verdict.sentence.rstrip("."), do=_ADVICE[verdict.outcome])
    identity = candidate.identity
    found = [
        e
        for e in workspace.store.evidence(name=identity.name, subject=identity.subject)
        if e.id == report.evidence_id
    ]
    if not found:
        raise Refused(
            what, because="the gate's task names no prompt", do="Give the gate a prompt=..., then bless it."
        )
    bless(workspace.store, workspace.settings, found[0], alias=alias, floors_pass=True, policy=policy)
    shown = " ".join(f.sentence for f in verdict.findings)
    return (
        f"{identity.name}@{short(identity.subject)} is {alias!r} now. {shown}\n"
        f"Commit {workspace.shown(workspace.settings.lock)}: a clean clone starts from it.",
        "pass",
    )
