"""Chances before anything is run: how often a test passes, what loss it finds, how many examples it needs."""

from __future__ import annotations

import math
from typing import Any

from steelyard.gates.binary import binomial_or_fewer, binomial_or_more, mcnemar_worse, tango_p, tango_z

__all__ = [
    "connor_n",
    "detectable_loss",
    "floor_reach",
    "n_for_pass",
    "p_fail_paired",
    "p_pass_clustered",
    "p_pass_log",
    "p_pass_paired",
]

_EXACT_UP_TO = 20_000


def connor_n(q: float, delta: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Pairs that a one-sided McNemar test needs (Connor 1987, Biometrics 43:207).

    Args:
        q: Share of discordant pairs.
        delta: True difference of the two rates.
        alpha: One-sided error rate.
        power: Chance of finding it.
    """
    from scipy.special import ndtri

    reach = float(ndtri(1 - alpha)) * math.sqrt(q) + float(ndtri(power)) * math.sqrt(q - delta**2)
    return math.ceil((reach / delta) ** 2)


def p_pass_paired(n: int, q: float, margin: float, *, delta: float = 0.0, alpha: float = 0.05) -> float:
    """The chance that question 1 passes on n independent right-or-wrong pairs; exact up to 20,000 pairs.

    Args:
        n: Pairs.
        q: Share of discordant pairs; raised to |delta| where that is larger.
        margin: The tolerated loss.
        delta: True candidate − baseline.
        alpha: One-sided error rate.
    """
    from scipy.special import ndtr, ndtri

    q = max(q, abs(delta))
    if n <= _EXACT_UP_TO:
        wins, losses, chance = _tables(n, q, delta)
        return float(chance[tango_p(wins, losses, n, -margin) <= alpha].sum())
    spread = _null_sd(n, q, delta, margin)
    se = math.sqrt(max(q - delta**2, 1e-12) / n)
    return float(ndtr((delta + margin - float(ndtri(1 - alpha)) * spread) / se))


def p_fail_paired(n: int, q: float, *, delta: float, alpha: float = 0.05) -> float:
    """The chance that question 2 fails the candidate on n independent right-or-wrong pairs.

    Args:
        n: Pairs.
        q: Share of discordant pairs; raised to |delta| where that is larger.
        delta: True candidate − baseline.
        alpha: One-sided error rate.
    """
    from scipy.special import ndtr, ndtri

    q = max(q, abs(delta))
    if n <= _EXACT_UP_TO:
        wins, losses, chance = _tables(n, q, delta)
        return float(chance[mcnemar_worse(wins, losses) <= alpha].sum())
    reach = -delta * math.sqrt(n) - float(ndtri(1 - alpha)) * math.sqrt(q)
    return float(ndtr(reach / math.sqrt(max(q - delta**2, 1e-12))))


def detectable_loss(n: int, q: float, *, alpha: float = 0.05, power: float = 0.8) -> float | None:
    """The smallest true loss that question 2 finds with the given power; None where n is too small."""
    if p_fail_paired(n, q, delta=-0.999, alpha=alpha) < power:
        return None
    low, high = 0.0, 0.999
    for _ in range(14):
        middle = (low + high) / 2
        low, high = (
            (low, middle) if p_fail_paired(n, q, delta=-middle, alpha=alpha) >= power else (middle, high)
        )
    return high


def n_for_pass(q: float, margin: float, *, alpha: float = 0.05, power: float = 0.8) -> int:
    """Independent right-or-wrong pairs with which an unchanged candidate passes with the given chance."""
    from scipy.special import ndtr, ndtri

    z = float(ndtri(1 - alpha))

    def chance(n: int) -> float:
        return float(ndtr((margin - z * _null_sd(n, q, 0.0, margin)) / math.sqrt(q / n)))

    high = 16
    while chance(high) < power and high < 10**9:
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if chance(middle) >= power else (middle, high)
    return high


def p_pass_clustered(
    n: int, size: float, q: float, margin: float, *, icc: float, alpha: float = 0.05
) -> float:
    """About the chance that an unchanged candidate passes the cluster-robust t.

    Args:
        n: Examples.
        size: Examples a cluster.
        q: Mean squared difference (for right-or-wrong scores: the share of discordant pairs).
        margin: The tolerated loss.
        icc: Correlation of two differences within a cluster.
        alpha: One-sided error rate.
    """
    from scipy.special import ndtr, stdtrit

    own = n * q * (1 + (size - 1) * icc)
    imposed = own + margin**2 * n * size + 2 * size**2 * (1 + margin**2)
    critical = float(stdtrit(n / size + 1, 1 - alpha))
    return float(ndtr(((n + 2 * size) * margin - critical * math.sqrt(imposed)) / math.sqrt(own)))


def p_pass_log(n: int, sd: float, log_margin: float, *, alpha: float = 0.05) -> float:
    """About the chance that an unchanged candidate passes the paired t on logarithms."""
    from scipy.special import ndtr, stdtrit

    se = sd / math.sqrt(n)
    imposed = math.sqrt((sd**2 + log_margin**2) / n)
    return float(ndtr((log_margin - float(stdtrit(n - 1, 1 - alpha)) * imposed) / se))


def floor_reach(
    n: int, floor: float, *, alpha: float = 0.05, power: float = 0.8
) -> tuple[float | None, float | None]:
    """The true rates from which a floor passes, and down to which it fails, with the given chance.

    Exact for independent right-or-wrong scores; None where n is too small to reach the answer.
    """
    import numpy as np
    from scipy.special import betaincinv

    x = np.arange(n + 1)
    passing = x[binomial_or_more(x, n, floor) <= alpha]
    failing = x[binomial_or_fewer(x, n, floor) <= alpha]
    up = down = None
    if len(passing):
        least = int(passing[0])
        up = float(betaincinv(least, n - least + 1, power))
    if len(failing):
        most = int(failing[-1])
        down = float(1 - betaincinv(n - most, most + 1, power))
    return up, down


def _null_sd(n: int, q: float, delta: float, margin: float) -> float:
    """Standard deviation of the difference under −margin, as Tango's test sees it on the expected table."""
    wins, losses = n * (q + delta) / 2, n * (q - delta) / 2
    return (delta + margin) / float(tango_z(wins, losses, n, -margin))


def _tables(n: int, q: float, delta: float) -> tuple[Any, Any, Any]:
    """Wins, losses and chances of every table that matters."""
    import numpy as np
    from scipy.special import gammaln

    def log_binomial(k: Any, m: Any, p: float) -> Any:
        p = min(max(p, 1e-300), 1 - 1e-16)
        return (
            gammaln(m + 1) - gammaln(k + 1) - gammaln(m - k + 1) + k * math.log(p) + (m - k) * math.log1p(-p)
        )

    reach = 7 * math.sqrt(n * q * (1 - q)) + 7
    discordant = np.arange(max(0, int(n * q - reach)), min(n, math.ceil(n * q + reach)) + 1)
    share = (q + delta) / (2 * q)
    centre = discordant * share
    spread = 7 * math.sqrt(float(discordant[-1]) * share * (1 - share)) + 7
    wins = np.round(centre)[:, None] + np.arange(-math.ceil(spread), math.ceil(spread) + 1)[None, :]
    total = np.broadcast_to(discordant[:, None], wins.shape)
    kept = (wins >= 0) & (wins <= total)
    w, m = wins[kept], total[kept]
    chance = np.exp(log_binomial(m, n, q) + log_binomial(w, m, share))
    return w, m - w, chance
