"""Pictures as inline SVG: positions in per cent and text in pixels, so that they stay legible on a phone."""

from __future__ import annotations

import math
from collections.abc import Sequence

from steelyard.core.score import Metric
from steelyard.gates.verdict import Finding, Outcome
from steelyard.report.changes import ArmCost, Comparison
from steelyard.report.markup import Markup, el
from steelyard.report.words import interval, limit_words, number, seconds, shown, signed

__all__ = ["change_bar", "icon", "interval_picture", "latency_picture", "mark"]

_PATHS: dict[Outcome, str] = {
    "pass": "M7 12.5l3.4 3.4L17 9.2",
    "fail": "M8.2 8.2l7.6 7.6M15.8 8.2l-7.6 7.6",
    "inconclusive": "M6.5 13.2c1.8-3 3.6-3 5.5-1.2s3.7 1.8 5.5-1.2",
    "unmeasurable": "M7.6 16.4l8.8-8.8",
}


def icon(outcome: Outcome, size: int = 20) -> Markup:
    """A disc with the outcome's sign: tick, cross, wave, slash. The word always stands beside it."""
    ring = el("circle", cx=12, cy=12, r=11, cls="disc")
    return el(
        "svg",
        ring,
        el("path", d=_PATHS[outcome], cls="sign"),
        viewBox="0 0 24 24",
        width=size,
        height=size,
        cls=f"icon {outcome}",
        aria_hidden="true",
    )


def mark() -> Markup:
    """The project's mark: a steelyard, its beam level."""
    return el(
        "svg",
        el("path", d="M2 9h24M8 9V5M3.5 9v6M20.5 9v3", cls="beam"),
        el("path", d="M0.8 15h5.4a2.7 2.7 0 0 1-5.4 0z", cls="weight"),
        el("rect", x=18.6, y=12, width=3.8, height=4.6, rx=1, cls="weight"),
        el("circle", cx=8, cy=4.4, r=1.6, cls="weight"),
        viewBox="0 0 28 20",
        width=28,
        height=20,
        cls="mark",
        aria_hidden="true",
    )


class _Axis:
    """Values to per cent of the width."""

    def __init__(self, low: float, high: float) -> None:
        if high - low < 1e-12:
            low, high = low - 0.5, high + 0.5
        self.low, self.high = low, high

    def at(self, value: float) -> float:
        """Per cent from the left, 0 to 100."""
        return min(max((value - self.low) / (self.high - self.low) * 100, 0.0), 100.0)

    def ticks(self) -> list[float]:
        """Three to five round values inside."""
        raw = (self.high - self.low) / 4
        base = 10 ** math.floor(math.log10(raw))
        step = next(base * k for k in (1, 2, 2.5, 5, 10) if base * k >= raw)
        first = math.ceil(self.low / step - 1e-9)
        return [i * step for i in range(first, math.floor(self.high / step + 1e-9) + 1)]


def _pc(value: float) -> str:
    return f"{value:.2f}%"


def _anchor(at: float) -> str:
    return "start" if at < 18 else "end" if at > 82 else "middle"


def _label(at: float, y: int, text: str, cls: str) -> Markup:
    return el("text", text, x=_pc(at), y=y, text_anchor=_anchor(at), cls=cls)


def interval_picture(finding: Finding, metric: Metric | None) -> Markup | None:
    """The interval against its limit: estimate, bar, limit line, zero line, axis.

    None where nothing was measured.
    """
    estimate, low, high = finding.estimate, finding.low, finding.high
    if estimate is None or low is None or high is None:
        return None
    difference = finding.requirement.kind == "not_worse"
    limit = finding.limit if finding.limit is not None else finding.requirement.bound
    axis = _axis(
        [v for v in (estimate, low, high, limit, 0.0 if difference else None) if v is not None],
        None if difference else metric,
    )
    parts: list[Markup] = [el("rect", x="0%", y=30, width="100%", height=38, rx=5, cls="lane")]
    if limit is not None:
        parts += _limit(finding, axis, limit, metric)
    if difference:
        zero = axis.at(0.0)
        parts.append(el("line", x1=_pc(zero), x2=_pc(zero), y1=30, y2=68, cls="zero"))
        parts.append(_label(zero, 26, "no change", "small"))
    a, b, at = axis.at(low), axis.at(high), axis.at(estimate)
    parts += [
        el("rect", x=_pc(a), y=44, width=_pc(max(b - a, 0.4)), height=10, rx=5, cls="bar"),
        el("circle", cx=_pc(at), cy=49, r=7, cls="dot"),
    ]
    parts.append(el("line", x1="0%", x2="100%", y1=76, y2=76, cls="axis"))
    for tick in axis.ticks():
        x = axis.at(tick)
        parts.append(el("line", x1=_pc(x), x2=_pc(x), y1=76, y2=80, cls="axis"))
        parts.append(el("text", _tick(finding, tick), x=_pc(x), y=93, text_anchor=_edge(x), cls="tick"))
    what = f"{finding.requirement.metric}: estimate {shown(finding, estimate)}, interval {interval(finding)}"
    return el(
        "svg",
        el("title", f"{what}, {limit_words(finding)}"),
        *parts,
        width="100%",
        height=98,
        cls=f"picture {finding.outcome}",
        role="img",
        aria_label=f"{what}, {limit_words(finding)}",
    )


def _edge(x: float) -> str:
    return "start" if x < 4 else "end" if x > 96 else "middle"


def _tick(finding: Finding, value: float) -> str:
    """A round value as short as it can be."""
    if finding.requirement.relative:
        return f"{100 * value:+.4g} %".replace("-", "−") if value else "0"
    text = signed(value) if finding.requirement.kind == "not_worse" else number(value)
    return text.rstrip("0").rstrip(".") if "." in text and "e" not in text else text


def _axis(values: Sequence[float], metric: Metric | None) -> _Axis:
    low, high = min(values), max(values)
    room = max((high - low) * 0.14, abs(high) * 1e-6, 1e-9)
    low, high = low - room, high + room
    if metric is not None and metric.low is not None and metric.high is not None:
        # A mean cannot leave its range: the axis ends there.
        low, high = max(low, metric.low), min(high, metric.high)
    return _Axis(low, high)


def _limit(finding: Finding, axis: _Axis, limit: float, metric: Metric | None) -> list[Markup]:
    at = axis.at(limit)
    kind = finding.requirement.kind
    higher = kind == "at_least" or (kind == "not_worse" and (metric is None or metric.direction == "higher"))
    bad = (0.0, at) if higher else (at, 100.0)
    name = {"at_least": "below the floor", "at_most": "above the ceiling"}.get(kind, "too much lost")
    parts = [el("rect", x=_pc(bad[0]), y=30, width=_pc(bad[1] - bad[0]), height=38, rx=5, cls="bad")]
    if bad[1] - bad[0] > 24:
        edge = (bad[0], "start", 8) if higher else (bad[1], "end", -8)
        parts.append(el("text", name, x=_pc(edge[0]), y=63, dx=edge[2], text_anchor=edge[1], cls="zone"))
    parts.append(el("line", x1=_pc(at), x2=_pc(at), y1=17, y2=72, cls="limit"))
    parts.append(_label(at, 12, limit_words(finding), "limit-text"))
    return parts


def change_bar(comparison: Comparison) -> Markup | None:
    """Worse, unchanged and better as one bar; None where nothing was compared."""
    total = comparison.compared
    if not total:
        return None
    worse, better = len(comparison.worse), len(comparison.better)
    shares = [("worse", worse), ("still", total - worse - better), ("better", better)]
    parts: list[Markup] = []
    x = 0.0
    for cls, count in shares:
        width = 100 * count / total
        if count:
            parts.append(el("rect", x=_pc(x), y=0, width=_pc(width), height=14, cls=cls))
        x += width
    text = f"{worse} worse, {shares[1][1]} with the same scores, {better} better"
    return el(
        "svg",
        el("title", text),
        *parts,
        width="100%",
        height=14,
        cls="changebar",
        role="img",
        aria_label=text,
    )


def latency_picture(costs: Sequence[ArmCost]) -> Markup | None:
    """Median to 95th percentile of each arm on one axis; None where no arm called a model."""
    arms = [(c.arm, c.p50, c.p95) for c in costs if c.p50 is not None and c.p95 is not None]
    if not arms:
        return None
    top = max(p95 for _, _, p95 in arms) * 1.12 or 1.0
    axis = _Axis(0.0, top)
    parts: list[Markup] = []
    for i, (arm, p50, p95) in enumerate(arms):
        y = 30 + 40 * i
        a, b = axis.at(p50), axis.at(p95)
        cls = "new" if arm == "candidate" else "old"
        parts += [
            el("text", f"{arm}  p50 {seconds(p50)} · p95 {seconds(p95)}", x="0%", y=y - 14, cls="small"),
            el("line", x1="0%", x2="100%", y1=y, y2=y, cls="axis"),
            el("rect", x=_pc(a), y=y - 4, width=_pc(max(b - a, 0.4)), height=8, rx=4, cls=f"wait {cls}"),
            el("circle", cx=_pc(a), cy=y, r=6, cls=f"wait-dot {cls}"),
            el("line", x1=_pc(b), x2=_pc(b), y1=y - 7, y2=y + 7, cls=f"wait-end {cls}"),
        ]
    bottom = 30 + 40 * (len(arms) - 1) + 20
    for tick in axis.ticks():
        x = axis.at(tick)
        parts.append(
            el(
                "text",
                seconds(tick) if tick else "0",
                x=_pc(x),
                y=bottom + 8,
                text_anchor=_edge(x),
                cls="tick",
            )
        )
    text = "; ".join(f"{arm}: p50 {seconds(a)}, p95 {seconds(b)}" for arm, a, b in arms)
    return el(
        "svg",
        el("title", f"Latency. {text}"),
        *parts,
        width="100%",
        height=bottom + 14,
        cls="picture",
        role="img",
        aria_label=f"Latency. {text}",
    )
