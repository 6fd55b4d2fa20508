"""Outcomes and numbers in plain words, the same in every format."""

from __future__ import annotations

from steelyard.core.canonical import short
from steelyard.core.results import Identity
from steelyard.gates.sentences import guarantee as promise
from steelyard.gates.verdict import Finding, Outcome, Verdict
from steelyard.report.model import GateReport, SessionReport

__all__ = [
    "ICONS",
    "WORDS",
    "counts_line",
    "creep_lines",
    "finding_words",
    "guarantee",
    "inequality",
    "interval",
    "level",
    "limit_words",
    "number",
    "plural",
    "requirement_words",
    "seconds",
    "sentence",
    "shown",
    "signed",
    "subject",
    "usd",
    "versus",
]

WORDS: dict[Outcome, str] = {
    "pass": "Pass",
    "fail": "Fail",
    "inconclusive": "Inconclusive",
    "unmeasurable": "Unmeasurable",
}
ICONS: dict[Outcome, str] = {"pass": "✓", "fail": "✗", "inconclusive": "?", "unmeasurable": "∅"}

_SHORT_WORDS: dict[str, dict[Outcome, str]] = {
    "at_least": {"pass": "proven to reach it", "fail": "proven to be below it"},
    "at_most": {"pass": "proven to stay under it", "fail": "proven to be above it"},
    "not_worse": {"pass": "proven not worse", "fail": "proven worse"},
}


def number(value: float | None) -> str:
    """A number for people: three decimals where it is small, fewer where it is large; `–` for None."""
    if value is None:
        return "–"
    if float(value).is_integer() and abs(value) < 1000:
        return f"{value:.0f}".replace("-0", "0").replace("-", "−")
    size = abs(value)
    if size >= 1000:
        text = f"{value:,.0f}"
    elif size >= 100:
        text = f"{value:.1f}"
    elif size >= 0.0995 or size == 0:
        text = f"{value:.3f}"
    else:
        text = f"{value:.3f}" if round(size, 3) >= 0.005 else f"{value:.2g}"
    if "." in text and "e" not in text:
        text = text.rstrip("0").rstrip(".") if size >= 100 or size == 0 else text
    return "0" if text in ("-0", "0") else text.replace("-", "−")


def signed(value: float | None) -> str:
    """A difference, always with its sign."""
    text = number(value)
    return text if value is None or value <= 0 or text == "0" else f"+{text}"


def shown(finding: Finding, value: float | None) -> str:
    """A value of a finding's interval: a mean, a signed difference, or a signed share in per cent."""
    if finding.requirement.relative and value is not None:
        return f"{signed(round(100 * value, 2))} %"
    return (signed if finding.requirement.kind == "not_worse" else number)(value)


def interval(finding: Finding) -> str:
    """The interval as `[0.590, 0.712]`; empty where there is none."""
    if finding.low is None or finding.high is None:
        return ""
    return f"[{shown(finding, finding.low)}, {shown(finding, finding.high)}]"


def seconds(value: float | None) -> str:
    """A duration: `820 ms`, `1.24 s`, `3 min 05 s`."""
    if value is None:
        return "–"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    if value < 60:
        return f"{value:.2f} s"
    return f"{int(value // 60)} min {int(value % 60):02d} s"


def usd(value: float | None) -> str:
    """Dollars; `unknown` where a price was not known."""
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value >= 1 or value == 0 else f"${value:.2g}"


def plural(count: int, one: str, many: str | None = None) -> str:
    """A count and its noun: `1 example`, `2 examples`."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def level(verdict: Verdict) -> str:
    """The interval's level: `90 %` at α = 5 %."""
    return f"{100 * (1 - 2 * verdict.alpha):.4g} %"


def requirement_words(finding: Finding) -> str:
    """The requirement, short: `exact_match at least 0.6`."""
    r = finding.requirement
    if r.kind == "at_least":
        return f"{r.metric} at least {r.bound:g}"
    if r.kind == "at_most":
        return f"{r.metric} at most {r.bound:g}"
    return f"{r.metric} not worse than {r.baseline}"


def limit_words(finding: Finding) -> str:
    """What the interval is held against: `floor 0.6`, `ceiling 2`, `margin −0.05`."""
    kind = finding.requirement.kind
    value = finding.limit if finding.limit is not None else finding.requirement.bound
    if value is None and kind != "not_worse":
        return "no limit"
    if kind == "at_least":
        return f"floor {value:g}"
    if kind == "at_most":
        return f"ceiling {value:g}"
    return f"margin {_margin(finding, value)}"


def inequality(finding: Finding) -> str:
    """The requirement as people write it: `exact_match ≥ 0.6`, `exact_match ≥ production − 0.05`."""
    r = finding.requirement
    if r.kind != "not_worse":
        return str(r)
    if not finding.limit:
        return requirement_words(finding)
    text = _margin(finding, finding.limit)
    return f"{r.metric} {'≥' if finding.limit < 0 else '≤'} {r.baseline} {text[0]} {text[1:]}"


def _margin(finding: Finding, value: float | None) -> str:
    """A margin as it was written, with its sign."""
    if value is None:
        value = finding.requirement.margin
        return "–" if value is None else f"{value:g}"
    text = f"{100 * value:+.4g} %" if finding.requirement.relative else f"{value:+.4g}"
    return text.replace("-", "−")


def finding_words(finding: Finding) -> str:
    """The answer to one requirement in a few words."""
    if finding.outcome == "unmeasurable":
        return "could not be measured"
    if finding.outcome == "inconclusive":
        return "not proven either way"
    if finding.method == "identical":
        return "identical to it"
    return _SHORT_WORDS[finding.requirement.kind][finding.outcome]


def creep_lines(gate: GateReport) -> list[tuple[str, Outcome]]:
    """The change since the anchor, a line a metric, each with what the comparison says; empty without one."""
    creep = gate.creep
    if creep is None:
        return []
    head = f"Since {creep.alias} ({short(creep.subject)})"
    if creep.reason is not None or not creep.findings:
        return [(f"{head}: not compared. {creep.reason or ''}".rstrip(), "unmeasurable")]
    lines: list[tuple[str, Outcome]] = []
    for finding in creep.findings:
        name = f"{head}: {finding.requirement.metric}"
        if finding.method == "identical":
            text = f"{name} unchanged, the candidate is that version"
        elif finding.estimate is None:
            text = f"{name} not compared. {finding.sentence}"
        else:
            moved = " ".join(filter(None, (shown(finding, finding.estimate), interval(finding))))
            text = f"{name} {moved}, {finding_words(finding)} ({limit_words(finding)})"
        lines.append((text, finding.outcome))
    return lines


def guarantee(verdict: Verdict) -> str:
    """What the error rates promise, in words, at this verdict's α."""
    kinds = {f.requirement.kind for f in verdict.findings}
    if not kinds or not 0 < verdict.alpha < 1 or verdict.reasons:
        return ""
    parts: list[str] = []
    if "not_worse" in kinds:
        parts.append(f"{promise(verdict.alpha)} (m is the margin.)")
    if kinds - {"not_worse"}:
        bound = {"at_least": "below its floor", "at_most": "above its ceiling"}
        side = " or ".join(bound[k] for k in sorted(bound) if k in kinds)
        often = f"about 1 time in {1 / verdict.alpha:.3g} at most"
        parts.append(f"If a true mean is {side} we say PASS {often}.")
    return " ".join(parts)


def sentence(verdict: Verdict) -> str:
    """The verdict's sentence without its outcome's word, for places that show the word already."""
    text = verdict.sentence
    prefix = f"{WORDS[verdict.outcome]}: "
    if text.startswith(prefix):
        text = text[len(prefix) :]
    return text[:1].upper() + text[1:]


def subject(identity: Identity | None) -> str:
    """What was weighed, short: `support-intent@9f2c41aa07de`, else its kind."""
    if identity is None:
        return "nothing"
    name = identity.name or f"no {identity.kind}"
    return f"{name}@{short(identity.subject)}" if identity.subject else name


def versus(gate: GateReport) -> str:
    """Candidate and baselines on one line."""
    verdict = gate.verdict
    text = subject(verdict.candidate)
    for alias, identity in verdict.baselines.items():
        same = verdict.candidate is not None and identity.candidate == verdict.candidate.candidate
        text += f" vs {alias}" + (" (identical)" if same else f" @{short(identity.subject)}")
    return text


def counts_line(session: SessionReport) -> str:
    """The session on one line: `3 gates: 1 fail, 2 pass`."""
    if not session.gates:
        return "No gate ran, so nothing was measured."
    counts = ", ".join(f"{n} {outcome}" for outcome, n in session.counts.items())
    return f"{plural(len(session.gates), 'gate')}: {counts}"
