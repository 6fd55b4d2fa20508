"""One requirement against one sample: p-values and an interval, before Holm and before any words."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from steelyard.gates.binary import (
    binomial_or_fewer,
    binomial_or_more,
    clopper_pearson,
    mcnemar_worse,
    tango_interval,
    tango_p,
)
from steelyard.gates.clustered import ClusterSums, cluster_sums, t_interval, t_p
from steelyard.gates.measure import Sample

__all__ = ["MIN_CLUSTERS", "MIN_LOGS", "Judged", "judge_bound", "judge_loss", "judge_ratio"]

MIN_CLUSTERS = 20
"""Fewer independent clusters than this decide nothing: the cluster-robust t is not calibrated there."""

MIN_LOGS = 30
"""Fewer independent values than this decide nothing about a metric without a range."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """The numbers behind a finding.

    Attributes:
        estimate: What is judged, on the scale of the test (higher better).
        low: Lower end of the interval, on that scale.
        high: Upper end.
        limit: What it is held against, on that scale.
        p_not_worse: p-value of question 1; None where the sample decides nothing.
        p_worse: p-value of question 2; likewise.
        method: The test's name.
        clusters: Independent clusters.
        variance: Variance per example, dependence within clusters included; for advice.
        undecidable: Why the sample decides nothing, a clause; None where it may.
        needed: Examples needed before it may decide; None where that is unknown.
    """

    estimate: float
    low: float
    high: float
    limit: float
    p_not_worse: float | None
    p_worse: float | None
    method: str
    clusters: int
    variance: float
    undecidable: str | None = None
    needed: int | None = None


def judge_loss(sample: Sample, margin: float, alpha: float) -> Judged:
    """A paired difference on [−1, 1] against a tolerated loss.

    Args:
        sample: Differences, higher better.
        margin: The tolerated loss on that scale, in (0, 1).
        alpha: One-sided error rate.
    """
    import numpy as np

    d, e = sample.pessimistic, sample.optimistic
    estimate = float(e.mean())
    if sample.single and _only(d, (-1.0, 0.0, 1.0)) and _only(e, (-1.0, 0.0, 1.0)):
        wins, losses = int(np.count_nonzero(d > 0)), int(np.count_nonzero(d < 0))
        w, l = int(np.count_nonzero(e > 0)), int(np.count_nonzero(e < 0))  # noqa: E741
        low = tango_interval(wins, losses, len(d), level=1 - 2 * alpha)[0]
        high = tango_interval(w, l, len(e), level=1 - 2 * alpha)[1]
        q = (w + l + 1) / (len(e) + 2)
        return Judged(
            estimate=estimate,
            low=low,
            high=high,
            limit=-margin,
            p_not_worse=float(tango_p(wins, losses, len(d), -margin)),
            p_worse=float(mcnemar_worse(w, l)),
            method="tango",
            clusters=len(e),
            variance=max(q - estimate**2, 1 / (len(e) + 2)),
        )
    pess, opt = cluster_sums(d, sample.groups), cluster_sums(e, sample.groups_optimistic)
    # For "not worse" a wholly lost and a wholly won cluster of typical size are added: single examples are
    # too little where losses come in lumps (decision 0100). For "worse" single ones do.
    for_pass, for_fail = pess.plus(1.0, -1.0, size=pess.typical), opt.plus(1.0, -1.0)
    why, needed = _too_few(opt, MIN_CLUSTERS)
    return Judged(
        estimate=estimate,
        low=max(-1.0, min(estimate, t_interval(for_pass, level=1 - 2 * alpha)[0])),
        high=min(1.0, max(estimate, t_interval(for_fail, level=1 - 2 * alpha)[1])),
        limit=-margin,
        p_not_worse=None if why else t_p(for_pass, -margin),
        p_worse=None if why else t_p(for_fail.negated(), 0.0),
        method="cluster-t",
        clusters=opt.clusters,
        variance=_variance(for_pass),
        undecidable=why,
        needed=needed,
    )


def judge_bound(sample: Sample, bound: float, alpha: float, *, ranged: bool) -> Judged:
    """A mean against a floor, on a scale where higher is better.

    Args:
        sample: Values on [0, 1], or any numbers where there is no range.
        bound: The floor on that scale.
        alpha: One-sided error rate.
        ranged: Whether the values lie on [0, 1].
    """
    import numpy as np

    d, e = sample.pessimistic, sample.optimistic
    if ranged and sample.single and _only(d, (0.0, 1.0)) and _only(e, (0.0, 1.0)):
        n, least, most = len(d), int(np.count_nonzero(d)), int(np.count_nonzero(e))
        p_pass, p_fail = _binomial_ps(least, most, n, bound)
        rate = (least + 1) / (n + 2)
        return Judged(
            estimate=(least + most) / (2 * n) if least != most else least / n,
            low=clopper_pearson(least, n, level=1 - 2 * alpha)[0],
            high=clopper_pearson(most, n, level=1 - 2 * alpha)[1],
            limit=bound,
            p_not_worse=p_pass,
            p_worse=p_fail,
            method="clopper-pearson",
            clusters=n,
            variance=rate * (1 - rate),
        )
    pess, opt = cluster_sums(d, sample.groups), cluster_sums(e, sample.groups)
    # A pseudo-cluster of typical size at the end that speaks against the claim, for each question.
    for_pass = pess.plus(0.0, size=pess.typical) if ranged else pess
    for_fail = opt.plus(1.0, size=opt.typical) if ranged else opt
    low = min(pess.mean, t_interval(for_pass, level=1 - 2 * alpha)[0])
    high = max(opt.mean, t_interval(for_fail, level=1 - 2 * alpha)[1])
    why, needed = _too_few(pess, MIN_CLUSTERS if ranged else MIN_LOGS)
    return Judged(
        estimate=(pess.mean + opt.mean) / 2,
        low=max(0.0, low) if ranged else low,
        high=min(1.0, high) if ranged else high,
        limit=bound,
        p_not_worse=None if why else t_p(for_pass, bound),
        p_worse=None if why else t_p(for_fail.negated(), -bound),
        method="cluster-t",
        clusters=pess.clusters,
        variance=_variance(for_pass),
        undecidable=why,
        needed=needed,
    )


def judge_ratio(sample: Sample, log_margin: float, alpha: float) -> Judged:
    """A paired difference of logarithms against a tolerated loss.

    Args:
        sample: Differences of logarithms, higher better.
        log_margin: The tolerated loss on that scale, above 0.
        alpha: One-sided error rate.
    """
    sums = cluster_sums(sample.pessimistic, sample.groups)
    low, high = t_interval(sums, level=1 - 2 * alpha)
    why, needed = _too_few(sums, MIN_LOGS)
    return Judged(
        estimate=sums.mean,
        low=low,
        high=high,
        limit=-log_margin,
        p_not_worse=None if why else t_p(sums, -log_margin),
        p_worse=None if why else t_p(sums.negated(), 0.0),
        method="paired-log-t",
        clusters=sums.clusters,
        variance=_variance(sums),
        undecidable=why,
        needed=needed,
    )


def _only(values: Any, allowed: tuple[float, ...]) -> bool:
    import numpy as np

    out = values == allowed[0]
    for one in allowed[1:]:
        out |= values == one
    return bool(np.all(out))


def _binomial_ps(least: int, most: int, n: int, floor: float) -> tuple[float, float]:
    """p-values of "the rate is below the floor" and "is at least the floor", as Clopper–Pearson has them."""
    if floor <= 0:
        return 0.0, 1.0
    return float(binomial_or_more(least, n, floor)), float(binomial_or_fewer(most, n, floor))


def _variance(sums: ClusterSums) -> float:
    """Variance per example that includes the dependence within clusters."""
    spread = sums.ss - 2 * sums.mean * sums.sk + sums.mean**2 * sums.kk
    return max(spread, 1e-12) * sums.clusters / max(sums.clusters - 1, 1) / sums.n


def _too_few(sums: ClusterSums, least: int) -> tuple[str | None, int | None]:
    if sums.effective >= least - 1e-9:
        return None, None
    needed = math.ceil(sums.n * least / sums.effective)
    unit = "clusters" if sums.n > sums.clusters else "examples"
    if sums.clusters < least:
        return f"{sums.clusters} independent {unit} are too few to judge from, and {least} are needed", needed
    return (
        f"the {sums.clusters} clusters are so unequal that they count as {int(sums.effective)},"
        f" and {least} are needed"
    ), needed
