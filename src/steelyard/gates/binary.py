"""Tests and intervals for right-or-wrong scores: Tango, McNemar, Clopper–Pearson, Wilson.

A pair of answers to one example is a *win* (candidate right, baseline wrong), a *loss* (the other way
round) or concordant. The difference of the two rates is (wins − losses) / n.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

__all__ = [
    "binomial_or_fewer",
    "binomial_or_more",
    "clopper_pearson",
    "mcnemar_asymptotic",
    "mcnemar_exact",
    "mcnemar_mid_p",
    "mcnemar_worse",
    "tango_interval",
    "tango_p",
    "tango_z",
    "wilson",
]


def tango_z(wins: Any, losses: Any, n: int, delta: float) -> Any:
    """Tango's score statistic for a difference of `delta` between two paired rates.

    z = (w − l − nδ) / sqrt(n (2 q + δ(1 − δ))), where q is the maximum likelihood estimate of the rate of
    losses under δ (Tango 1998, Statistics in Medicine 17:891).

    Args:
        wins: Examples that only the candidate has right; a number or a NumPy array.
        losses: Examples that only the baseline has right; likewise.
        n: All examples, concordant ones too.
        delta: The difference that is tested, in (−1, 1).
    """
    import numpy as np

    a = 2.0 * n
    b = (2.0 * n - wins + losses) * delta - wins - losses
    c = -losses * delta * (1.0 - delta)
    q = (np.sqrt(np.maximum(b * b - 4.0 * a * c, 0.0)) - b) / (2.0 * a)
    variance = n * (2.0 * q + delta * (1.0 - delta))
    distance = wins - losses - n * delta
    with np.errstate(divide="ignore", invalid="ignore"):
        z = distance / np.sqrt(np.maximum(variance, 0.0))
    return np.where(distance == 0, 0.0, z)


def tango_p(wins: Any, losses: Any, n: int, delta: float) -> Any:
    """One-sided p-value of "the difference is at most `delta`", small when it is larger."""
    from scipy.special import ndtr

    return ndtr(-tango_z(wins, losses, n, delta))


def tango_interval(wins: int, losses: int, n: int, *, level: float) -> tuple[float, float]:
    """Tango's two-sided score interval for the difference of two paired rates.

    Args:
        wins: Examples that only the candidate has right.
        losses: Examples that only the baseline has right.
        n: All examples.
        level: Two-sided confidence, such as 0.9.
    """
    from scipy.special import ndtri

    z = float(ndtri(0.5 + level / 2.0))
    estimate = (wins - losses) / n

    def end(side: int) -> float:
        # At ±1 the restricted variance is 0; stop just before it. z falls monotonically in delta.
        limit = side * (1.0 - 1e-12)
        if side * (limit - estimate) <= 0:
            return float(side)

        def gap(delta: float) -> float:
            return float(tango_z(wins, losses, n, delta)) + side * z

        if gap(estimate) * gap(limit) > 0:
            return float(side)
        return _root(gap, estimate, limit)

    return end(-1), end(1)


def _root(f: Callable[[float], float], a: float, b: float) -> float:
    """Where a monotone `f` of opposite signs at `a` and `b` crosses 0, by sixty halvings.

    `scipy.optimize` has faster ways, but takes longer to import than a hundred halvings take to run.
    """
    positive = f(a) > 0
    for _ in range(60):
        middle = (a + b) / 2
        a, b = (middle, b) if (f(middle) > 0) == positive else (a, middle)
    return (a + b) / 2


def binomial_or_more(k: Any, n: Any, rate: float) -> Any:
    """P(X ≥ k) for X binomial(n, rate); numbers or NumPy arrays."""
    import numpy as np
    from scipy.special import betainc

    k, n = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    return np.where(k <= 0, 1.0, betainc(np.maximum(k, 1.0), np.maximum(n - k + 1.0, 1.0), rate))


def binomial_or_fewer(k: Any, n: Any, rate: float) -> Any:
    """P(X ≤ k) for X binomial(n, rate); numbers or NumPy arrays."""
    import numpy as np
    from scipy.special import betaincc

    k, n = np.asarray(k, dtype=float), np.asarray(n, dtype=float)
    return np.where(k >= n, 1.0, betaincc(k + 1.0, np.maximum(n - k, 1.0), rate))


def mcnemar_worse(wins: Any, losses: Any) -> Any:
    """Exact one-sided p-value of "the candidate is not worse", small when losses outnumber wins."""
    return binomial_or_more(losses, wins + losses, 0.5)


def mcnemar_exact(b: int, c: int) -> float:
    """Exact two-sided McNemar p-value (binomial, both tails)."""
    return min(1.0, 2.0 * float(binomial_or_fewer(min(b, c), b + c, 0.5)))


def mcnemar_mid_p(b: int, c: int) -> float:
    """Two-sided mid-p McNemar p-value: the exact one less the probability of the table itself."""
    n, k = b + c, min(b, c)
    if b == c:
        return 1.0 - math.comb(n, k) * 0.5 ** (n + 1)
    return mcnemar_exact(b, c) - math.comb(n, k) * 0.5**n


def mcnemar_asymptotic(b: int, c: int) -> float:
    """Two-sided asymptotic McNemar p-value, without continuity correction."""
    return 1.0 if b == c else math.erfc(abs(b - c) / math.sqrt(2.0 * (b + c)))


def clopper_pearson(successes: int, n: int, *, level: float) -> tuple[float, float]:
    """Exact two-sided interval for a rate (Clopper and Pearson 1934).

    Args:
        successes: How many.
        n: Of how many.
        level: Two-sided confidence, such as 0.9; each end errs at most (1 − level) / 2 of the time.
    """
    from scipy.special import betaincinv

    tail = (1.0 - level) / 2.0
    low = 0.0 if successes <= 0 else float(betaincinv(successes, n - successes + 1, tail))
    high = 1.0 if successes >= n else float(betaincinv(successes + 1, n - successes, 1.0 - tail))
    return low, high


def wilson(successes: float, n: int, *, level: float) -> tuple[float, float]:
    """Wilson's two-sided score interval for a rate: for display, never for a decision."""
    from scipy.special import ndtri

    z2 = float(ndtri(0.5 + level / 2.0)) ** 2
    p = successes / n
    centre = (p + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (p * (1 - p) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    return max(0.0, centre - half), min(1.0, centre + half)
