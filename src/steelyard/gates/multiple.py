"""Many tests at once: Holm's step-down for what can fail a gate, Benjamini–Hochberg for what only advises."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["benjamini_hochberg", "holm"]


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given (family-wise error; Holm 1979)."""
    out = [1.0] * len(p_values)
    running = 0.0
    for rank, i in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
        running = max(running, min(1.0, (len(p_values) - rank) * p_values[i]))
        out[i] = running
    return out


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Benjamini and Hochberg's adjusted p-values, in the order given (false discovery rate; 1995)."""
    m = len(p_values)
    out = [1.0] * m
    running = 1.0
    for rank, i in enumerate(sorted(range(m), key=lambda i: p_values[i], reverse=True)):
        running = min(running, p_values[i] * m / (m - rank))
        out[i] = running
    return out
