"""Made-up paired outcomes whose truth is known: what the rule is calibrated and tested with."""

from __future__ import annotations

from typing import Any, Literal

__all__ = ["GENERATORS", "Generator", "clustered", "independent"]

Generator = Literal["shared-draw", "whole-cluster", "gaussian-copula"]
GENERATORS: tuple[Generator, ...] = ("shared-draw", "whole-cluster", "gaussian-copula")
"""How examples of one cluster come to resemble each other.

`shared-draw`: each example copies the cluster's outcome with probability √ICC, else draws its own.
`whole-cluster`: with probability ICC all examples of a cluster have one outcome, else each its own.
`gaussian-copula`: outcomes are cut from normal variables that are correlated within a cluster, so much that
the outcomes' own correlation is ICC.
"""


def independent(rng: Any, runs: int, n: int, *, q: float, delta: float = 0.0) -> tuple[Any, Any]:
    """Wins and losses of many runs of n independent pairs.

    Args:
        rng: A NumPy random generator.
        runs: How many runs.
        n: Pairs a run.
        q: Share of discordant pairs; raised to |delta| where that is larger.
        delta: True candidate − baseline.
    """
    win, loss = _rates(q, delta)
    counts = rng.multinomial(n, [win, loss, max(0.0, 1.0 - win - loss)], size=runs)
    return counts[:, 0], counts[:, 1]


def clustered(
    rng: Any,
    runs: int,
    clusters: int,
    size: int,
    *,
    q: float,
    delta: float = 0.0,
    icc: float = 0.3,
    generator: Generator = "shared-draw",
) -> Any:
    """Differences in {−1, 0, 1} of many runs, shape (runs, clusters, size).

    Args:
        rng: A NumPy random generator.
        runs: How many runs.
        clusters: Clusters a run.
        size: Examples a cluster.
        q: Share of discordant pairs; raised to |delta| where that is larger.
        delta: True candidate − baseline.
        icc: Correlation of two differences within a cluster.
        generator: How the resemblance comes about.
    """
    import numpy as np
    from scipy.special import ndtri

    win, loss = _rates(q, delta)
    shape = (runs, clusters, size)

    def outcome(u: Any) -> Any:
        return np.where(u < loss, -1, np.where(u > 1.0 - win, 1, 0)).astype(np.int8)

    if generator == "gaussian-copula":
        r = latent_correlation(win, loss, icc)
        z = np.sqrt(r) * rng.standard_normal((runs, clusters, 1)) + np.sqrt(1 - r) * rng.standard_normal(
            shape
        )
        return np.where(z < ndtri(loss), -1, np.where(z > ndtri(1.0 - win), 1, 0)).astype(np.int8)
    own, shared = outcome(rng.random(shape)), outcome(rng.random((runs, clusters, 1)))
    if generator == "shared-draw":
        copies = rng.random(shape) < np.sqrt(icc)
    else:
        copies = rng.random((runs, clusters, 1)) < icc
    return np.where(copies, shared, own)


def latent_correlation(win: float, loss: float, icc: float) -> float:
    """The correlation of two normal variables whose cut outcomes (−1, 0, 1) correlate by `icc`."""
    import numpy as np
    from scipy.optimize import brentq
    from scipy.special import ndtr, ndtri

    # E[outcome | shared part] by quadrature over the shared normal variable.
    x, weights = np.polynomial.hermite_e.hermegauss(101)
    weights = weights / weights.sum()
    low, high = float(ndtri(loss)), float(ndtri(1.0 - win))
    mean = win - loss
    variance = win + loss - mean**2

    def gap(r: float) -> float:
        left, right = np.sqrt(r) * x, np.sqrt(1.0 - r)
        given = ndtr((left - high) / right) - ndtr((low - left) / right)
        return float(weights @ given**2 - mean**2) / variance - icc

    root: Any = brentq(gap, 1e-6, 1.0 - 1e-6)
    return float(root)


def _rates(q: float, delta: float) -> tuple[float, float]:
    q = max(q, abs(delta))
    return (q + delta) / 2.0, (q - delta) / 2.0
