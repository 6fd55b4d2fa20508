"""From rows to arrays: the one place where a gate touches the rows of a run."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter, itemgetter
from typing import Any

from steelyard.core.results import Row, Scores
from steelyard.core.score import Metric

__all__ = ["Arm", "Sample", "aligned", "arm_of", "paired", "single"]

_EXAMPLE, _TRIAL, _INVALID = attrgetter("example_id"), attrgetter("trial"), attrgetter("invalid_output")
_NAME, _LABEL, _VALUE = attrgetter("name"), attrgetter("label"), attrgetter("value")
_EXAMPLE_OF_KEY, _TRIAL_OF_KEY = itemgetter(0), itemgetter(1)


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One metric of one run, a value a planned row.

    Attributes:
        values: Raw values in the order of the plan, NaN where missing; a NumPy array.
        missing: How many are missing.
        invalid: How many score worst for `invalid_output`.
        failures: Kinds of failure behind the missing ones; `"no score"` where nobody says why.
        outside: A value outside the metric's range, with its example; None where all lie inside.
        example: Index of each row's example, as integers from 0; None where each row is its own example.
        clusters: Cluster of each row as text, None where it stands alone; None where all do.
    """

    values: Any
    missing: int
    invalid: int
    failures: Counter[str]
    outside: tuple[str, float] | None
    example: Any | None
    clusters: list[str | None] | None

    @cached_property
    def groups(self) -> Any | None:
        """The cluster of each example as integers from 0; None where each example stands alone."""
        return None if self.clusters is None else _coded(self.clusters, self.example)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What is tested: one number an example, trials averaged.

    Attributes:
        pessimistic: Per example, missing rows counted against the candidate; for "proven good enough".
        optimistic: Per example, complete pairs (or, for floors, missing rows counted for the candidate);
            for "proven not good enough".
        groups: Cluster of each entry of `pessimistic`; None where each stands alone.
        groups_optimistic: Likewise of `optimistic`.
        candidate: Mean of the candidate over complete examples, raw.
        baseline: Mean of the baseline likewise; None for floors.
        n: Examples with a complete measurement.
        single: Whether each example stands alone (its trials are averaged, so they do not matter).
    """

    pessimistic: Any
    optimistic: Any
    groups: Any | None
    groups_optimistic: Any | None
    candidate: float | None
    baseline: float | None
    n: int
    single: bool


def arm_of(scores: Scores, metric: Metric) -> Arm:
    """The values of one metric in one run, in the order of its plan."""
    import numpy as np

    planned, rows = scores.planned, _in_order(scores)
    failures: Counter[str] = Counter()
    invalid = 0
    raw: list[Any] | None = _clean_values(rows, scores, metric)
    if raw is None:
        raw, invalid, failures = _values(rows, scores, metric)
    clusters = [r.cluster if r is not None else None for r in rows]
    values = np.array(raw, dtype=float)
    bad = ~np.isfinite(values)
    missing = int(bad.sum())
    if missing > failures.total():
        failures["NaN"] += missing - failures.total()
        values[bad] = math.nan
    outside = None
    if metric.low is not None or metric.high is not None:
        low, high = metric.low, metric.high
        out = np.zeros(len(values), dtype=bool)
        with np.errstate(invalid="ignore"):
            out |= (values < low) if low is not None else False
            out |= (values > high) if high is not None else False
        if out.any():
            i = int(np.argmax(out))
            outside = (planned[i][0], float(values[i]))
    return Arm(
        values=values,
        missing=missing,
        invalid=invalid,
        failures=failures,
        outside=outside,
        example=_examples(scores),
        clusters=None if clusters.count(None) == len(clusters) else clusters,
    )


def _position(scores: Scores, metric: Metric) -> int:
    """Where a row is likely to hold the metric's score."""
    return next((i for i, m in enumerate(scores.identity.metrics) if m.name == metric.name), 0)


def _clean_values(rows: list[Row | None], scores: Scores, metric: Metric) -> list[Any] | None:
    """The raw values where every row has one and none is invalid, else None: the quick way for large runs."""
    whole = [row for row in rows if row is not None]
    if len(whole) < len(rows) or set(map(_INVALID, whole)) != {None}:
        return None
    position = _position(scores, metric)
    try:
        found = [row.scores[position] for row in whole]
    except IndexError:
        return None
    if set(map(_NAME, found)) != {metric.name} or "invalid_output" in set(map(_LABEL, found)):
        return None
    values = list(map(_VALUE, found))
    return None if None in values else values


def _values(rows: list[Row | None], scores: Scores, metric: Metric) -> tuple[list[Any], int, Counter[str]]:
    """The raw values, NaN where missing; how many are invalid; why the missing ones are missing."""
    name, position = metric.name, _position(scores, metric)
    worst = (metric.low if metric.direction == "higher" else metric.high) if metric.bounded else None
    failures: Counter[str] = Counter()
    invalid = 0
    raw: list[Any] = []
    for row in rows:
        if row is None:
            failures["no row"] += 1
            raw.append(math.nan)
            continue
        if row.invalid_output is not None and worst is not None:
            invalid += 1
            raw.append(worst)
            continue
        found = row.scores
        score = found[position] if position < len(found) else None
        if score is None or score.name != name:
            score = row.score(name)
        if score is not None and score.value is not None:
            raw.append(score.value)
            if score.label == "invalid_output":
                invalid += 1
            continue
        why = row.failure or (score.error if score else None)
        failures[why.kind if why else "no score"] += 1
        raw.append(math.nan)
    return raw, invalid, failures


def _in_order(scores: Scores) -> list[Row | None]:
    """The rows in the order of the plan, None where one is missing."""
    planned, rows = scores.planned, scores.rows
    ids = list(map(_EXAMPLE, rows))
    once = not any(map(_TRIAL_OF_KEY, planned))
    if ids == list(map(_EXAMPLE_OF_KEY, planned)) and (
        once or list(map(_TRIAL, rows)) == list(map(_TRIAL_OF_KEY, planned))
    ):
        return list(rows)
    if once:  # keys without tuples: a million of those wake the garbage collector often
        by_id = dict(zip(ids, rows, strict=True))
        return list(map(by_id.get, map(_EXAMPLE_OF_KEY, planned)))
    by_key = {(r.example_id, r.trial): r for r in rows}
    return [by_key.get(key) for key in planned]


def _examples(scores: Scores) -> Any | None:
    """The example of each planned row as integers from 0; None where each row is its own example."""
    import numpy as np

    if not any(map(_TRIAL_OF_KEY, scores.planned)):
        return None
    ids = [key[0] for key in scores.planned]
    index = {example: i for i, example in enumerate(dict.fromkeys(ids))}
    return None if len(index) == len(ids) else np.array([index[i] for i in ids])


def aligned(candidate: Scores, baseline: Scores) -> Scores | None:
    """The baseline with its plan in the candidate's order; None where the plans differ."""
    if candidate.planned == baseline.planned:
        return baseline
    if len(candidate.planned) != len(baseline.planned) or set(candidate.planned) != set(baseline.planned):
        return None
    return Scores(identity=baseline.identity, planned=candidate.planned, rows=baseline.rows)


def paired(candidate: Arm, baseline: Arm, metric: Metric, *, log: bool = False) -> Sample:
    """Candidate − baseline per example, higher better.

    Args:
        candidate: The candidate's values.
        baseline: The baseline's values, in the same order.
        metric: Gives direction and range.
        log: Differences of logarithms in place of differences on the range mapped to [0, 1].
    """
    import numpy as np

    sign = 1.0 if metric.direction == "higher" else -1.0
    c, b = candidate.values, baseline.values
    complete = np.isfinite(c) & np.isfinite(b)
    if log:
        per_c, per_b = _by_example(c, candidate.example), _by_example(b, candidate.example)
        with np.errstate(divide="ignore", invalid="ignore"):
            d = np.where(per_c == per_b, 0.0, sign * (np.log(per_c) - np.log(per_b)))
        groups, alone = _groups(candidate, baseline)
        return Sample(
            pessimistic=d,
            optimistic=d,
            groups=groups,
            groups_optimistic=groups,
            candidate=float(per_c.mean()),
            baseline=float(per_b.mean()),
            n=len(d),
            single=alone,
        )
    assert metric.low is not None
    assert metric.high is not None
    scale = metric.high - metric.low
    u, v = _unit(c, metric), _unit(b, metric)
    worst = np.where(np.isfinite(u), u, 0.0) - np.where(np.isfinite(v), v, 1.0)
    groups, alone = _groups(candidate, baseline)
    example = candidate.example
    if complete.all():
        d = worst if example is None else _by_example(worst, example)
        pessimistic, groups_optimistic = d, groups
    else:
        pessimistic = worst if example is None else _by_example(worst, example)
        d, kept = _complete(u - v, complete, example)
        groups_optimistic = groups[kept] if groups is not None else None
    uc, _ = _complete(u, complete, example)
    low, direction = (metric.low, 1.0) if sign > 0 else (metric.high, -1.0)
    mean_c = low + direction * scale * float(uc.mean()) if len(d) else None
    mean_d = float(d.mean()) if len(d) else 0.0
    return Sample(
        pessimistic=pessimistic,
        optimistic=d,
        groups=groups,
        groups_optimistic=groups_optimistic,
        candidate=mean_c,
        baseline=None if mean_c is None else mean_c - direction * scale * mean_d,
        n=len(d),
        single=alone,
    )


def single(arm: Arm, metric: Metric, *, upward: bool, log: bool = False) -> Sample:
    """The values of one run per example: on [0, 1] where the metric has a range, else raw or logarithms.

    Args:
        arm: The values.
        metric: Gives the range; its direction does not count here.
        upward: Whether large values are the good ones (a floor, not a ceiling).
        log: Logarithms of the values (metrics without a range).
    """
    import numpy as np

    values, example = arm.values, arm.example
    groups, alone = _groups(arm, None)
    complete = np.isfinite(values)
    raw, kept = _complete(values, complete, example)
    if metric.bounded:
        assert metric.low is not None
        assert metric.high is not None
        u = (values - metric.low) / (metric.high - metric.low)
        u = u if upward else 1.0 - u
        pessimistic = _by_example(np.where(complete, u, 0.0), example)
        optimistic = _by_example(np.where(complete, u, 1.0), example)
    else:
        sign = 1.0 if upward else -1.0
        per = _by_example(values, example)
        pessimistic = optimistic = sign * (np.log(per) if log else per)
    return Sample(
        pessimistic=pessimistic,
        optimistic=optimistic,
        groups=groups,
        groups_optimistic=groups,
        candidate=float(raw.mean()) if len(raw) else None,
        baseline=None,
        n=len(kept),
        single=alone,
    )


def _unit(values: Any, metric: Metric) -> Any:
    assert metric.low is not None
    assert metric.high is not None
    u = (values - metric.low) / (metric.high - metric.low)
    return u if metric.direction == "higher" else 1.0 - u


def _by_example(values: Any, example: Any | None) -> Any:
    """The mean of each example's rows."""
    import numpy as np

    if example is None:
        return values
    return np.bincount(example, weights=values) / np.bincount(example)


def _complete(values: Any, complete: Any, example: Any | None) -> tuple[Any, Any]:
    """The mean of each example over its complete rows, and the indices of the examples that have any."""
    import numpy as np

    if example is None:
        kept = np.flatnonzero(complete)
        return values[kept], kept
    size = int(example.max()) + 1
    counts = np.bincount(example[complete], minlength=size)
    sums = np.bincount(example[complete], weights=values[complete], minlength=size)
    kept = np.flatnonzero(counts)
    return sums[kept] / counts[kept], kept


def _groups(arm: Arm, other: Arm | None) -> tuple[Any | None, bool]:
    """The cluster of each example as integers (None where each stands alone), and whether each stands alone.

    A row that is missing in one arm takes its cluster from the other.
    """
    names, others = arm.clusters, None if other is None else other.clusters
    if names is not None and others is not None and names != others:
        merged = [b if a is None else a for a, b in zip(names, others, strict=True)]
        groups = _coded(merged, arm.example)
    elif names is None and other is not None:
        groups = other.groups
    else:
        groups = arm.groups
    return groups, groups is None


def _coded(names: list[str | None], example: Any | None) -> Any | None:
    """The cluster of each example as integers in the order they appear; None where each stands alone."""
    import numpy as np

    if example is not None:
        size = int(example.max()) + 1
        per: list[str | None] = [None] * size
        for i, name in zip(example.tolist(), names, strict=True):
            per[i] = name if per[i] is None else per[i]
        names = per
    keys: list[Any] = (
        [i if name is None else name for i, name in enumerate(names)] if None in names else names
    )
    code = {key: i for i, key in enumerate(dict.fromkeys(keys))}
    if len(code) == len(keys):
        return None
    return np.fromiter(map(code.__getitem__, keys), dtype=np.intp, count=len(keys))
