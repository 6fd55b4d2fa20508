"""The change since the anchor: several promotions may each lose a little, and each be within its margin.

Advisory: it costs no run, decides nothing, and stands in the report, not in the verdict.
"""

from __future__ import annotations

from dataclasses import replace

from steelyard.core.canonical import short
from steelyard.core.errors import NotFound, SteelyardError
from steelyard.core.results import Scores
from steelyard.evals.baseline import find_baseline
from steelyard.evals.prepared import Prepared
from steelyard.evals.weigh import gated_part
from steelyard.evals.workspace import Workspace
from steelyard.gates import decide
from steelyard.gates.verdict import Verdict
from steelyard.report.model import Creep

__all__ = ["creep_since"]


def creep_since(
    prepared: Prepared, workspace: Workspace, candidate: Scores, verdict: Verdict
) -> Creep | None:
    """How a candidate stands against the alias `settings.anchor`, by every relative requirement.

    None where no such alias is set, where the gate compares with it anyway or with nothing, or where nothing
    was measured. The anchor's rows are stored ones only.
    """
    alias, name = workspace.settings.anchor, prepared.identity.name
    relative = {r.metric: replace(r, baseline=alias) for r in prepared.spec.policy.requirements if r.baseline}
    compared = {r.baseline for r in prepared.spec.policy.requirements}
    if name is None or not relative or alias in compared or verdict.reasons:
        return None
    try:
        subject = workspace.aliases(name).get(alias)
    except NotFound:
        return None
    if subject is None:
        return None
    try:
        anchor = find_baseline(workspace, alias, prepared.identity, prepared.spec.label, how_to_bless="")
    except SteelyardError as error:  # damaged evidence, say: no reason to lose the verdict
        return Creep(alias=alias, subject=subject, reason=str(error))
    scores = candidate if anchor.source == "identical" else anchor.scores
    if scores is None:
        where = f"steelyard run {workspace.evals_name} --prompt {name}@{alias}"
        return Creep(
            alias=alias,
            subject=subject,
            reason=anchor.reason
            or f"{name}@{alias} ({short(subject)}) has no stored outputs for this dataset and these "
            f"evaluators. Store them with: {where}",
        )
    found = decide(
        replace(prepared.spec.policy, requirements=tuple(relative.values())),
        gated_part(candidate, prepared.advisory),
        {alias: gated_part(scores, prepared.advisory)},
        look=verdict.look,
    )
    return Creep(
        alias=alias, subject=subject, findings=found.findings, reason=" ".join(found.reasons) or None
    )
