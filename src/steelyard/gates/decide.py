"""The verdict: a pure function of a policy and the rows of two runs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from steelyard.core.errors import InvalidValue
from steelyard.core.results import Scores
from steelyard.core.score import Metric
from steelyard.gates.checks import Arms, bound_problem, loss_problem, whole_reasons
from steelyard.gates.judge import Judged, judge_bound, judge_loss, judge_ratio
from steelyard.gates.measure import Sample, paired, single
from steelyard.gates.multiple import holm
from steelyard.gates.policy import Policy, Requirement
from steelyard.gates.sentences import finding_sentence, identical_sentence, verdict_sentence
from steelyard.gates.verdict import Finding, Verdict, worst

__all__ = ["alpha_at", "decide"]


def alpha_at(alpha: float, look: int) -> float:
    """The error rate of one look: α for the first, α / 2^k for look k ≥ 2 (all together at most 1.5 α)."""
    return alpha if look == 1 else math.ldexp(alpha, -look)  # alpha / 2**look, which may overflow


@dataclass(frozen=True, slots=True, kw_only=True)
class _Draft:
    """A measured requirement before the correction and before its words."""

    finding: Finding
    judged: Judged
    metric: Metric
    geometric: bool


def decide(
    policy: Policy,
    candidate: Scores | None,
    baselines: Mapping[str, Scores | None],
    *,
    look: int = 1,
    policy_at_run: str | None = None,
    reasons: Sequence[str] = (),
    absent: Mapping[str, str] | None = None,
) -> Verdict:
    """The verdict on a candidate.

    Args:
        policy: What is demanded.
        candidate: The candidate's rows; None where nothing was run.
        baselines: The rows of each alias that the policy names, None where the alias is absent. Only rows
            that gate belong into either.
        look: Which look at this pair on this dataset.
        policy_at_run: Digest of the policy that stood when the run began; None skips the comparison.
        reasons: Why nothing can be measured, as far as the caller knows already; each a sentence.
        absent: Why a baseline has no rows, a sentence by alias; what does not need it is judged all the same.

    Raises:
        InvalidValue: `look` is below 1.
    """
    if look < 1:
        raise InvalidValue(f"look={look}", do="Count looks from 1.")
    alpha = alpha_at(policy.alpha, look)
    whole = (*reasons, *whole_reasons(policy, candidate, policy_at_run, told=bool(reasons)))
    findings: list[Finding]
    if whole or candidate is None:
        findings = [
            Finding(requirement=r, outcome="unmeasurable", sentence=f"{r.metric}: not judged.")
            for r in policy.requirements
        ]
    else:
        arms = Arms(
            candidate=candidate, baselines=baselines, max_missing=policy.max_missing, absent=absent or {}
        )
        findings = _corrected([_weigh(r, arms, alpha) for r in policy.requirements], alpha)
    outcome = "unmeasurable" if whole else worst(tuple(f.outcome for f in findings))
    return Verdict(
        outcome=outcome,
        sentence=verdict_sentence(outcome, findings, whole, look, alpha),
        findings=tuple(findings),
        policy=policy,
        candidate=candidate.identity if candidate else None,
        baselines={k: v.identity for k, v in sorted(baselines.items()) if v is not None},
        look=look,
        alpha=alpha,
        reasons=whole,
    )


def _weigh(r: Requirement, arms: Arms, alpha: float) -> Finding | _Draft:
    if r.kind == "not_worse":
        return _weigh_loss(r, arms, alpha)
    return _weigh_bound(r, arms, alpha)


def _weigh_loss(r: Requirement, arms: Arms, alpha: float) -> Finding | _Draft:
    problem, metric, baseline = loss_problem(r, arms)
    if problem is not None or baseline is None:
        return problem or Finding(requirement=r, outcome="unmeasurable", sentence=f"{r.metric}: no baseline.")
    candidate_arm = arms.arm(arms.candidate, metric)
    if arms.identical(baseline):
        return Finding(
            requirement=r,
            outcome="pass",
            sentence=identical_sentence(r),
            n=0,
            planned=len(arms.candidate.planned),
            missing=candidate_arm.missing,
            invalid=candidate_arm.invalid,
            method="identical",
        )
    baseline_arm = arms.arm(baseline, metric)
    sample = paired(candidate_arm, baseline_arm, metric, log=r.relative)
    assert r.margin is not None
    sign = 1.0 if metric.direction == "higher" else -1.0
    if r.relative:
        judged = judge_ratio(sample, abs(math.log1p(-sign * r.margin)), alpha)
        low, high, estimate = (
            math.expm1(sign * x) if math.isfinite(x) else x
            for x in (judged.low, judged.high, judged.estimate)
        )
    else:
        assert metric.low is not None
        assert metric.high is not None
        scale = sign * (metric.high - metric.low)
        judged = judge_loss(sample, r.margin / abs(scale), alpha)
        low, high, estimate = scale * judged.low, scale * judged.high, scale * judged.estimate
    if sign < 0:
        low, high = high, low
    return _draft(
        r,
        metric,
        sample,
        judged,
        (low, high, estimate, -sign * r.margin),
        missing=candidate_arm.missing + baseline_arm.missing,
        invalid=candidate_arm.invalid + baseline_arm.invalid,
        planned=2 * len(arms.candidate.planned),
    )


def _weigh_bound(r: Requirement, arms: Arms, alpha: float) -> Finding | _Draft:
    problem, metric = bound_problem(r, arms)
    if problem is not None:
        return problem
    arm = arms.arm(arms.candidate, metric)
    upward = r.kind == "at_least"
    assert r.bound is not None
    log = not metric.bounded and r.bound > 0 and bool((arm.values > 0).all())
    sample = single(arm, metric, upward=upward, log=log)
    if metric.bounded:
        assert metric.low is not None
        assert metric.high is not None
        scale = metric.high - metric.low
        floor = (r.bound - metric.low if upward else metric.high - r.bound) / scale
        judged = judge_bound(sample, floor, alpha, ranged=True)
        start, step = (metric.low, scale) if upward else (metric.high, -scale)
        low, high = start + step * judged.low, start + step * judged.high
        estimate = sample.candidate
    else:
        sign = 1.0 if upward else -1.0
        judged = judge_bound(sample, sign * (math.log(r.bound) if log else r.bound), alpha, ranged=False)
        low, high, estimate = sign * judged.low, sign * judged.high, sign * judged.estimate
        if log:
            low, high, estimate = (math.exp(x) if x < 700 else math.inf for x in (low, high, estimate))
            sample = replace(sample, candidate=estimate)
    if not upward:
        low, high = high, low
    return _draft(
        r,
        metric,
        sample,
        judged,
        (low, high, estimate, r.bound),
        missing=arm.missing,
        invalid=arm.invalid,
        planned=len(arms.candidate.planned),
        geometric=log,
    )


def _draft(
    r: Requirement,
    metric: Metric,
    sample: Sample,
    judged: Judged,
    numbers: tuple[float, float, float | None, float],
    *,
    missing: int,
    invalid: int,
    planned: int,
    geometric: bool = False,
) -> _Draft:
    low, high, estimate, limit = numbers
    finding = Finding(
        requirement=r,
        outcome="inconclusive",
        sentence="",
        candidate=sample.candidate,
        baseline=sample.baseline,
        estimate=estimate,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        limit=limit,
        n=sample.n,
        clusters=judged.clusters,
        missing=missing,
        invalid=invalid,
        planned=planned,
        p_not_worse=judged.p_not_worse,
        p_worse=judged.p_worse,
        method=judged.method,
    )
    return _Draft(finding=finding, judged=judged, metric=metric, geometric=geometric)


def _corrected(weighed: list[Finding | _Draft], alpha: float) -> list[Finding]:
    """The findings, question 2 corrected by Holm over every requirement that was measured."""
    drafts = [w for w in weighed if isinstance(w, _Draft)]
    # A sample that decides nothing stays in the family: whether it does is seen only in the data.
    adjusted = iter(holm([1.0 if d.judged.p_worse is None else d.judged.p_worse for d in drafts]))
    return [
        w if isinstance(w, Finding) else _finished(w, next(adjusted), len(drafts), alpha) for w in weighed
    ]


def _finished(draft: _Draft, p_holm: float, family: int, alpha: float) -> Finding:
    judged, finding = draft.judged, draft.finding
    if judged.p_not_worse is not None and judged.p_not_worse <= alpha:
        outcome = "pass"
    elif judged.p_worse is not None and p_holm <= alpha:
        outcome = "fail"
    else:
        outcome = "inconclusive"
    finding = replace(finding, outcome=outcome, p_worse_holm=None if judged.p_worse is None else p_holm)
    more, advice = _advice(finding, judged, draft.metric, alpha)
    sentence = finding_sentence(finding, draft.metric, alpha=alpha, family=family, geometric=draft.geometric)
    return replace(finding, sentence=sentence, more_examples=more, advice=advice)


def _advice(finding: Finding, judged: Judged, metric: Metric, alpha: float) -> tuple[int | None, str]:
    """How many more examples would likely decide it, and what to do next."""
    from scipy.special import ndtri

    r = finding.requirement
    if finding.outcome == "pass":
        return None, ""
    if finding.outcome == "fail":
        if r.kind == "not_worse":
            return None, "Look at the examples that changed most, mend the candidate and run again."
        return (
            None,
            f"Improve the candidate, or set another {'floor' if r.kind == 'at_least' else 'ceiling'}.",
        )
    if judged.undecidable is not None:
        why = judged.undecidable[0].upper() + judged.undecidable[1:]
        more = None if judged.needed is None else max(1, judged.needed - finding.n)
        return more, f"{why}." + (f" Add about {more:,} more examples." if more else " Add examples.")
    gaps = [judged.estimate - judged.limit]
    gaps.append(-judged.estimate if r.kind == "not_worse" else -gaps[0])
    gap = max(gaps)
    reach = float(ndtri(1 - alpha) + ndtri(0.8))
    if r.kind != "not_worse" and metric.bounded and judged.limit >= 1:
        return (
            None,
            "No finite number of examples proves a perfect mean: set a limit short of the best value.",
        )
    if gap <= 0 or (total := judged.variance * (reach / gap) ** 2) > 1e6:
        return None, "The mean sits on the limit, so more examples would hardly decide it: set another limit."
    more = max(math.ceil(total) - finding.n, math.ceil(total / 10), 1)
    seen = "change" if r.kind == "not_worse" else "mean"
    advice = (
        f"If the {seen} seen here is the true one, about {more:,} more examples would decide it 8 times in 10"
    )
    return more, advice + (", or accept a larger margin." if r.kind == "not_worse" else ".")
