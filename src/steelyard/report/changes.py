"""What happened to the rows: better, worse, in error, invalid, dear, slow. Plain counting, no judgement."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from steelyard.core.results import Row, Scores, Usage
from steelyard.core.score import Metric
from steelyard.report.model import GateReport
from steelyard.report.text import readable

__all__ = [
    "ArmCost",
    "Change",
    "Comparison",
    "SliceMean",
    "Trouble",
    "answer",
    "arm_cost",
    "compare",
    "lowest",
    "metrics_shown",
    "slice_means",
    "troubles",
]

_EPSILON = 1e-9


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One example under both arms.

    Attributes:
        example_id: The example.
        values: Metric, its mean in the baseline and in the candidate; None where unmeasured.
        delta: Mean change over the metrics, above 0 is better, in shares of each metric's range.
        before: The baseline's rows, one a trial; empty where there is no baseline.
        after: The candidate's rows.
    """

    example_id: str
    values: tuple[tuple[str, float | None, float | None], ...]
    delta: float
    before: tuple[Row, ...]
    after: tuple[Row, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Candidate against one baseline, example by example.

    Attributes:
        alias: The baseline.
        metrics: The metrics compared.
        worse: Examples that lost, the largest loss first.
        better: Examples that gained, the largest gain first.
        reworded: Examples with equal scores and other outputs.
        same: Examples with equal scores and equal outputs.
        unpaired: Examples without a score in one of the arms.
    """

    alias: str
    metrics: tuple[str, ...]
    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    reworded: tuple[Change, ...]
    same: int
    unpaired: int

    @property
    def compared(self) -> int:
        """Examples scored in both arms."""
        return len(self.worse) + len(self.better) + len(self.reworded) + self.same


@dataclass(frozen=True, slots=True, kw_only=True)
class Trouble:
    """Rows of one arm that share a kind of trouble.

    Attributes:
        arm: `candidate` or the alias.
        kind: A failure's kind, `invalid output`, or `not run` for planned rows that never came.
        count: How many rows.
        messages: The commonest messages, with how many rows each.
    """

    arm: str
    kind: str
    count: int
    messages: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ArmCost:
    """What one arm consumed.

    Attributes:
        arm: `candidate` or the alias.
        rows: Rows that completed.
        usage: Their sum.
        p50: Median seconds waiting for the model, of rows that called it; None without any.
        p95: The 95th percentile.
    """

    arm: str
    rows: int
    usage: Usage
    p50: float | None
    p95: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class SliceMean:
    """Mean of a metric over a slice.

    Attributes:
        slice: Such as `language=ja`.
        metric: The metric.
        n: Examples of the candidate.
        candidate: The candidate's mean.
        baseline: The baseline's mean over the same slice, where there is one.
    """

    slice: str
    metric: str
    n: int
    candidate: float
    baseline: float | None


def answer(row: Row) -> str:
    """What a row answered, in words where it did not."""
    if row.failure is not None:
        return f"error ({row.failure.kind}): {row.failure.message}"
    if row.invalid_output is not None:
        return f"invalid output ({row.invalid_output}): {readable(row.outputs)}"
    return readable(row.outputs)


def metrics_shown(gate: GateReport) -> tuple[Metric, ...]:
    """The metrics that changes are told by: those required that have a range, else all that have one."""
    if gate.candidate is None:
        return ()
    known = gate.candidate.identity.metrics
    required = {r.metric for r in gate.verdict.policy.requirements}
    bounded = tuple(m for m in known if m.bounded)
    return tuple(m for m in bounded if m.name in required) or bounded or known


def _value(row: Row, metric: Metric) -> float | None:
    score = row.score(metric.name)
    if score is not None:
        return score.value
    if row.invalid_output is not None:
        return metric.low if metric.direction == "higher" else metric.high
    return None


def _mean(rows: Iterable[Row], metric: Metric) -> float | None:
    found = [v for r in rows if (v := _value(r, metric)) is not None]
    return math.fsum(found) / len(found) if found else None


def _by_example(scores: Scores | None) -> dict[str, tuple[Row, ...]]:
    out: defaultdict[str, list[Row]] = defaultdict(list)
    for row in sorted(scores.rows if scores else (), key=lambda r: r.key):
        out[row.example_id].append(row)
    return {k: tuple(v) for k, v in out.items()}


def _gain(metric: Metric, before: float, after: float) -> float:
    return (after - before) / metric.span * (1 if metric.direction == "higher" else -1)


def compare(gate: GateReport, alias: str) -> Comparison | None:
    """The candidate against a baseline; None where one of them has no rows."""
    baseline = gate.baselines.get(alias)
    if gate.candidate is None or baseline is None:
        return None
    metrics = metrics_shown(gate)
    old, new = _by_example(baseline), _by_example(gate.candidate)
    worse: list[Change] = []
    better: list[Change] = []
    reworded: list[Change] = []
    same = unpaired = 0
    for example_id in sorted(old.keys() | new.keys()):
        before, after = old.get(example_id, ()), new.get(example_id, ())
        values = tuple((m, _mean(before, m), _mean(after, m)) for m in metrics)
        gains = [_gain(m, x, y) for m, x, y in values if x is not None and y is not None]
        if not gains:
            unpaired += 1
            continue
        change = Change(
            example_id=example_id,
            values=tuple((m.name, x, y) for m, x, y in values),
            delta=math.fsum(gains) / len(gains),
            before=before,
            after=after,
        )
        if change.delta < -_EPSILON:
            worse.append(change)
        elif change.delta > _EPSILON:
            better.append(change)
        elif [(r.outputs, r.invalid_output) for r in before] != [
            (r.outputs, r.invalid_output) for r in after
        ]:
            reworded.append(change)
        else:
            same += 1
    return Comparison(
        alias=alias,
        metrics=tuple(m.name for m in metrics),
        worse=tuple(sorted(worse, key=lambda c: (c.delta, c.example_id))),
        better=tuple(sorted(better, key=lambda c: (-c.delta, c.example_id))),
        reworded=tuple(reworded),
        same=same,
        unpaired=unpaired,
    )


def lowest(gate: GateReport) -> tuple[Change, ...]:
    """The candidate's examples below full marks, the lowest first; for gates without a baseline."""
    metrics = metrics_shown(gate)
    out: list[Change] = []
    for example_id, rows in _by_example(gate.candidate).items():
        values = [(m, _mean(rows, m)) for m in metrics]
        best = {m.name: (m.high if m.direction == "higher" else m.low) for m, _ in values}
        lost = [_gain(m, b, v) for m, v in values if v is not None and (b := best[m.name]) is not None]
        if lost and (delta := math.fsum(lost) / len(lost)) < -_EPSILON:
            shown = tuple((m.name, None, v) for m, v in values)
            out.append(Change(example_id=example_id, values=shown, delta=delta, before=(), after=rows))
    return tuple(sorted(out, key=lambda c: (c.delta, c.example_id)))


def _arms(gate: GateReport) -> list[tuple[str, Scores]]:
    arms = [("candidate", gate.candidate), *gate.baselines.items()]
    return [(name, scores) for name, scores in arms if scores is not None]


def troubles(gate: GateReport) -> tuple[Trouble, ...]:
    """Errors, invalid outputs and rows that never came, by arm and kind, commonest first."""
    out: list[Trouble] = []
    for arm, scores in _arms(gate):
        kinds: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for row in scores.rows:
            if row.failure is not None:
                kinds[f"error: {row.failure.kind}"][row.failure.message] += 1
            elif row.invalid_output is not None:
                kinds["invalid output"][row.invalid_output] += 1
            for score in row.scores:
                if score.error is not None:
                    kinds[f"error: {score.error.kind} ({score.name})"][score.error.message] += 1
        if absent := len(scores.planned) - len(scores.rows):
            kinds["not run"]["planned and not in the evidence"] += absent
        found = [
            Trouble(arm=arm, kind=k, count=c.total(), messages=tuple(c.most_common(3)))
            for k, c in kinds.items()
        ]
        out += sorted(found, key=lambda t: (-t.count, t.kind))
    return tuple(out)


def arm_cost(gate: GateReport) -> tuple[ArmCost, ...]:
    """Tokens, cost and latency of each arm."""
    out: list[ArmCost] = []
    for arm, scores in _arms(gate):
        done = [r for r in scores.rows if r.failure is None]
        waits = sorted(r.usage.latency_s for r in done if r.usage.calls)
        usage = sum((r.usage for r in scores.rows), Usage())
        out.append(
            ArmCost(arm=arm, rows=len(done), usage=usage, p50=_rank(waits, 0.5), p95=_rank(waits, 0.95))
        )
    return tuple(out)


def _rank(ordered: Sequence[float], share: float) -> float | None:
    # Nearest rank: a value that was measured, not one between two.
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1] if ordered else None


def slice_means(gate: GateReport) -> tuple[SliceMean, ...]:
    """Means by slice: the slices of the gated rows, then the rows that are reported only."""
    if gate.candidate is None:
        return ()
    metrics = metrics_shown(gate)
    baseline = next((s for s in gate.baselines.values() if s is not None), None)
    new, old = _slices(gate.candidate), _slices(baseline)
    # A slice that holds every row says nothing of its own.
    whole = {frozenset(r.key for r in gate.candidate.rows)}
    out: list[SliceMean] = []
    for name in sorted(new):
        if frozenset(r.key for r in new[name]) not in whole:
            out += _means(name, new[name], old.get(name, ()), metrics)
    # Rows of a baseline that are reported only come under the same name with its alias behind it.
    behind = tuple(f" ({alias})" for alias in gate.baselines)
    for name, scores in gate.advisory.items():
        if not any(name.endswith(b) and name.removesuffix(b) in gate.advisory for b in behind):
            other = next((o for b in behind if (o := gate.advisory.get(name + b)) is not None), None)
            rows, others = (s.rows if s else () for s in (scores, other))
            out += _means(name, rows, others, metrics)
    return tuple(out)


def _slices(scores: Scores | None) -> Mapping[str, Sequence[Row]]:
    out: defaultdict[str, list[Row]] = defaultdict(list)
    for row in scores.rows if scores else ():
        for key, value in row.slices.items():
            out[f"{key}={value}"].append(row)
    return out


def _means(
    name: str, rows: Sequence[Row], others: Sequence[Row], metrics: tuple[Metric, ...]
) -> list[SliceMean]:
    out: list[SliceMean] = []
    for metric in metrics:
        mean = _mean(rows, metric)
        if mean is not None:
            n = len({r.example_id for r in rows if _value(r, metric) is not None})
            other = _mean(others, metric)
            out.append(SliceMean(slice=name, metric=metric.name, n=n, candidate=mean, baseline=other))
    return out
