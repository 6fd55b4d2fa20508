"""Tests for graded, repeated or clustered scores: a cluster-robust t with the variance imposed at the null.

For clusters g with sums s_g of k_g values (N values in all, G clusters), the mean is tested against d0 by
t = (Σs/N − d0) / (sqrt(Σ(s_g − d0·k_g)² · G/(G−1)) / N). Centring at d0, not at the mean, keeps a sample that
happens to vary little from looking certain. Pseudo-clusters keep one that does not vary
at all from doing so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

__all__ = ["ClusterSums", "cluster_se", "cluster_sums", "null_t", "t_interval", "t_p"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSums:
    """What the test needs to know of a sample: moments over clusters.

    Attributes:
        clusters: G.
        n: N, the number of values (pseudo-values may have any weight).
        s: Σ s_g.
        ss: Σ s_g².
        sk: Σ s_g k_g.
        kk: Σ k_g².
    """

    clusters: int
    n: float
    s: float
    ss: float
    sk: float
    kk: float

    @property
    def mean(self) -> float:
        """The mean over all values."""
        return self.s / self.n

    @property
    def typical(self) -> float:
        """The size of the cluster that a random example sits in: Σk² / N."""
        return self.kk / self.n

    @property
    def effective(self) -> float:
        """Clusters of equal size that would weigh as much: N² / Σk²."""
        return self.n**2 / self.kk

    def plus(self, *values: float, size: float = 1.0) -> ClusterSums:
        """The sample with pseudo-clusters added, one a value, each of `size` examples that all have it."""
        total = sum(values)
        return ClusterSums(
            clusters=self.clusters + len(values),
            n=self.n + size * len(values),
            s=self.s + size * total,
            ss=self.ss + size**2 * sum(v * v for v in values),
            sk=self.sk + size**2 * total,
            kk=self.kk + size**2 * len(values),
        )

    def negated(self) -> ClusterSums:
        """The sample with every value's sign changed."""
        return replace(self, s=-self.s, ss=self.ss, sk=-self.sk)


def cluster_sums(values: Any, clusters: Any | None) -> ClusterSums:
    """The moments of a sample.

    Args:
        values: One number an example, as a NumPy array.
        clusters: The cluster of each, as integers from 0; None when each stands alone.
    """
    import numpy as np

    if clusters is None:
        sums, sizes = values, np.ones(len(values))
    else:
        sizes = np.bincount(clusters).astype(float)
        sums = np.bincount(clusters, weights=values)
        sums, sizes = sums[sizes > 0], sizes[sizes > 0]
    return ClusterSums(
        clusters=len(sums),
        n=len(values),
        s=float(sums.sum()),
        ss=float(np.dot(sums, sums)),
        sk=float(np.dot(sums, sizes)),
        kk=float(np.dot(sizes, sizes)),
    )


def null_t(sums: ClusterSums, null: float) -> float:
    """The t statistic of a mean of `null`, the variance imposed there."""
    spread = sums.ss - 2 * null * sums.sk + null**2 * sums.kk
    distance = sums.s - null * sums.n
    scale = math.sqrt(max(spread, 0.0) * sums.clusters / (sums.clusters - 1))
    if scale > 1e-12 * max(1.0, abs(distance)):
        return distance / scale
    return 0.0 if abs(distance) < 1e-12 else math.copysign(math.inf, distance)


def t_p(sums: ClusterSums, null: float) -> float:
    """One-sided p-value of "the mean is at most `null`", small when it is larger; G − 1 d.f."""
    from scipy.special import stdtr

    if sums.clusters < 2:
        return 1.0
    return float(stdtr(sums.clusters - 1, -null_t(sums, null)))


def t_interval(sums: ClusterSums, *, level: float) -> tuple[float, float]:
    """All means that the two tests do not reject, as an interval; (−inf, inf) where they reject none.

    Args:
        sums: The sample.
        level: Two-sided confidence, such as 0.9.
    """
    from scipy.special import stdtrit

    if sums.clusters < 2:
        return -math.inf, math.inf
    k = float(stdtrit(sums.clusters - 1, 0.5 + level / 2)) ** 2 * sums.clusters / (sums.clusters - 1)
    # (S − N d)² ≤ k (Σs² − 2 d Σsk + d² Σk²), a quadratic in d.
    a = sums.n**2 - k * sums.kk
    b = sums.s * sums.n - k * sums.sk
    c = sums.s**2 - k * sums.ss
    if a <= 0:
        return -math.inf, math.inf
    root = math.sqrt(max(b * b - a * c, 0.0))
    return (b - root) / a, (b + root) / a


def cluster_se(values: Any, clusters: Any) -> float:
    """The ordinary cluster-robust standard error of a mean (no null imposed), with the factor G / (G − 1)."""
    import numpy as np

    sums = cluster_sums(np.asarray(values, dtype=float) - np.mean(values), np.asarray(clusters))
    return math.sqrt(sums.ss * sums.clusters / (sums.clusters - 1)) / sums.n
