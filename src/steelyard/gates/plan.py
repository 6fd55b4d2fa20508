"""What a gate can be expected to say, before a run is paid for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.score import Metric
from steelyard.gates.decide import alpha_at
from steelyard.gates.judge import MIN_CLUSTERS, MIN_LOGS
from steelyard.gates.policy import Policy, Requirement
from steelyard.gates.power import (
    detectable_loss,
    floor_reach,
    n_for_pass,
    p_pass_clustered,
    p_pass_log,
    p_pass_paired,
)
from steelyard.gates.sentences import number, share

__all__ = ["Plan", "PlannedRequirement", "plan"]

DISCORDANCE = 0.1
"""Share of examples on which two versions disagree, assumed where nothing is known."""

LOG_SD = 0.3
"""Standard deviation of the logarithm of candidate / baseline, assumed for metrics without a range."""

ICC = 0.3
"""Correlation of two differences within a cluster, assumed where there are clusters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRequirement:
    """What one requirement can be expected to say.

    Attributes:
        requirement: The requirement.
        sentence: The expectation in plain words.
        n: Examples.
        assumed: What was assumed of the data: the discordance (without a range: the deviation of the
            logarithms) as (low, typical, high); None for floors and ceilings.
        p_pass: P(pass | no change) under each of `assumed`; None for floors and ceilings.
        detectable: The loss that fails 8 times in 10 (for floors: the mean that passes 8 times in 10), in the
            metric's own unit, or a share if relative; None where no such value exists.
        needed: Examples with which an unchanged candidate passes 8 times in 10; None for floors and ceilings.
    """

    requirement: Requirement
    sentence: str
    n: int
    assumed: tuple[float, float, float] | None = None
    p_pass: tuple[float, float, float] | None = None
    detectable: float | None = None
    needed: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What a gate can be expected to say.

    Attributes:
        requirements: One a requirement, in the policy's order.
        n: Examples.
        clusters: Independent clusters among them.
        alpha: The error rate of this look.
    """

    requirements: tuple[PlannedRequirement, ...]
    n: int
    clusters: int
    alpha: float


def plan(
    policy: Policy,
    metrics: Sequence[Metric],
    n: int,
    *,
    clusters: int | None = None,
    graded: Collection[str] = (),
    discordance: Mapping[str, float] | None = None,
    look: int = 1,
) -> Plan:
    """The chances of a gate before it is run.

    Args:
        policy: What is demanded.
        metrics: What the evaluators measure.
        n: Examples.
        clusters: Independent clusters among them; None when each example stands alone.
        graded: Metrics with a range whose values also lie between its ends, or that have several trials.
        discordance: By metric: the share of examples that differ (for graded ones the mean squared
            difference on a range mapped to [0, 1]; without a range, the standard deviation of the logarithm
            of the ratio), as `discordance()` reads it off an earlier pair. Where unnamed, 0.1 is assumed, or
            0.3 for the last.
        look: Which look at this pair on this dataset.

    Raises:
        InvalidValue: n is below 1, or there are more clusters than examples.
        NotFound: a requirement names a metric that no evaluator measures.
    """
    groups = n if clusters is None else clusters
    if n < 1 or not 1 <= groups <= n:
        raise InvalidValue(
            f"{n} examples in {groups} clusters", do="Give at least 1 example, and 1 a cluster."
        )
    known = {m.name: m for m in metrics}
    alpha = alpha_at(policy.alpha, look)
    lines: list[PlannedRequirement] = []
    for r in policy.requirements:
        if r.metric not in known:
            raise NotFound("metric", r.metric, existing=known)
        metric = known[r.metric]
        given = (discordance or {}).get(r.metric)
        if r.kind == "not_worse" and r.relative:
            lines.append(_ratio(r, metric, groups, alpha, given))
        elif r.kind == "not_worse":
            lines.append(_loss(r, metric, n, groups, alpha, given, graded=r.metric in graded))
        else:
            lines.append(_bound(r, metric, n, groups, alpha))
    return Plan(requirements=tuple(lines), n=n, clusters=groups, alpha=alpha)


def _loss(
    r: Requirement, metric: Metric, n: int, groups: int, alpha: float, given: float | None, *, graded: bool
) -> PlannedRequirement:
    span = (metric.high or 0.0) - (metric.low or 0.0) if metric.bounded else 1.0
    margin = (r.margin or 0.0) / span
    if not metric.bounded or not 0 < margin < 1:
        return PlannedRequirement(
            requirement=r,
            n=n,
            sentence=f"{r}: cannot be measured; the margin does not fit the metric's range.",
        )
    q = given if given else DISCORDANCE
    assumed = (min(1.0, q / 2), q, min(1.0, 2 * q))
    size = n / groups
    if size > 1 or graded:
        if groups < MIN_CLUSTERS:
            unit = "clusters" if size > 1 else "examples"
            return PlannedRequirement(
                requirement=r,
                n=n,
                assumed=assumed,
                p_pass=(0.0, 0.0, 0.0),
                needed=math.ceil(MIN_CLUSTERS * size),
                sentence=f"{r}: {groups} {unit} decide nothing, and {MIN_CLUSTERS} are needed.",
            )

        def chance(n: int, q: float) -> float:
            return p_pass_clustered(n, size, q, margin, icc=ICC, alpha=alpha)

        detect = _detect_t(n, size, q, alpha)
        needed = _search(partial(chance, q=q), math.ceil(MIN_CLUSTERS * size))
    else:

        def chance(n: int, q: float) -> float:
            return p_pass_paired(n, q, margin, alpha=alpha)

        detect = detectable_loss(n, q, alpha=alpha)
        needed = n_for_pass(q, margin, alpha=alpha)
    p = (chance(n, assumed[0]), chance(n, assumed[1]), chance(n, assumed[2]))
    within = f" in {groups:,} clusters (correlation {ICC:g} within one assumed)" if size > 1 else ""
    source = "as measured before" if given else "assumed"
    lost = "rise" if metric.direction == "lower" else "loss"
    found = f"A true {lost} of {number(detect * span, 2)} is failed 8 times in 10. " if detect else ""
    return PlannedRequirement(
        requirement=r,
        n=n,
        assumed=assumed,
        p_pass=p,
        detectable=None if detect is None else detect * span,
        needed=needed,
        sentence=(
            f"{r}: with {n:,} examples{within} an unchanged candidate passes {share(round(p[1], 2))} "
            f"of the time if {share(q)} of the answers differ ({source}; {share(round(p[2], 2))} to "
            f"{share(round(p[0], 2))} if {share(assumed[2])} to {share(assumed[0])} do). {found}"
            f"{needed:,} examples pass it 8 times in 10."
        ),
    )


def _ratio(
    r: Requirement, metric: Metric, groups: int, alpha: float, given: float | None
) -> PlannedRequirement:
    sign = 1.0 if metric.direction == "higher" else -1.0
    margin = r.margin or 0.0
    if metric.bounded or (sign > 0 and margin >= 1):
        return PlannedRequirement(
            requirement=r,
            n=groups,
            sentence=f"{r}: cannot be measured; give the margin in the metric's own unit.",
        )
    sd = given if given else LOG_SD
    assumed = (sd / 2, sd, 2 * sd)
    log_margin = abs(math.log1p(-sign * margin))
    needed = _search(partial(p_pass_log, sd=sd, log_margin=log_margin, alpha=alpha), MIN_LOGS)
    if groups < MIN_LOGS:
        p = (0.0, 0.0, 0.0)
        text = f"{r}: {groups} independent values decide nothing, and {MIN_LOGS} are needed."
    else:
        p = (
            p_pass_log(groups, assumed[0], log_margin, alpha=alpha),
            p_pass_log(groups, sd, log_margin, alpha=alpha),
            p_pass_log(groups, assumed[2], log_margin, alpha=alpha),
        )
        source = "as measured before" if given else "assumed"
        text = (
            f"{r}: with {groups:,} independent values an unchanged candidate passes {share(round(p[1], 2))} "
            f"of the time if the ratio typically varies by {share(sd)} ({source}; {share(round(p[2], 2))} to "
            f"{share(round(p[0], 2))} if by {share(assumed[2])} to {share(assumed[0])}). "
            f"{needed:,} pass it 8 times in 10."
        )
    return PlannedRequirement(
        requirement=r, n=groups, assumed=assumed, p_pass=p, needed=needed, sentence=text
    )


def _bound(r: Requirement, metric: Metric, n: int, groups: int, alpha: float) -> PlannedRequirement:
    bound = r.bound or 0.0
    word = "floor" if r.kind == "at_least" else "ceiling"
    if not metric.bounded:
        if groups < MIN_LOGS:
            text = f"{r}: {groups} independent values decide nothing, and {MIN_LOGS} are needed."
            return PlannedRequirement(requirement=r, n=groups, sentence=text)
        factor = math.exp(2.5 * LOG_SD / math.sqrt(groups))
        reach = bound * factor if r.kind == "at_least" else bound / factor
        side = "at or above" if r.kind == "at_least" else "at or below"
        text = f"{r}: with {groups:,} independent values it passes 8 times in 10 if the true mean is {side}"
        return PlannedRequirement(
            requirement=r,
            n=groups,
            detectable=reach,
            sentence=f"{text} {reach:.3g} (values varying by {share(LOG_SD)} assumed).",
        )
    low, high = metric.low or 0.0, metric.high or 0.0
    floor = (bound - low if r.kind == "at_least" else high - bound) / (high - low)
    if not 0 <= floor < 1:
        text = f"{r}: no finite number of examples proves it; the {word} must lie inside the metric's range."
        return PlannedRequirement(requirement=r, n=n, sentence=text)
    size = n / groups
    if size > 1 and groups < MIN_CLUSTERS:
        text = f"{r}: {groups} clusters decide nothing, and {MIN_CLUSTERS} are needed."
        return PlannedRequirement(requirement=r, n=n, sentence=text)
    effective = max(1, int(n / (1 + (size - 1) * ICC)))
    up, down = floor_reach(effective, floor, alpha=alpha)

    def own(u: float) -> str:
        return number(low + u * (high - low) if r.kind == "at_least" else high - u * (high - low), 2)

    above, below = ("or more", "or less") if r.kind == "at_least" else ("or less", "or more")
    passes = (
        f"passes 8 times in 10 if the true mean is {own(up)} {above}" if up is not None else "cannot pass"
    )
    fails = (
        f", and fails 8 times in 10 if it is {own(down)} {below}" if down is not None else ", and cannot fail"
    )
    reach = (
        None
        if up is None
        else (low + up * (high - low) if r.kind == "at_least" else high - up * (high - low))
    )
    return PlannedRequirement(
        requirement=r, n=n, detectable=reach, sentence=f"{r}: with {n:,} examples it {passes}{fails}."
    )


def _detect_t(n: int, size: float, q: float, alpha: float) -> float | None:
    from scipy.special import ndtri, stdtrit

    reach = float(stdtrit(n / size + 1, 1 - alpha) + ndtri(0.8))
    loss = reach * math.sqrt((n * q * (1 + (size - 1) * ICC) + 2) / n**2)
    return loss if loss < 1 else None


def _search(chance: Callable[[int], float], least: int) -> int:
    high = max(least, 2)
    if chance(high) >= 0.8:
        return high
    while chance(high) < 0.8 and high < 10**9:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= 0.8 else (middle, high)
    return high
