"""The verdict as a whole: rows in, sentences and outcomes out."""

from __future__ import annotations

import random

from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Failure, Metric, Score
from steelyard.gates import Policy, Verdict, decide, not_worse_than

EXACT = Metric(name="exact_match")
TIMEOUT = Failure(kind="timeout", message="no answer in 60 s")


def identity(subject="sha256:new", metrics=(EXACT,), trials=1, **changes):
    values = {
        "name": "support",
        "subject": subject,
        "task": "sha256:task",
        "lm": "sha256:lm",
        "dataset": "sha256:data",
        "dataset_name": "support-intent",
        "evaluators": {m.name: f"sha256:{m.name}" for m in metrics},
        "metrics": tuple(metrics),
        "trials": trials,
    }
    return Identity(**{**values, **changes})


def scores(values, *, subject="sha256:new", metric=EXACT, clusters=None, invalid=(), trials=1, **changes):
    """One row a value, in the order given; None is a failed row, a nested list the trials of an example."""
    rows, planned = [], []
    for i, value in enumerate(values):
        for t, v in enumerate(value if isinstance(value, list) else [value]):
            planned.append((f"e{i:05d}", t))
            rows.append(
                Row(
                    example_id=f"e{i:05d}",
                    trial=t,
                    cluster=clusters[i] if clusters else None,
                    failure=TIMEOUT if v is None else None,
                    invalid_output="not JSON" if i in invalid else None,
                    scores=() if v is None else (Score(name=metric.name, value=float(v)),),
                )
            )
    who = identity(subject, (metric,), trials, **changes)
    return Scores(identity=who, planned=tuple(planned), rows=tuple(rows))


def pair(wins, losses, n, **kw):
    """A candidate and a baseline with so many wins, losses and otherwise both right."""
    c = [1] * wins + [0] * losses + [1] * (n - wins - losses)
    b = [0] * wins + [1] * losses + [1] * (n - wins - losses)
    return scores(c, **kw), scores(b, subject="sha256:old", **kw)


def against(candidate, baseline, *, margin=0.05, metric="exact_match", relative=False, **kw) -> Verdict:
    policy = Policy(requirements=(not_worse_than("production", metric, margin=margin, relative=relative),))
    return decide(policy, candidate, {"production": baseline}, **kw)


def test_no_change_over_many_examples_passes_in_plain_words():
    verdict = against(*pair(21, 15, 150 * 3))
    assert verdict.outcome == "pass"
    assert verdict.findings[0].sentence == (
        "exact_match: 0.97 vs production 0.95 over 450 examples; the change is between −0.01 and +0.04 "
        "(90 % interval), which rules out a loss of 0.05 or more."
    )
    assert verdict.sentence == "Pass: the requirement holds."


def test_a_large_loss_fails():
    verdict = against(*pair(2, 30, 150))
    assert verdict.outcome == "fail"
    assert "It is worse than production" in verdict.findings[0].sentence


def test_few_examples_are_inconclusive_and_say_how_many_more():
    verdict = against(*pair(3, 3, 50))
    (finding,) = verdict.findings
    assert verdict.outcome == "inconclusive"
    assert finding.more_examples is not None
    assert 100 < finding.more_examples < 500
    assert f"{finding.more_examples} more examples" in finding.advice


def test_the_verdict_survives_its_own_json():
    verdict = against(*pair(3, 3, 50))
    assert Verdict.from_json(verdict.to_json()).to_bytes() == verdict.to_bytes()


def test_row_order_does_not_change_the_bytes():
    candidate, baseline = pair(5, 9, 200)
    shuffled = list(candidate.rows)
    random.Random(7).shuffle(shuffled)
    planned = list(baseline.planned)
    random.Random(8).shuffle(planned)
    other = Scores(identity=candidate.identity, planned=candidate.planned, rows=tuple(shuffled))
    base = Scores(identity=baseline.identity, planned=tuple(planned), rows=baseline.rows)
    assert against(other, base).to_bytes() == against(candidate, baseline).to_bytes()
