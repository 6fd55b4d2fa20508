"""Seconds for a verdict over a million paired rows, rows already in memory. Prints one line a case.

python bench/gates_speed.py [--rows 1000000]
"""

from __future__ import annotations

import argparse
import gc
import random
import time

from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Metric, Score
from steelyard.gates import Policy, at_least, decide, not_worse_than

METRIC = Metric(name="exact_match")


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


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=1_000_000)
    n = parser.parse_args().rows
    policy = Policy(
        requirements=(
            not_worse_than("production", "exact_match", margin=0.02),
            at_least("exact_match", 0.4),
        )
    )
    decide(policy, arm("a", 50, random.Random(0)), {"production": arm("b", 50, random.Random(1))})
    cases = {
        "right or wrong": {},
        "graded": {"graded": True},
        "clusters of 5": {"clusters": 5},
        "rows out of order": {"shuffle": True},
    }
    for name, options in cases.items():
        rng = random.Random(20261123)
        candidate, baseline = arm("new", n, rng, **options), arm("old", n, rng, **options)
        gc.collect()
        started = time.perf_counter()
        verdict = decide(policy, candidate, {"production": baseline})
        spent = time.perf_counter() - started
        print(f"{name}: {n:,} pairs, two requirements: {spent:.2f} s ({verdict.outcome})", flush=True)


if __name__ == "__main__":
    main()
