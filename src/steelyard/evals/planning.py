"""What a gate will cost and what it can prove, in words, before anything is run."""

from __future__ import annotations

from steelyard.evals.gate import Prepared
from steelyard.gates.plan import plan

__all__ = ["plan_text"]


def plan_text(prepared: Prepared) -> str:
    """Lines that say what would be run and what each requirement could prove."""
    spec = prepared.spec
    weighed = len(prepared.dataset) - len(prepared.advisory)
    rows = len(prepared.pairs)
    lines = [
        f"{spec.label}: {weighed} examples × {spec.trials} trial{'s' * (spec.trials > 1)}"
        + (f", {len(prepared.advisory)} more only reported" if prepared.advisory else "")
        + f"; {rows} task calls for the candidate, as many for a baseline without stored outputs"
    ]
    if prepared.reasons:
        return "\n".join([*lines, *(f"  unmeasurable: {reason}" for reason in prepared.reasons)])
    names = {e.cluster or f"example {e.id}" for e in prepared.dataset if e.id not in prepared.advisory}
    graded = {m.name for m in prepared.identity.metrics} if spec.trials > 1 else set[str]()
    planned = plan(spec.policy, prepared.identity.metrics, weighed, clusters=len(names), graded=graded)
    return "\n".join([*lines, *(f"  {r.sentence}" for r in planned.requirements)])
