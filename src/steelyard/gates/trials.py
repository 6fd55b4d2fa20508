"""Repeated trials of one example: pass@k and pass^k. A gate averages trials first; they are never n."""

from __future__ import annotations

import math

from steelyard.core.errors import InvalidValue

__all__ = ["pass_at_k", "pass_hat_k"]


def pass_at_k(n: int, c: int, k: int) -> float:
    """The chance that at least one of k trials is right: 1 − C(n−c, k) / C(n, k).

    Args:
        n: Trials made.
        c: Right ones among them.
        k: Trials in question.

    Raises:
        InvalidValue: fewer than k trials were made, or c is not in 0..n.
    """
    _check(n, c, k)
    return 1.0 - math.comb(n - c, k) / math.comb(n, k)


def pass_hat_k(n: int, c: int, k: int) -> float:
    """The chance that all of k trials are right: C(c, k) / C(n, k).

    Args:
        n: Trials made.
        c: Right ones among them.
        k: Trials in question.

    Raises:
        InvalidValue: fewer than k trials were made, or c is not in 0..n.
    """
    _check(n, c, k)
    return math.comb(c, k) / math.comb(n, k)


def _check(n: int, c: int, k: int) -> None:
    if not (0 <= c <= n and k >= 1):
        raise InvalidValue(f"{c} right of {n} trials, k={k}", do="Give 0 ≤ c ≤ n and k ≥ 1.")
    if n < k:
        raise InvalidValue(
            f"pass over k={k} trials is undefined: only {n} were made", do=f"Run with trials={k} or more."
        )
