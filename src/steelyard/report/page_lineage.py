"""Where a verdict comes from: digests, evidence, revision."""

from __future__ import annotations

from steelyard.core.canonical import short
from steelyard.core.results import Identity
from steelyard.report.markup import Child, Markup, el
from steelyard.report.model import GateReport
from steelyard.report.words import plural, subject

__all__ = ["lineage"]


def lineage(gate: GateReport) -> Markup:
    """Everything needed to find or repeat the run, digests short with the whole in the tooltip."""
    verdict = gate.verdict
    rows: list[tuple[str, Child]] = []
    if verdict.candidate is not None:
        rows += _identity(verdict.candidate)
    for alias, identity in verdict.baselines.items():
        source = gate.baseline_source.get(alias)
        rows.append((f"Baseline {alias}", [subject(identity), f" · {source}" if source else None]))
        rows.append((f"Task of {alias}", _digest(identity.task)))
        rows.append((f"Model of {alias}", _model(identity)))
    if gate.evidence_id:
        rows.append(("Evidence", el("code", gate.evidence_id)))
    rows.append(("Policy", _digest(verdict.policy.digest)))
    rows.append(("Verdict", _digest(verdict.digest)))
    if gate.git_revision:
        dirty = el("strong", " with uncommitted changes") if gate.git_dirty else None
        rows.append(("Git revision", [el("code", gate.git_revision[:12], title=gate.git_revision), dirty]))
    if gate.replay_counts:
        hit, live = gate.replay_counts.get("hit", 0), gate.replay_counts.get("live", 0)
        rows.append(("Model calls", f"{hit:,} replayed from recordings, {live:,} live"))
    return el(
        "section",
        el(
            "details",
            el(
                "summary",
                el("h3", "Lineage"),
                el("span", "what exactly was weighed, and with what", cls="hint"),
            ),
            el("dl", [el("div", el("dt", k), el("dd", v)) for k, v in rows], cls="table"),
        ),
        cls="fold",
    )


def _identity(identity: Identity) -> list[tuple[str, Child]]:
    rows: list[tuple[str, Child]] = [
        ("Candidate", [f"{identity.name or identity.kind} ", _digest(identity.subject)]),
        ("Task", _digest(identity.task)),
        ("Model", _model(identity)),
        ("Dataset", [f"{identity.dataset_name} ", _digest(identity.dataset)]),
    ]
    if identity.trials > 1:
        rows.append(("Trials", plural(identity.trials, "trial") + " of each example"))
    rows += [(f"Evaluator {name}", _digest(value)) for name, value in identity.evaluators.items()]
    return rows


def _model(identity: Identity) -> Child:
    return [f"{identity.lm_name} " if identity.lm_name else None, _digest(identity.lm)]


def _digest(value: str | None) -> Markup:
    if value is None:
        return el("span", "none", cls="none")
    return el("code", short(value), title=value)
