"""How often each rule passes, fails or says nothing, on made-up data whose truth is known. Prints Markdown.

    python bench/gates_simulation.py [--runs 2000] [--seed 20261123]

Our rule, the point rule (pass when the mean lost less than the margin, else fail), and the same two
questions asked with three common tests: unpaired z, paired t and a percentile bootstrap (1,000 resamples).
The three take rows as independent, as they are commonly used.
"""

from __future__ import annotations

import argparse
import datetime
import time

import numpy as np
from scipy.stats import norm
from scipy.stats import t as student

from steelyard.gates.binary import mcnemar_worse, tango_p
from steelyard.gates.judge import judge_loss
from steelyard.gates.measure import Sample
from steelyard.gates.simulate import clustered, independent

MARGIN, ALPHA, ACCURACY = 0.05, 0.05, 0.7
DESIGNS = [
    (50, 0.1, 1, None),
    (200, 0.05, 1, None),
    (200, 0.1, 1, None),
    (1000, 0.2, 1, None),
    (200, 0.05, 5, "shared-draw"),
    (200, 0.1, 5, "shared-draw"),
    (200, 0.1, 5, "gaussian-copula"),
    (1000, 0.05, 5, "shared-draw"),
    (1000, 0.05, 5, "gaussian-copula"),
    (1000, 0.2, 5, "shared-draw"),
]
RULES = ("ours", "point rule", "unpaired z", "paired t", "bootstrap")


def two_questions(low, high):
    """pass, fail from the one-sided bounds at α of the difference."""
    passed = low > -MARGIN
    return passed, ~passed & (high < 0)


def ours(runs):
    size = runs.shape[2]
    if size == 1:
        wins, losses, n = (runs > 0).sum((1, 2)), (runs < 0).sum((1, 2)), runs.shape[1]
        passed = tango_p(wins, losses, n, -MARGIN) <= ALPHA
        return passed, ~passed & (mcnemar_worse(wins, losses) <= ALPHA)
    groups = np.repeat(np.arange(runs.shape[1]), size)
    passed, failed = np.zeros(len(runs), bool), np.zeros(len(runs), bool)
    for i, run in enumerate(runs):
        d = run.ravel().astype(float)
        sample = Sample(
            pessimistic=d,
            optimistic=d,
            groups=groups,
            groups_optimistic=groups,
            candidate=None,
            baseline=None,
            n=len(d),
            single=False,
        )
        judged = judge_loss(sample, MARGIN, ALPHA)
        if judged.p_not_worse is not None:
            passed[i] = judged.p_not_worse <= ALPHA
            failed[i] = not passed[i] and judged.p_worse <= ALPHA
    return passed, failed


def others(rng, runs):
    n = runs.shape[1] * runs.shape[2]
    wins, losses = (runs > 0).sum((1, 2)), (runs < 0).sum((1, 2))
    d = (wins - losses) / n
    yield "point rule", (d > -MARGIN, d <= -MARGIN)
    right = rng.binomial(n - wins - losses, ACCURACY)
    new, old = (right + wins) / n, (right + losses) / n
    se = np.sqrt((new * (1 - new) + old * (1 - old)) / n)
    z = norm.ppf(1 - ALPHA)
    yield "unpaired z", two_questions(d - z * se, d + z * se)
    se = np.sqrt(((wins + losses) / n - d**2) / (n - 1))
    t = student.ppf(1 - ALPHA, n - 1)
    yield "paired t", two_questions(d - t * se, d + t * se)
    low, high = np.empty(len(d)), np.empty(len(d))
    for i in range(len(d)):
        counts = rng.multinomial(n, [wins[i] / n, losses[i] / n, 1 - (wins[i] + losses[i]) / n], size=1000)
        means = (counts[:, 0] - counts[:, 1]) / n
        low[i], high[i] = np.quantile(means, [ALPHA, 1 - ALPHA])
    yield "bootstrap", two_questions(low, high)


def cell(passed, failed):
    p, f = 100 * passed.mean(), 100 * failed.mean()
    return f"{p:.0f} / {f:.0f} / {abs(100 - p - f):.0f}"


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=20261123)
    args = parser.parse_args()
    started = time.perf_counter()
    print("| examples | differ | clusters | truth | " + " | ".join(RULES) + " |")
    print("|---|---|---|---|" + "---|" * len(RULES))
    for index, (n, q, size, generator) in enumerate(DESIGNS):
        for delta in (0.0, -MARGIN, -0.1):
            rng = np.random.default_rng([args.seed, index, int(-100 * delta)])
            if size == 1:
                wins, losses = independent(rng, args.runs, n, q=q, delta=delta)
                order = np.arange(n)[None, :]
                runs = np.where(order < wins[:, None], 1, np.where(order < (wins + losses)[:, None], -1, 0))
                runs = runs[:, :, None].astype(np.int8)
                kind = "none"
            else:
                runs = clustered(rng, args.runs, n // size, size, q=q, delta=delta, generator=generator)
                kind = f"{n // size} × {size}, {generator}"
            cells = {"ours": cell(*ours(runs))} | {k: cell(*v) for k, v in others(rng, runs)}
            truth = "no change" if delta == 0 else f"−{-100 * delta:.0f} points"
            print(
                f"| {n:,} | {100 * q:.0f} % | {kind} | {truth} | "
                + " | ".join(cells[r] for r in RULES)
                + " |"
            )
    spent = time.perf_counter() - started
    today = datetime.datetime.now(datetime.UTC).date()
    print(f"\n{args.runs:,} runs a cell, seed {args.seed}, {today}, {spent:.0f} s.")


if __name__ == "__main__":
    main()
