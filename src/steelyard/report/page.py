"""The HTML report: one file, nothing remote, no script, a content security policy that forbids both."""

from __future__ import annotations

import base64
import hashlib
from functools import cache
from importlib.resources import files
from urllib.parse import quote

from steelyard.gates.verdict import Outcome
from steelyard.report.markup import Markup, el
from steelyard.report.model import GateReport, SessionReport
from steelyard.report.page_findings import creep, findings, guarantee_note
from steelyard.report.page_lineage import lineage
from steelyard.report.page_rows import changed, cost, prompt_diff, slices, trouble
from steelyard.report.pictures import icon, mark
from steelyard.report.text import one_line
from steelyard.report.words import WORDS, counts_line, finding_words, plural, seconds, sentence, versus

__all__ = ["to_html"]

_FAVICON: dict[Outcome, str] = {
    "pass": "#1a7f4b",
    "fail": "#c62f3b",
    "inconclusive": "#a96800",
    "unmeasurable": "#6a5acd",
}


@cache
def _style() -> str:
    return (files("steelyard.report") / "style.css").read_text(encoding="utf-8")


def to_html(session: SessionReport) -> str:
    """The report as one self-contained HTML document."""
    style = _style()
    hashed = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    policy = (
        f"default-src 'none'; style-src 'sha256-{hashed}'; img-src data:; base-uri 'none'; form-action 'none'"
    )
    title = f"{WORDS[session.outcome]} · {session.title}"
    head = el(
        "head",
        el("meta", charset="utf-8"),
        el("meta", http_equiv="Content-Security-Policy", content=policy),
        el("meta", name="viewport", content="width=device-width, initial-scale=1"),
        el("meta", name="color-scheme", content="light dark"),
        el("meta", name="referrer", content="no-referrer"),
        el("title", one_line(title)),
        el("link", rel="icon", href=_favicon(session.outcome)),
        el("style", Markup(style)),
    )
    many = len(session.gates) > 1
    body = el(
        "body",
        el("a", "Skip to the verdict", href="#verdict", cls="skip"),
        _header(session),
        el(
            "main",
            _index(session) if many or not session.gates else None,
            [_gate(gate, i, many=many) for i, gate in enumerate(session.gates, 1)],
            id="verdict",
        ),
        el(
            "footer",
            el(
                "p", "Made by Steelyard. This file loads nothing and runs nothing; it can be kept and mailed."
            ),
        ),
    )
    return f"<!doctype html>\n{el('html', head, body, lang='en')}\n"


def _favicon(outcome: Outcome) -> str:
    picture = (
        "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 24 24'>"
        f"<circle cx='12' cy='12' r='11' fill='{_FAVICON[outcome]}'/></svg>"
    )
    return "data:image/svg+xml," + quote(picture)


def _header(session: SessionReport) -> Markup:
    return el(
        "header",
        el("div", mark(), el("h1", session.title), cls="brand"),
        el("p", el("span", counts_line(session)), el("span", session.created), cls="when"),
    )


def _index(session: SessionReport) -> Markup:
    lines = [
        el(
            "li",
            el(
                "a",
                icon(gate.outcome, 22),
                el("span", gate.gate, cls="name"),
                el("span", WORDS[gate.outcome], cls=f"word {gate.outcome}"),
                el("span", _one_liner(gate), cls="line"),
                href=f"#gate-{i}",
            ),
        )
        for i, gate in enumerate(session.gates, 1)
    ]
    outcome = session.outcome
    return el(
        "section",
        el("h2", icon(outcome, 40), el("span", _session_words(session)), cls=f"session {outcome}"),
        el("ol", lines, cls="index") if lines else None,
        cls=f"overview {outcome}",
    )


def _session_words(session: SessionReport) -> str:
    if not session.gates:
        return "No gate ran, so nothing was measured"
    total, failed = len(session.gates), len(session.gates) - session.counts.get("pass", 0)
    if not failed:
        return f"All {total} gates pass"
    return f"{failed} of {plural(total, 'gate')} {'does' if failed == 1 else 'do'} not pass"


def _one_liner(gate: GateReport) -> str:
    if gate.error is not None:
        return gate.error
    if gate.verdict.findings:
        worst = next((f for f in gate.verdict.findings if f.outcome == gate.verdict.outcome), None)
        if worst is not None and worst.outcome != "pass":
            return f"{worst.requirement.metric}: {finding_words(worst)}"
    if gate.verdict.reasons:
        return gate.verdict.reasons[0]
    return f"{plural(len(gate.verdict.findings), 'requirement')} met"


def _gate(gate: GateReport, place: int, *, many: bool) -> Markup:
    return el(
        "article",
        _hero(gate),
        findings(gate),
        guarantee_note(gate),
        creep(gate),
        [changed(gate, alias) for alias in gate.baselines] or None,
        changed(gate, None) if not any(s is not None for s in gate.baselines.values()) else None,
        trouble(gate),
        cost(gate),
        slices(gate),
        prompt_diff(gate),
        lineage(gate),
        el("p", el("a", "↑ All gates", href="#verdict"), cls="up") if many else None,
        id=f"gate-{place}",
        cls="gate",
    )


def _hero(gate: GateReport) -> Markup:
    outcome, verdict = gate.outcome, gate.verdict
    identity = verdict.candidate
    chips = [versus(gate)]
    if identity is not None:
        chips.append(identity.dataset_name)
        chips += [identity.lm_name] if identity.lm_name else []
    if gate.seconds:
        chips.append(seconds(gate.seconds))
    if verdict.look > 1:
        chips.append(f"look {verdict.look}")
    return el(
        "div",
        el("p", gate.gate, cls="gatename"),
        el("h2", icon(outcome, 52), el("span", WORDS[outcome])),
        el("p", gate.error, cls="sentence") if gate.error is not None else None,
        el("p", sentence(verdict), cls="sentence") if verdict.sentence else None,
        # A reason that the sentence says already is not said twice.
        el("ul", [el("li", r) for r in verdict.reasons if r not in verdict.sentence], cls="reasons"),
        el("ul", [el("li", c) for c in chips], cls="chips"),
        cls=f"hero {outcome}",
    )
