"""What cannot be measured, and why: everything here ends in `unmeasurable`, never in a pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from steelyard.core.errors import did_you_mean
from steelyard.core.results import Scores
from steelyard.core.score import Metric
from steelyard.gates.measure import Arm, aligned, arm_of
from steelyard.gates.policy import Policy, Requirement
from steelyard.gates.sentences import missing_sentence
from steelyard.gates.verdict import Finding

__all__ = ["Arms", "bound_problem", "demand_problem", "loss_problem", "whole_reasons"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arms:
    """The runs that are weighed; each metric of each is read once.

    Attributes:
        candidate: The candidate's rows.
        baselines: The baselines' rows by alias.
        max_missing: Largest share of an arm's rows that may be missing.
        absent: Why a baseline has no rows, a sentence by alias, where the caller knows it.
    """

    candidate: Scores
    baselines: Mapping[str, Scores | None]
    max_missing: float
    absent: Mapping[str, str] = field(default_factory=dict[str, str])
    _read: dict[tuple[int, str], Arm] = field(default_factory=dict[tuple[int, str], Arm])
    _aligned: dict[str, Scores | None] = field(default_factory=dict[str, Scores | None])

    def arm(self, scores: Scores, metric: Metric) -> Arm:
        """One metric of one run."""
        key = (id(scores), metric.name)
        if key not in self._read:
            self._read[key] = arm_of(scores, metric)
        return self._read[key]

    def baseline(self, alias: str) -> Scores | None:
        """The baseline's rows in the candidate's order; None where the planned rows differ."""
        if alias not in self._aligned:
            scores = self.baselines[alias]
            self._aligned[alias] = None if scores is None else aligned(self.candidate, scores)
        return self._aligned[alias]

    def identical(self, baseline: Scores) -> bool:
        """Whether the baseline is the candidate itself, by digest."""
        return baseline.identity.candidate == self.candidate.identity.candidate


def whole_reasons(
    policy: Policy, candidate: Scores | None, policy_at_run: str | None, *, told: bool = False
) -> tuple[str, ...]:
    """Why nothing at all can be measured, each a sentence; `told` if the caller names what is missing."""
    out: list[str] = []
    if policy_at_run is not None and policy_at_run != policy.digest:
        out.append(
            "The policy is not the one the run was started with, and a rule chosen after the scores "
            "are known proves nothing: run again under this policy."
        )
    if told:
        return tuple(out)
    if not policy.requirements:
        out.append("The policy has no requirement, so there is nothing to hold the scores against.")
    if candidate is None:
        out.append("Nothing was run.")
        return tuple(out)
    if not candidate.identity.metrics:
        out.append("No evaluator was given, so nothing was scored.")
    if not candidate.planned:
        out.append(f"The dataset {candidate.identity.dataset_name!r} has no example to run.")
    elif not candidate.rows:
        out.append("None of the planned rows was run.")
    return tuple(out)


def demand_problem(r: Requirement, metrics: Sequence[Metric]) -> Finding | None:
    """Why a requirement cannot be measured whatever the scores are: known before anything is run."""
    metric = _metric(r, metrics)
    if metric is None:
        known = sorted(m.name for m in metrics)
        hint = f"{did_you_mean(r.metric, known)} The evaluators measure {', '.join(known)}.".strip()
        return _unmeasurable(r, f"{r.metric}: no evaluator measures it.", hint)
    if r.kind == "not_worse":
        return _margin_problem(r, metric)
    if metric.bounded and r.bound is not None and not _between(metric, r.bound):
        percent = f" Did you mean {r.bound / 100:g}?" if _between(metric, r.bound / 100) else ""
        return _unmeasurable(
            r,
            f"{r.metric}: {r.bound:g} lies outside the metric's range, {metric.low:g} to {metric.high:g}.",
            f"Give a number inside the range.{percent}",
        )
    if metric.bounded and r.bound == (metric.low if r.kind == "at_least" else metric.high):
        end, other = ("lowest", "higher") if r.kind == "at_least" else ("highest", "lower")
        return _unmeasurable(
            r,
            f"{r.metric}: {r.bound:g} is the metric's {end} value, so every candidate would pass.",
            f"Give a {other} number.",
        )
    return None


def bound_problem(r: Requirement, arms: Arms) -> tuple[Finding | None, Metric]:
    """Why a floor or ceiling cannot be measured (or None), and the metric."""
    metric = _metric(r, arms.candidate.identity.metrics) or Metric(name=r.metric)
    problem = demand_problem(r, arms.candidate.identity.metrics)
    return problem or _arm_problem(r, arms, metric, "candidate", arms.candidate), metric


def loss_problem(r: Requirement, arms: Arms) -> tuple[Finding | None, Metric, Scores | None]:
    """Why a comparison cannot be measured (or None), the metric, and the baseline in the same order."""
    metric = _metric(r, arms.candidate.identity.metrics) or Metric(name=r.metric)
    problem = demand_problem(r, arms.candidate.identity.metrics)
    alias = r.baseline or ""
    stored = arms.baselines.get(alias)
    if problem is None and stored is None:
        advice = f"Run `steelyard bless` to make this candidate {alias!r} once its floors hold."
        why = f"there is no {alias!r} to compare with."
        if alias in arms.absent:
            why, advice = arms.absent[alias], ""
        problem = _unmeasurable(r, f"{r.metric}: {why}", advice)
    problem = problem or _arm_problem(r, arms, metric, "candidate", arms.candidate)
    if problem is not None or stored is None:
        return problem, metric, None
    if arms.identical(stored):
        return None, metric, stored
    difference = _difference(r.metric, arms.candidate, stored)
    baseline = arms.baseline(alias)
    if difference is None and baseline is None:
        difference = "planned different examples"
    if difference is not None or baseline is None:
        return (
            _unmeasurable(
                r,
                f"{r.metric}: the candidate and {alias} {difference}, so their scores cannot be compared.",
                f"Run {alias} again on this dataset, with these evaluators.",
            ),
            metric,
            None,
        )
    problem = _arm_problem(r, arms, metric, alias, baseline)
    if problem is None and r.relative:
        problem = _ratio_problem(r, arms, metric, baseline)
    return problem, metric, baseline


def _metric(r: Requirement, metrics: Sequence[Metric]) -> Metric | None:
    return next((m for m in metrics if m.name == r.metric), None)


def _margin_problem(r: Requirement, metric: Metric) -> Finding | None:
    margin = r.margin or 0.0
    if metric.bounded and r.relative:
        return _unmeasurable(
            r,
            f"{r.metric}: a relative margin is for metrics without a range, and this one runs from "
            f"{metric.low:g} to {metric.high:g}.",
            "Leave out relative=True and give the margin in the metric's own unit.",
        )
    if not metric.bounded and not r.relative:
        return _unmeasurable(
            r,
            f"{r.metric}: a metric without a range is compared by shares, and the margin is not one.",
            "Say relative=True and give a share, such as margin=0.1 for 10 %.",
        )
    if (
        metric.bounded
        and metric.low is not None
        and metric.high is not None
        and margin >= metric.high - metric.low
    ):
        percent = f" Did you mean {margin / 100:g}?" if margin / 100 < metric.high - metric.low else ""
        return _unmeasurable(
            r,
            f"{r.metric}: a margin of {margin:g} is the metric's whole range, so every candidate would pass.",
            f"Give a smaller margin.{percent}",
        )
    if r.relative and metric.direction == "higher" and margin >= 1:
        return _unmeasurable(
            r,
            f"{r.metric}: a margin of {margin:.0%} would let the whole value be lost.",
            "Give a share below 1.",
        )
    return None


def _arm_problem(r: Requirement, arms: Arms, metric: Metric, who: str, scores: Scores) -> Finding | None:
    arm = arms.arm(scores, metric)
    planned = len(scores.planned)
    if arm.outside is not None:
        example, value = arm.outside
        return _unmeasurable(
            r,
            f"{r.metric}: {who} has the value {value:g} on example {example!r}, outside the metric's range "
            f"from {metric.low if metric.low is not None else '−∞'} to "
            f"{metric.high if metric.high is not None else '∞'}.",
            "Correct the evaluator or its declared range.",
        )
    allowed = arms.max_missing if metric.bounded else 0.0
    if arm.missing == planned or arm.missing > allowed * planned + 1e-9:
        return _unmeasurable(
            r,
            missing_sentence(r.metric, who, arm.missing, planned, arm.failures, allowed),
            "See the errors by kind, mend the cause and run again: finished rows are kept.",
            missing=arm.missing,
            planned=planned,
            invalid=arm.invalid,
        )
    return None


def _difference(metric: str, candidate: Scores, baseline: Scores) -> str | None:
    a, b = candidate.identity, baseline.identity
    if a.dataset != b.dataset:
        return "ran on different datasets"
    if metric not in b.evaluators and not any(m.name == metric for m in b.metrics):
        return "were scored by different evaluators (the baseline lacks this one)"
    if a.evaluators.get(metric) != b.evaluators.get(metric):
        return "were scored by different versions of the evaluator"
    mine, theirs = (next((m for m in x.metrics if m.name == metric), None) for x in (a, b))
    if mine != theirs:
        return "declare different ranges or directions for the metric"
    if a.trials != b.trials:
        return f"ran {a.trials} and {b.trials} trials an example"
    return None


def _ratio_problem(r: Requirement, arms: Arms, metric: Metric, baseline: Scores) -> Finding | None:
    c, b = arms.arm(arms.candidate, metric).values, arms.arm(baseline, metric).values
    bad = (c < 0) | (b < 0) | ((c == 0) != (b == 0))
    if not bad.any():
        return None
    i = int(bad.argmax())
    return _unmeasurable(
        r,
        f"{r.metric}: no ratio exists between {c[i]:g} and {r.baseline}'s {b[i]:g} on example "
        f"{arms.candidate.planned[i][0]!r}.",
        "Use at_most with a number, or a metric that is always above 0.",
    )


def _between(metric: Metric, value: float) -> bool:
    return metric.low is not None and metric.high is not None and metric.low <= value <= metric.high


def _unmeasurable(
    r: Requirement, sentence: str, advice: str, *, missing: int = 0, planned: int = 0, invalid: int = 0
) -> Finding:
    return Finding(
        requirement=r,
        outcome="unmeasurable",
        sentence=sentence,
        advice=advice,
        missing=missing,
        planned=planned,
        invalid=invalid,
    )
