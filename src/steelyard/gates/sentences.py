"""The words of a verdict. Plain values in, sentences out; nothing is decided here."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial

from steelyard.core.score import Metric
from steelyard.gates.policy import Requirement
from steelyard.gates.verdict import Finding, Outcome

__all__ = ["GUARANTEE", "guarantee", "number", "share"]

GUARANTEE = (
    "If it really loses m or more we say PASS about 1 time in 20 at most. "
    "If it is really no worse we say FAIL about 1 time in 20 at most."
)
"""What a verdict at α = 5 % promises; m is the margin, and it holds for the first look."""


def guarantee(alpha: float) -> str:
    """The guarantee at another error rate than 5 %."""
    times = f"1 time in {1 / alpha:.3g}"
    return GUARANTEE.replace("1 time in 20", times)


def number(value: float, decimals: int, *, signed: bool = False) -> str:
    """A number for people: fixed decimals, a real minus sign, a plus sign where asked for."""
    text = f"{abs(value):.{decimals}f}"
    if float(text) == 0:
        return text
    return ("−" if value < 0 else "+" if signed else "") + text


def share(value: float) -> str:
    """A share as a percentage with up to three significant digits: `"2 %"`, `"97.5 %"`."""
    return f"{100 * value:.3g} %"


def plural(n: int, one: str, many: str | None = None) -> str:
    """The count with its noun: `"1 row"`, `"1,200 rows"`."""
    return f"{n:,} {one if n == 1 else many or one + 's'}"


def p_text(p: float) -> str:
    """A p-value for people."""
    return "p < 0.0001" if p < 0.0001 else f"p = {p:.2g}"


def decimals_for(finding: Finding, metric: Metric) -> int:
    """How many decimals show every number of a finding without contradicting its outcome."""
    if finding.requirement.relative:
        return _apart(finding, _needed(100 * (finding.limit or 0.0), 1), 100.0)
    if metric.bounded:
        assert metric.low is not None
        assert metric.high is not None
        span = metric.high - metric.low
    else:
        span = abs(finding.candidate or 1.0) or 1.0
    base = max(0, 2 - math.floor(math.log10(span)))
    return _apart(finding, _needed(finding.limit or 0.0, base), 1.0)


def _needed(value: float, base: int) -> int:
    """Decimals that show a number a person wrote, at least `base` and at most 4 more."""
    for extra in range(5):
        if abs(round(value, base + extra) - value) < 1e-12 * max(1.0, abs(value)):
            return base + extra
    return base + 4


def _apart(finding: Finding, decimals: int, scale: float) -> int:
    """More decimals where rounding would put an end of the interval onto the limit."""
    if finding.limit is None:
        return decimals
    for _ in range(3):
        ends = [e for e in (finding.low, finding.high) if e is not None and e != finding.limit]
        if all(round(scale * e, decimals) != round(scale * finding.limit, decimals) for e in ends):
            break
        decimals += 1
    return decimals


def finding_sentence(finding: Finding, metric: Metric, *, alpha: float, family: int, geometric: bool) -> str:
    """What a measured finding says.

    Args:
        finding: The finding, all numbers filled in.
        metric: Its metric.
        alpha: The error rate in force.
        family: How many requirements shared the correction.
        geometric: Whether the mean is the geometric one.
    """
    if finding.requirement.kind == "not_worse":
        text = _relative(finding, metric, alpha, family)
    else:
        text = _absolute(finding, metric, alpha, family, geometric)
    notes: list[str] = []
    if finding.missing:
        verb = "is" if finding.missing == 1 else "are"
        rows = f"{finding.missing:,} of {plural(finding.planned, 'row')}"
        notes.append(f"{rows} {verb} missing and counted against the candidate")
    if finding.invalid:
        notes.append(f"{plural(finding.invalid, 'invalid answer')} scored the worst value")
    return f"{text} {'; '.join(notes)}." if notes else text


def _relative(finding: Finding, metric: Metric, alpha: float, family: int) -> str:
    r = finding.requirement
    lower = metric.direction == "lower"
    k = decimals_for(finding, metric)
    assert finding.estimate is not None
    assert finding.limit is not None
    if r.relative:
        span = math.log10(max(abs(finding.candidate or 0.0), 1e-9))
        means = max(0, 2 - math.floor(span))

        def change(x: float) -> str:
            return number(100 * x, k, signed=True) + " %"

        margin = number(100 * abs(finding.limit), _needed(100 * finding.limit, 0)) + " %"
    else:
        means = k

        def change(x: float) -> str:
            return number(x, k, signed=True)

        margin = number(abs(finding.limit), k)
    unit = f" {metric.unit}" if metric.unit and not r.relative else ""
    own_unit = f" {metric.unit}" if metric.unit else ""
    head = (
        f"{r.metric}: {number(finding.candidate or 0.0, means)}{own_unit} vs {r.baseline} "
        f"{number(finding.baseline or 0.0, means)}{own_unit} over {_n(finding)}"
    )
    loss = f"a rise of {margin}{unit} or more" if lower else f"a loss of {margin}{unit} or more"
    interval = _interval(finding, change, alpha, unit)
    what = "the typical change (geometric mean)" if r.relative else "the change"
    if finding.outcome == "pass":
        return f"{head}; {what} is {interval}, which rules out {loss}."
    if finding.outcome == "fail":
        p = p_text(finding.p_worse_holm if finding.p_worse_holm is not None else 1.0)
        corrected = f", corrected for {family} requirements" if family > 1 else ""
        shown = f"; {what} is {interval}" if interval else f"; {what} is {change(finding.estimate)}{unit}"
        beyond = f"and by more than chance explains ({p}{corrected})"
        return f"{head}{shown}. It is worse than {r.baseline}, {beyond}."
    shown = f"; {what} is {interval}" if interval else f"; {what} is {change(finding.estimate)}{unit}"
    if finding.p_not_worse is None:
        return f"{head}{shown}, but this sample decides nothing."
    below = (
        finding.high is not None
        and finding.low is not None
        and (finding.low > 0 if lower else finding.high < 0)
    )
    if below:
        p = p_text(finding.p_worse_holm if finding.p_worse_holm is not None else 1.0)
        return f"{head}{shown}. It looks worse, yet not beyond doubt ({p} after the correction for {family})."
    return f"{head}{shown}, which neither rules out {loss} nor proves that it is worse."


def _absolute(finding: Finding, metric: Metric, alpha: float, family: int, geometric: bool) -> str:
    r = finding.requirement
    k = decimals_for(finding, metric)
    unit = f" {metric.unit}" if metric.unit else ""
    word = "floor" if r.kind == "at_least" else "ceiling"
    above, below = ("above", "below") if r.kind == "at_least" else ("below", "above")
    assert finding.limit is not None
    limit = f"{number(finding.limit, k)}{unit}"
    typical = " (geometric mean)" if geometric else ""
    head = f"{r.metric}: {number(finding.candidate or 0.0, k)}{unit}{typical} over {_n(finding)}"
    interval = _interval(finding, partial(number, decimals=k), alpha, unit)
    shown = f"; the true mean is {interval}" if interval else ""
    if finding.outcome == "pass":
        return f"{head}{shown}, which is {above} the {word} of {limit}."
    if finding.outcome == "fail":
        p = p_text(finding.p_worse_holm if finding.p_worse_holm is not None else 1.0)
        corrected = f", corrected for {family} requirements" if family > 1 else ""
        return f"{head}{shown}, which is {below} the {word} of {limit} ({p}{corrected})."
    if finding.p_not_worse is None:
        return f"{head}{shown}, but this sample does not decide about the {word} of {limit}."
    return f"{head}{shown}, so it is not certain on which side of the {word} of {limit} it lies."


def _interval(finding: Finding, show: Callable[[float], str], alpha: float, unit: str) -> str | None:
    if finding.low is None or finding.high is None:
        return None
    return f"between {show(finding.low)} and {show(finding.high)}{unit} ({share(1 - 2 * alpha)} interval)"


def _n(finding: Finding) -> str:
    text = plural(finding.n, "example")
    return text if finding.clusters in (0, finding.n) else f"{text} in {plural(finding.clusters, 'cluster')}"


def identical_sentence(requirement: Requirement) -> str:
    """What is said when candidate and baseline are the same thing."""
    return (
        f"{requirement.metric}: the candidate is identical to {requirement.baseline} "
        "(same version, task and model by digest), so it cannot be worse."
    )


def missing_sentence(
    metric: str, arm: str, missing: int, planned: int, failures: Counter[str], allowed: float
) -> str:
    """Why too many rows without a score leave a metric unmeasurable."""
    kinds = ", ".join(f"{kind} {n:,}" for kind, n in sorted(failures.items(), key=lambda x: (-x[1], x[0])))
    if missing == planned:
        return f"{metric}: none of the {arm}'s {plural(planned, 'row')} has a score ({kinds})."
    limit = f"at most {share(allowed)} may be" if allowed else "none may be, for a metric without a range"
    return (
        f"{metric}: {missing:,} of the {arm}'s {plural(planned, 'row')} are without a score "
        f"({share(missing / planned)}; {limit}): {kinds}."
    )


def verdict_sentence(
    outcome: Outcome, findings: Sequence[Finding], reasons: Sequence[str], look: int, alpha: float
) -> str:
    """The verdict in plain words."""
    if reasons:
        return "Unmeasurable: " + " ".join(reasons)
    those = [f for f in findings if f.outcome == outcome]
    total = plural(len(findings), "requirement")
    names = "; ".join(str(f.requirement) for f in those)
    if outcome == "pass":
        text = f"Pass: {'the requirement holds' if len(findings) == 1 else f'all {total} hold'}."
    elif outcome == "fail":
        text = f"Fail: {len(those)} of {total} {'is' if len(those) == 1 else 'are'} broken: {names}."
    elif outcome == "inconclusive":
        text = f"Inconclusive: {len(those)} of {total} could not be decided: {names}."
    else:
        whys = " ".join(dict.fromkeys(f.sentence for f in those))
        text = f"Unmeasurable: {len(those)} of {total} could not be measured. {whys}"
    if look > 1:
        text += (
            f" This is look {look} at this pair on this dataset, so each question is asked at {share(alpha)}."
        )
    return text
