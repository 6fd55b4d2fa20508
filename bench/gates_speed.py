"""Seconds for a verdict over a million paired rows, rows already in memory, beside a limit and peers.

The limit is what NumPy takes for mean and variance of the two columns of numbers, and the peers get those
columns too: SciPy's paired t, statsmodels' McNemar. A verdict also walks the rows, matches them, checks for
missing ones, and judges two requirements. CPU seconds, each in turn (A B B A), median of the turns.

python bench/gates_speed.py [--rows 1000000] [--turns 4] [--case "clusters of 5"] [--json]
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import statistics
import time

from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Metric, Score
from steelyard.gates import Policy, at_least, decide, not_worse_than

METRIC = Metric(name="exact_match")
CASES = {
    "right or wrong": {},
    "graded": {"graded": True},
    "clusters of 5": {"clusters": 5},
    "rows out of order": {"shuffle": True},
}


def arm(subject, n, rng, *, graded=False, clusters=None, shuffle=False):
    values = [rng.random() if graded else float(rng.random() < 0.7) for _ in range(n)]
    rows = [
        Row(
            example_id=f"example-{i:07d}",
            cluster=f"doc-{i // clusters}" if clusters else None,
            scores=(Score(name="exact_match", value=v),),
        )
        for i, v in enumerate(values)
    ]
    identity = Identity(
        subject=subject,
        task="t",
        dataset="d",
        dataset_name="d",
        evaluators={"exact_match": "e"},
        metrics=(METRIC,),
    )
    planned = tuple(r.key for r in rows)
    if shuffle:
        rng.shuffle(rows)
    return Scores(identity=identity, planned=planned, rows=tuple(rows))


def moments(a, b):
    d = a - b
    return a.mean(), a.var(), b.mean(), b.var(), d.mean(), d.var()


def mcnemar(a, b):
    import numpy as np
    from statsmodels.stats.contingency_tables import mcnemar as peer

    right, was = a == 1, b == 1
    table = np.array(
        [[(right & was).sum(), (right & ~was).sum()], [(~right & was).sum(), (~right & ~was).sum()]]
    )
    return peer(table, exact=False)


def measured(ways, turns):
    """CPU seconds of each way, taken in turn and back."""
    spent = {name: [] for name in ways}
    for turn in range(turns):
        for name in list(ways) if turn % 2 == 0 else list(ways)[::-1]:
            gc.collect()
            began = time.process_time()
            ways[name]()
            spent[name].append(time.process_time() - began)
    return spent


def main():
    import numpy as np
    import scipy.stats

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--turns", type=int, default=4)
    parser.add_argument("--case", choices=list(CASES), help="Only this one.")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args()
    n = given.rows
    policy = Policy(
        requirements=(
            not_worse_than("production", "exact_match", margin=0.02),
            at_least("exact_match", 0.4),
        )
    )
    decide(policy, arm("a", 50, random.Random(0)), {"production": arm("b", 50, random.Random(1))})
    out = {}
    for name, options in CASES.items():
        if given.case not in (None, name):
            continue
        rng = random.Random(20261123)
        candidate, baseline = arm("new", n, rng, **options), arm("old", n, rng, **options)
        a, b = (np.array([r.scores[0].value for r in s.rows]) for s in (candidate, baseline))
        ways = {
            "verdict": lambda c=candidate, d=baseline: decide(policy, c, {"production": d}),
            "numpy mean, var": lambda a=a, b=b: moments(a, b),
            "scipy ttest_rel": lambda a=a, b=b: scipy.stats.ttest_rel(a, b),
        }
        if not options.get("graded"):
            ways["statsmodels mcnemar"] = lambda a=a, b=b: mcnemar(a, b)
        spent = measured(ways, given.turns)
        out[name] = {k: [round(x, 4) for x in v] for k, v in spent.items()}
        if not given.json:
            print(f"{name}: {n:,} pairs, two requirements", flush=True)
            for way, seconds in spent.items():
                span = f"{min(seconds):.3f} to {max(seconds):.3f}"
                print(f"  {way:<20} {statistics.median(seconds):.3f} s ({span})", flush=True)
    if given.json:
        print(json.dumps(out, indent=1))


if __name__ == "__main__":
    main()
