"""Beside the verdict: what changed most, how slices fare, how much two versions disagree. No gating."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.results import Scores
from steelyard.core.score import Metric
from steelyard.gates.binary import mcnemar_worse
from steelyard.gates.measure import aligned, arm_of
from steelyard.gates.multiple import benjamini_hochberg

__all__ = ["Change", "Changes", "Slice", "changed_most", "discordance", "slices"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One example in two runs.

    Attributes:
        example_id: The example.
        candidate: Mean of the candidate's trials, in the metric's own unit.
        baseline: Mean of the baseline's trials.
        change: candidate − baseline.
    """

    example_id: str
    candidate: float
    baseline: float
    change: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """The examples that changed most.

    Attributes:
        worse: Largest losses first.
        better: Largest gains first.
        n_worse: How many examples lost anything.
        n_better: How many gained anything.
    """

    worse: tuple[Change, ...]
    better: tuple[Change, ...]
    n_worse: int
    n_better: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """One slice of the data; advisory.

    Attributes:
        value: What the examples share, such as `"ja"`.
        n: Examples with a complete measurement.
        missing: Examples without one.
        candidate: The candidate's mean; None where n is 0.
        baseline: The baseline's mean; None without a baseline, or where n is 0.
        change: candidate − baseline.
        p_worse: Exact p-value of "the candidate is not worse here" by the signs of the changes.
        p_worse_bh: After Benjamini–Hochberg over the slices.
    """

    value: str
    n: int
    missing: int
    candidate: float | None
    baseline: float | None = None
    change: float | None = None
    p_worse: float | None = None
    p_worse_bh: float | None = None


def changed_most(candidate: Scores, baseline: Scores, metric: str, k: int = 5) -> Changes:
    """The examples with the largest losses and gains, ties in the order of their ids.

    Args:
        candidate: The candidate's rows.
        baseline: The baseline's rows, of the same plan.
        metric: The metric's name.
        k: At most so many of each.

    Raises:
        NotFound: the candidate does not measure the metric.
        InvalidValue: the two runs planned different examples.
    """
    which, ids, c, b = _means(candidate, baseline, metric)
    sign = 1.0 if which.direction == "higher" else -1.0
    changes = [
        (sign * (x - y), Change(example_id=i, candidate=x, baseline=y, change=x - y))
        for i, x, y in zip(ids, c.tolist(), b.tolist(), strict=True)
        if abs(x - y) > 1e-12  # NaN, a missing one, is not
    ]
    changes.sort(key=lambda item: (item[0], item[1].example_id))
    worse = [change for loss, change in changes if loss < 0]
    better = sorted(
        (item for item in changes if item[0] > 0), key=lambda item: (-item[0], item[1].example_id)
    )
    return Changes(
        worse=tuple(worse[:k]),
        better=tuple(change for _, change in better[:k]),
        n_worse=len(worse),
        n_better=len(better),
    )


def slices(candidate: Scores, baseline: Scores | None, metric: str, key: str) -> tuple[Slice, ...]:
    """The means of each slice, in the order of their names; rows without the key are left out.

    Args:
        candidate: The candidate's rows.
        baseline: The baseline's rows of the same plan, or None.
        metric: The metric's name.
        key: The key of `Row.slices`, such as `"language"`.

    Raises:
        NotFound: the candidate does not measure the metric.
        InvalidValue: the two runs planned different examples.
    """
    import numpy as np

    which, ids, c, b = _means(candidate, baseline, metric)
    named = {r.example_id: r.slices[key] for r in candidate.rows if key in r.slices}
    sign = 1.0 if which.direction == "higher" else -1.0
    rows: dict[str, list[int]] = {}
    for i, example_id in enumerate(ids):
        if example_id in named:
            rows.setdefault(named[example_id], []).append(i)
    out: list[Slice] = []
    for value, indices in sorted(rows.items()):
        x, y = c[indices], b[indices]
        complete = np.isfinite(x) & np.isfinite(y)
        x, y = x[complete], y[complete]
        n = len(x)
        d = sign * (x - y)
        mean, other = (float(x.mean()), float(y.mean())) if n else (None, None)
        out.append(
            Slice(
                value=value,
                n=n,
                missing=len(indices) - n,
                candidate=mean,
                baseline=other if baseline else None,
                change=mean - other if baseline and mean is not None and other is not None else None,
                p_worse=_sign_p(d) if baseline and n else None,
            )
        )
    tested = [s for s in out if s.p_worse is not None]
    adjusted = iter(benjamini_hochberg([s.p_worse for s in tested if s.p_worse is not None]))
    return tuple(s if s.p_worse is None else replace(s, p_worse_bh=next(adjusted)) for s in out)


def discordance(candidate: Scores, baseline: Scores, metric: str) -> float:
    """How much two runs disagree, as `plan` takes it.

    The mean squared difference per example on the range mapped to [0, 1] (for right-or-wrong scores: the
    share of examples that differ); without a range, the standard deviation of the logarithm of the ratio.

    Raises:
        NotFound: the candidate does not measure the metric.
        InvalidValue: the two runs planned different examples, or share no measured one.
    """
    import numpy as np

    which, _, c, b = _means(candidate, baseline, metric)
    complete = np.isfinite(c) & np.isfinite(b)
    if not which.bounded:
        complete &= (c > 0) & (b > 0)
    if complete.sum() < 2:
        raise InvalidValue(f"{metric!r} has no two examples measured in both runs", do="Run both again.")
    if which.low is not None and which.high is not None:
        return float((((c - b)[complete] / (which.high - which.low)) ** 2).mean())
    return float(np.std(np.log(c[complete] / b[complete]), ddof=1))


def _means(candidate: Scores, baseline: Scores | None, metric: str) -> tuple[Metric, list[str], Any, Any]:
    """The metric, the examples, and each arm's mean of each (NaN where no trial has a score)."""
    import numpy as np

    known = {m.name: m for m in candidate.identity.metrics}
    if metric not in known:
        raise NotFound("metric", metric, existing=known)
    which = known[metric]
    arm = arm_of(candidate, which)
    if baseline is None:
        other = arm
    elif (same := aligned(candidate, baseline)) is not None:
        other = arm_of(same, which)
    else:
        raise InvalidValue("the two runs planned different examples", do="Compare runs of one dataset.")
    ids = list(dict.fromkeys(key[0] for key in candidate.planned))
    example: Any = arm.example
    if example is None:
        return which, ids, arm.values, other.values

    def mean(values: Any) -> Any:
        good = np.isfinite(values)
        counts = np.bincount(example, weights=good, minlength=len(ids))
        sums = np.bincount(example, weights=np.where(good, values, 0.0), minlength=len(ids))
        with np.errstate(invalid="ignore", divide="ignore"):
            return sums / counts

    return which, ids, mean(arm.values), mean(other.values)


def _sign_p(d: Any) -> float:
    return float(mcnemar_worse(int((d > 1e-12).sum()), int((d < -1e-12).sum())))
