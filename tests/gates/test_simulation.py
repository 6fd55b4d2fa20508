"""How often the rule errs, on made-up data whose truth is known. `STEELYARD_FULL=1` runs 2,000 a cell."""

from __future__ import annotations

import math
import os

import numpy as np
import pytest

from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Metric, Score
from steelyard.gates import Policy, decide, not_worse_than
from steelyard.gates.binary import mcnemar_worse, tango_p
from steelyard.gates.judge import judge_bound, judge_loss
from steelyard.gates.measure import Sample
from steelyard.gates.simulate import GENERATORS, clustered, independent

pytestmark = pytest.mark.slow

FULL = os.environ.get("STEELYARD_FULL") == "1"
RUNS = 2000 if FULL else 250
MARGIN, ALPHA = 0.05, 0.05


def at_most(limit):
    """The acceptance limit; with few runs, three standard errors more."""
    return limit if FULL else limit + 3 * math.sqrt(0.05 * 0.95 / RUNS)


def rng(*seed):
    return np.random.default_rng([20261123, *seed])


def paired_rates(n, q, delta, seed):
    wins, losses = independent(rng(n, int(100 * q), seed), 2000, n, q=q, delta=delta)
    passed = tango_p(wins, losses, n, -MARGIN) <= ALPHA
    failed = (mcnemar_worse(wins, losses) <= ALPHA) & ~passed
    return passed.mean(), failed.mean()


def sample(values, groups=None):
    return Sample(
        pessimistic=values,
        optimistic=values,
        groups=groups,
        groups_optimistic=groups,
        candidate=None,
        baseline=None,
        n=len(values),
        single=groups is None,
    )


def cluster_rates(differences):
    """P(pass), P(fail) of the rule over runs of shape (runs, clusters, size)."""
    runs, clusters, size = differences.shape
    groups = np.repeat(np.arange(clusters), size)
    passed = failed = 0
    for run in differences:
        judged = judge_loss(sample(run.ravel().astype(float), groups), MARGIN, ALPHA)
        if judged.p_not_worse is not None and judged.p_not_worse <= ALPHA:
            passed += 1
        elif judged.p_worse is not None and judged.p_worse <= ALPHA:
            failed += 1
    return passed / runs, failed / runs


@pytest.mark.parametrize(
    ("n", "q", "p_pass", "p_fail"), [(50, 0.1, 0.24, 0.01), (200, 0.1, 0.70, 0.03), (1000, 0.2, 0.97, 0.03)]
)
def test_an_unchanged_candidate_on_independent_pairs(n, q, p_pass, p_fail):
    assert paired_rates(n, q, 0.0, 1) == pytest.approx((p_pass, p_fail), abs=0.03)


@pytest.mark.parametrize("n", [50, 200, 1000])
@pytest.mark.parametrize("q", [0.05, 0.1, 0.2])
def test_errors_on_independent_pairs(n, q):
    assert paired_rates(n, q, -MARGIN, 2)[0] <= 0.065
    assert paired_rates(n, q, 0.0, 3)[1] <= 0.06


@pytest.mark.parametrize(("n", "least"), [(50, 0.5), (200, 0.99)])
def test_a_loss_of_ten_points_is_failed(n, least):
    assert paired_rates(n, 0.1, -0.1, 4)[1] >= least


@pytest.mark.parametrize("generator", GENERATORS)
@pytest.mark.parametrize("n", [100, 200, 1000])
@pytest.mark.parametrize("q", [0.05, 0.1, 0.2])
def test_errors_in_clusters_of_five(generator, n, q):
    seed = rng(5, n, int(100 * q), GENERATORS.index(generator))
    lost = clustered(seed, RUNS, n // 5, 5, q=q, delta=-MARGIN, generator=generator)
    assert cluster_rates(lost)[0] <= at_most(0.065)
    same = clustered(seed, RUNS, n // 5, 5, q=q, generator=generator)
    assert cluster_rates(same)[1] <= at_most(0.06)


def test_ten_clusters_decide_nothing():
    runs = clustered(rng(6), 50, 10, 5, q=0.2, delta=-0.2)
    assert cluster_rates(runs) == (0, 0)


@pytest.mark.parametrize("generator", GENERATORS)
def test_errors_in_unequal_clusters(generator):
    seed = rng(7, GENERATORS.index(generator))
    sizes = seed.choice([1, 3, 12], 120, p=[0.5, 0.3, 0.2])
    groups = np.repeat(np.arange(120), sizes)
    kept = np.arange(12)[None, :] < sizes[:, None]
    for delta, which, limit in ((-MARGIN, 0, 0.065), (0.0, 1, 0.06)):
        answers = [0, 0]
        for run in clustered(seed, RUNS, 120, 12, q=0.1, delta=delta, generator=generator):
            judged = judge_loss(sample(run[kept].astype(float), groups), MARGIN, ALPHA)
            answers[0] += judged.p_not_worse <= ALPHA
            answers[1] += judged.p_worse <= ALPHA
        assert answers[which] / RUNS <= at_most(limit)


@pytest.mark.parametrize("floor", [0.05, 0.6, 0.95])
def test_errors_of_floors_in_clusters(floor):
    """The truth lies on the floor: neither answer may come often."""
    groups = np.repeat(np.arange(60), 5)
    answers = [0, 0]
    for run in clustered(rng(8, int(100 * floor)), RUNS, 60, 5, q=1 - floor, delta=floor - 1):
        judged = judge_bound(sample(1.0 + run.ravel(), groups), floor, ALPHA, ranged=True)
        answers[0] += judged.p_not_worse <= ALPHA
        answers[1] += judged.p_worse <= ALPHA
    assert max(answers) / RUNS <= at_most(0.06)


def test_graded_scores_with_long_tails():
    """Differences that are mostly 0, with rare total losses, in 60 examples of three trials each."""
    seed = rng(9)
    false_pass = 0
    for _ in range(RUNS):
        d = np.where(seed.random(60) < 0.06, -1.0, seed.normal(0.0106, 0.05, 60)).clip(-1, 1)
        false_pass += judge_loss(sample(d), MARGIN, ALPHA).p_not_worse <= ALPHA
    assert false_pass / RUNS <= at_most(0.065)


def five(seed, subject, base):
    names = [f"m{i}" for i in range(5)]
    metrics = tuple(Metric(name=name) for name in names)
    flips = seed.random(base.shape) < 0.1
    values = np.where(flips, seed.random(base.shape) < 0.5, base)
    rows = tuple(
        Row(
            example_id=f"e{i}",
            scores=tuple(Score(name=m, value=float(v)) for m, v in zip(names, line, strict=True)),
        )
        for i, line in enumerate(values)
    )
    identity = Identity(
        subject=subject,
        task="t",
        dataset="d",
        dataset_name="d",
        evaluators=dict.fromkeys(names, "e"),
        metrics=metrics,
    )
    return Scores(identity=identity, planned=tuple(r.key for r in rows), rows=rows)


def test_five_requirements_under_no_change_seldom_fail():
    policy = Policy(requirements=tuple(not_worse_than("production", f"m{i}", margin=0.05) for i in range(5)))
    seed = rng(10)
    failed = 0
    for _ in range(RUNS):
        base = seed.random((100, 5)) < 0.7
        verdict = decide(policy, five(seed, "new", base), {"production": five(seed, "old", base)})
        failed += verdict.outcome == "fail"
    assert failed / RUNS <= at_most(0.06)


def test_an_advised_number_of_examples_decides_8_times_in_10():
    """The advice rests on the change that was seen; where that is the truth it keeps its word."""
    wins, losses, n = 5, 5, 100
    d = np.array([1.0] * wins + [-1.0] * losses + [0.0] * (n - wins - losses))
    judged = judge_loss(sample(d), MARGIN, ALPHA)
    reach = 1.6449 + 0.8416
    total = math.ceil(judged.variance * (reach / (judged.estimate - judged.limit)) ** 2)
    w, lost = independent(rng(11), 4000, total, q=0.1)
    decided = (tango_p(w, lost, total, -MARGIN) <= ALPHA) | (mcnemar_worse(w, lost) <= ALPHA)
    assert decided.mean() == pytest.approx(0.8, abs=0.06)
