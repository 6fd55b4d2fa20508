"""The requirements of a gate, each with its picture, in HTML."""

from __future__ import annotations

from steelyard.core.score import Metric
from steelyard.gates.verdict import Finding
from steelyard.report.markup import Markup, el
from steelyard.report.model import GateReport
from steelyard.report.pictures import icon, interval_picture
from steelyard.report.words import (
    WORDS,
    creep_lines,
    finding_words,
    guarantee,
    interval,
    level,
    limit_words,
    number,
    requirement_words,
    shown,
)

__all__ = ["creep", "findings", "guarantee_note"]

_METHODS = {
    "tango": "Tango score interval (paired, yes/no)",
    "mcnemar": "exact one-sided McNemar test",
    "clopper-pearson": "Clopper–Pearson exact interval",
    "cluster-t": "cluster-robust t",
    "paired-log-t": "paired t on logarithms",
    "identical": "identical candidate, nothing to test",
}


def findings(gate: GateReport) -> Markup | None:
    """A card a requirement, in the policy's order; None without any."""
    cards = [_card(gate, finding) for finding in gate.verdict.findings]
    return el("section", el("h3", "Requirements"), cards, cls="findings") if cards else None


def creep(gate: GateReport) -> Markup | None:
    """The change since the anchor: advice beside the verdict; None without an anchor."""
    lines = creep_lines(gate)
    if not lines:
        return None
    return el(
        "section",
        el("h3", "Creep"),
        el(
            "p",
            "Advice, not part of the verdict: small losses that each were within a margin add up.",
            cls="note",
        ),
        el("ul", [el("li", icon(said, 18), " ", text) for text, said in lines], cls="creep"),
    )


def guarantee_note(gate: GateReport) -> Markup | None:
    """What the verdict promises, in words."""
    text = guarantee(gate.verdict)
    parts = [el("p", text)] if text else []
    parts += [el("p", gate.plan_sentence)] if gate.plan_sentence else []
    return el("aside", parts, cls="guarantee") if parts else None


def _card(gate: GateReport, finding: Finding) -> Markup:
    metric = _metric(gate, finding)
    unit = f" {metric.unit}" if metric is not None and metric.unit else ""
    return el(
        "div",
        el(
            "div",
            el("h4", requirement_words(finding)),
            el(
                "span",
                icon(finding.outcome, 18),
                f"{WORDS[finding.outcome]}: {finding_words(finding)}",
                cls="badge",
            ),
            cls="cardhead",
        ),
        el("p", finding.sentence),
        interval_picture(finding, metric),
        _facts(gate, finding, unit),
        el("p", finding.advice, cls="advice") if finding.advice else None,
        _details(gate, finding),
        cls=f"card {finding.outcome}",
    )


def _metric(gate: GateReport, finding: Finding) -> Metric | None:
    identity = gate.verdict.candidate
    known = identity.metrics if identity is not None else ()
    return next((m for m in known if m.name == finding.requirement.metric), None)


def _facts(gate: GateReport, finding: Finding, unit: str) -> Markup | None:
    facts: list[tuple[str, str]] = []
    if finding.candidate is not None:
        facts.append(("candidate", number(finding.candidate) + unit))
    if finding.baseline is not None:
        facts.append((finding.requirement.baseline or "baseline", number(finding.baseline) + unit))
    if finding.requirement.kind == "not_worse" and finding.estimate is not None:
        facts.append(
            ("difference", shown(finding, finding.estimate) + ("" if finding.requirement.relative else unit))
        )
    if interval(finding):
        facts.append((f"{level(gate.verdict)} interval", interval(finding)))
    if finding.n:
        facts.append(("examples", f"{finding.n:,}"))
    if not facts:
        return None
    return el("dl", [el("div", el("dt", k), el("dd", v)) for k, v in facts], cls="facts")


def _details(gate: GateReport, finding: Finding) -> Markup:
    verdict = gate.verdict
    method = finding.method or "none"
    rows: list[tuple[str, str]] = [
        ("Method", _METHODS.get(method, method)),
        ("Held against", limit_words(finding)),
        ("Look", f"{verdict.look}, one-sided α {100 * verdict.alpha:.3g} %"),
        ("Independent clusters", f"{finding.clusters:,} of {finding.n:,} examples"),
        ("Rows planned, both arms", f"{finding.planned:,}"),
        ("Missing or in error", f"{finding.missing:,}"),
        ("Invalid outputs, scored worst", f"{finding.invalid:,}"),
    ]
    kind = finding.requirement.kind
    asked = "p, not worse than the margin" if kind == "not_worse" else "p, requirement met"
    against = "p, worse" if kind == "not_worse" else "p, requirement missed"
    for name, p in ((asked, finding.p_not_worse), (against, finding.p_worse)):
        if p is not None:
            rows.append((name, _p(p)))
    if finding.p_worse_holm is not None:
        rows.append((f"{against}, after Holm", _p(finding.p_worse_holm)))
    if finding.more_examples is not None:
        rows.append(("More examples that would likely decide it", f"{finding.more_examples:,}"))
    return el(
        "details",
        el("summary", "How this was decided"),
        el("dl", [el("div", el("dt", k), el("dd", v)) for k, v in rows], cls="table"),
    )


def _p(value: float) -> str:
    return "< 0.0001" if value < 0.0001 else f"{value:.4f}"
