"""Evidence that may be looked at after every row: the betting e-process for "losses outnumber wins"."""

from __future__ import annotations

import math

__all__ = ["e_worse"]


def e_worse(losses: int, wins: int) -> float:
    """The e-value against "losses are no more likely than wins", valid at any stopping time.

    A bet on losses, mixed evenly over rates in (1/2, 1): E = 2 · 2^M · B(l+1, w+1) · P(Beta(l+1, w+1) > 1/2),
    M = l + w. Stopping when it reaches 1/α errs at most α of the time (Ville).

    Args:
        losses: Examples that only the baseline has right.
        wins: Examples that only the candidate has right.
    """
    from scipy.special import betaincc, betaln

    total = losses + wins
    log_e = (total + 1) * math.log(2.0) + float(betaln(losses + 1, wins + 1))
    tail = float(betaincc(losses + 1, wins + 1, 0.5))
    log_e += math.log(tail) if tail > 0 else -math.inf
    return math.exp(log_e) if log_e < 709 else math.inf
