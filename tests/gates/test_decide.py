"""The verdict as a whole: rows in, sentences and outcomes out."""

from __future__ import annotations

import random
import subprocess
import sys
from dataclasses import replace

import pytest

from steelyard.core.errors import InvalidValue, NotFound
from steelyard.core.results import Identity, Row, Scores
from steelyard.core.score import Failure, Metric, Score
from steelyard.gates import (
    GUARANTEE,
    Policy,
    Verdict,
    at_least,
    at_most,
    changed_most,
    decide,
    discordance,
    guarantee,
    not_worse_than,
    plan,
    slices,
)
from steelyard.gates.power import n_for_pass

EXACT = Metric(name="exact_match")
LATENCY = Metric(name="latency", direction="lower", low=None, high=None, unit="s")
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


# What cannot be measured


def unmeasurable(verdict, *words):
    assert verdict.outcome == "unmeasurable"
    said = " ".join(
        [verdict.sentence, *verdict.reasons, *(f"{f.sentence} {f.advice}" for f in verdict.findings)]
    )
    for word in words:
        assert word in said
    assert all(f.outcome == "unmeasurable" for f in verdict.findings)
    assert Verdict.from_json(verdict.to_json()).to_bytes() == verdict.to_bytes()


def floor(value=0.5, metric="exact_match"):
    return Policy(requirements=(at_least(metric, value),))


def test_an_empty_dataset():
    unmeasurable(decide(floor(), scores([]), {}), "has no example")


def test_no_evaluator():
    bare = Scores(identity=identity(metrics=()), planned=(("a", 0),), rows=(Row(example_id="a"),))
    unmeasurable(decide(floor(), bare, {}), "No evaluator")


def test_no_requirement():
    unmeasurable(decide(Policy(requirements=()), scores([1] * 50), {}), "no requirement")


def test_nothing_was_run():
    unmeasurable(decide(floor(), None, {}), "Nothing was run")
    planned = scores([1] * 50)
    unrun = Scores(identity=planned.identity, planned=planned.planned, rows=())
    unmeasurable(decide(floor(), unrun, {}), "None of the planned rows")


def test_all_rows_in_error_even_where_the_candidate_is_identical():
    failed = scores([None] * 40)
    unmeasurable(decide(floor(), failed, {}), "none of the candidate's 40 rows has a score", "timeout 40")
    unmeasurable(against(failed, failed), "none of the candidate's 40 rows")


def test_scores_without_values():
    judge = Failure(kind="judge", message="no verdict in the answer")
    rows = tuple(Row(example_id=f"e{i}", scores=(Score(name="exact_match", error=judge),)) for i in range(30))
    broken = Scores(identity=identity(), planned=tuple(r.key for r in rows), rows=rows)
    unmeasurable(decide(floor(), broken, {}), "judge 30")
    silent = Scores(
        identity=identity(), planned=broken.planned, rows=tuple(Row(example_id=r.example_id) for r in rows)
    )
    unmeasurable(decide(floor(), silent, {}), "no score 30")


def test_a_nan_that_slipped_past_the_values_own_check_is_missing():
    good = scores([1.0] * 30)
    for row in good.rows:
        object.__setattr__(row.scores[0], "value", float("nan"))
    unmeasurable(decide(floor(), good, {}), "NaN 30")


def test_more_than_2_percent_missing_in_either_arm():
    candidate, baseline = pair(0, 0, 100)
    torn = scores([None] * 3 + [1] * 97)
    unmeasurable(against(torn, baseline), "3 of the candidate's 100 rows", "timeout 3")
    unmeasurable(
        against(candidate, scores([None] * 3 + [1] * 97, subject="sha256:old")), "production's 100 rows"
    )
    assert against(scores([None] * 2 + [1] * 98), baseline).outcome != "unmeasurable"


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"dataset": "sha256:other"}, "different datasets"),
        ({"evaluators": {"exact_match": "sha256:v2"}}, "different versions of the evaluator"),
        ({"trials": 3}, "trials"),
    ],
)
def test_arms_that_were_measured_differently(change, word):
    candidate, _ = pair(0, 0, 300)
    other = scores([1] * 300, subject="sha256:old")
    changed = Scores(identity=identity("sha256:old", **change), planned=other.planned, rows=other.rows)
    unmeasurable(against(candidate, changed), word)


def test_arms_that_planned_different_examples():
    unmeasurable(
        against(scores([1] * 300), scores([1] * 299, subject="sha256:old")), "planned different examples"
    )


def test_an_absent_baseline_says_how_to_bless_one():
    unmeasurable(against(scores([1] * 300), None), "'production'", "steelyard bless")


def test_an_unknown_metric_says_which_one_was_meant():
    unmeasurable(decide(floor(metric="exact_mach"), scores([1] * 50), {}), "Did you mean 'exact_match'?")


def test_a_policy_that_changed_after_the_run():
    policy = floor()
    assert decide(policy, scores([1] * 50), {}, policy_at_run=policy.digest).outcome == "pass"
    unmeasurable(decide(policy, scores([1] * 50), {}, policy_at_run="sha256:before"), "under this policy")


def test_reasons_of_the_caller():
    reason = "The task's code differs and production's stored outputs do not exist."
    unmeasurable(decide(floor(), scores([1] * 50), {}, reasons=(reason,)), reason)


def test_values_outside_the_range_and_limits_that_make_no_sense():
    unmeasurable(decide(floor(), scores([1] * 49 + [7]), {}), "value 7", "e00049")
    unmeasurable(decide(floor(60), scores([1] * 50), {}), "Did you mean 0.6?")
    unmeasurable(against(*pair(0, 0, 50), margin=5), "whole range", "Did you mean 0.05?")
    unmeasurable(against(*pair(0, 0, 50), relative=True), "relative")
    unmeasurable(against(*pair(0, 0, 50, metric=LATENCY), metric="latency"), "relative=True")


def test_a_floor_that_every_candidate_reaches_demands_nothing():
    unmeasurable(decide(floor(0), scores([0] * 50), {}), "every candidate would pass", "higher number")
    unmeasurable(decide(floor(0), scores([1] * 50), {}), "every candidate would pass")


# Outcomes


def test_a_missing_row_counts_against_the_candidate_and_an_invalid_answer_scores_the_worst():
    _, baseline = pair(0, 0, 200)
    whole = against(scores([1] * 200), baseline).findings[0]
    torn = against(scores([None] * 3 + [1] * 197), baseline).findings[0]
    assert torn.low < whole.low
    assert torn.estimate == 0
    assert (torn.missing, torn.planned, torn.n) == (3, 400, 197)
    assert "3 of 400 rows are missing" in torn.sentence
    assert torn.p_worse == 1.0
    invalid = against(scores([1] * 200, invalid=range(20)), baseline)
    assert invalid.outcome == "fail"
    assert invalid.findings[0].invalid == 20
    assert "20 invalid answers scored the worst value" in invalid.findings[0].sentence


def test_a_missing_baseline_row_counts_as_right():
    candidate = scores([1] * 200)
    old = scores([None] * 4 + [1] * 196, subject="sha256:old")
    finding = against(candidate, old).findings[0]
    assert finding.estimate == 0
    assert finding.low == against(candidate, scores([1] * 200, subject="sha256:old")).findings[0].low


def test_an_identical_candidate_passes_relative_requirements_and_still_meets_floors():
    same = scores([1] * 10 + [0] * 90)
    policy = Policy(
        requirements=(not_worse_than("production", "exact_match", margin=0.01), at_least("exact_match", 0.5))
    )
    verdict = decide(policy, same, {"production": same})
    assert [f.outcome for f in verdict.findings] == ["pass", "fail"]
    assert verdict.findings[0].method == "identical"
    assert "identical to production" in verdict.findings[0].sentence
    assert verdict.outcome == "fail"


def test_precedence_of_fail_over_unmeasurable_over_inconclusive():
    candidate = scores([1] * 10 + [0] * 40)
    low, unknown, near = at_least("exact_match", 0.6), at_least("fluency", 0.5), at_least("exact_match", 0.2)
    assert decide(Policy(requirements=(near, unknown, low)), candidate, {}).outcome == "fail"
    assert decide(Policy(requirements=(near, unknown)), candidate, {}).outcome == "unmeasurable"
    assert decide(Policy(requirements=(near,)), candidate, {}).outcome == "inconclusive"


def test_floors_and_ceilings_of_right_or_wrong_scores():
    candidate = scores([1] * 110 + [0] * 40)
    verdict = decide(floor(0.6), candidate, {})
    assert verdict.findings[0].sentence == (
        "exact_match: 0.73 over 150 examples; the true mean is between 0.67 and 0.79 (90 % interval), "
        "which is above the floor of 0.60."
    )
    assert decide(floor(0.72), candidate, {}).outcome == "inconclusive"
    assert decide(floor(0.9), candidate, {}).outcome == "fail"
    assert decide(Policy(requirements=(at_most("exact_match", 0.85),)), candidate, {}).outcome == "pass"
    assert decide(Policy(requirements=(at_most("exact_match", 0.6),)), candidate, {}).outcome == "fail"
    perfect = decide(floor(1.0), scores([1] * 500), {})
    assert perfect.outcome == "inconclusive"
    assert "perfect" in perfect.findings[0].advice


def test_missing_rows_count_0_towards_a_floor_s_pass_and_1_towards_its_fail():
    finding = decide(floor(0.9), scores([None] * 2 + [1] * 98), {}).findings[0]
    assert finding.low == pytest.approx(0.938, abs=0.001)
    assert finding.high == 1.0


def test_lower_is_better_turns_every_sign():
    errors = Metric(name="error_rate", direction="lower")
    candidate, baseline = pair(
        30, 2, 150, metric=errors
    )  # 30 examples where the candidate errs and production not
    verdict = against(candidate, baseline, metric="error_rate")
    (finding,) = verdict.findings
    assert verdict.outcome == "fail"
    assert finding.estimate == pytest.approx(28 / 150)
    assert finding.low < finding.estimate < finding.high
    assert finding.limit == 0.05
    better = against(
        baseline,
        candidate.__class__(
            identity=identity("sha256:x", (errors,)), planned=candidate.planned, rows=candidate.rows
        ),
        metric="error_rate",
    )
    assert better.outcome == "pass"
    assert "rules out a rise of 0.05 or more" in better.findings[0].sentence


def test_a_range_other_than_0_to_1_keeps_its_own_unit():
    stars = Metric(name="stars", low=1, high=5)
    rng = random.Random(5)
    old = [rng.choice([2, 3, 4]) for _ in range(200)]
    candidate = scores([v + rng.choice([-1, 0, 0, 1]) for v in old], metric=stars)
    baseline = scores(old, subject="sha256:old", metric=stars)
    finding = against(candidate, baseline, metric="stars", margin=0.4).findings[0]
    assert finding.method == "cluster-t"
    assert finding.outcome == "pass"
    assert finding.limit == -0.4
    assert finding.low < finding.candidate - finding.baseline < finding.high
    assert 1 < finding.candidate < 5


def test_trials_are_averaged_and_never_n():
    rng = random.Random(3)
    new = [[int(rng.random() < 0.8) for _ in range(5)] for _ in range(60)]
    old = [[int(rng.random() < 0.8) for _ in range(5)] for _ in range(60)]
    finding = against(
        scores(new, trials=5), scores(old, trials=5, subject="sha256:old"), margin=0.2
    ).findings[0]
    assert (finding.n, finding.clusters, finding.planned) == (60, 60, 600)
    assert finding.method == "cluster-t"
    once = against(
        scores([[v, v, v] for v in [1] * 90 + [0] * 10], trials=3),
        scores([[1, 1, 1]] * 100, trials=3, subject="sha256:old"),
    )
    alone = against(scores([1] * 90 + [0] * 10), scores([1] * 100, subject="sha256:old"))
    assert once.findings[0].p_not_worse == alone.findings[0].p_not_worse


def test_fewer_than_20_clusters_decide_nothing_and_say_how_many_examples_would():
    clusters = [f"doc{i % 10}" for i in range(200)]
    candidate, baseline = pair(0, 90, 200, clusters=clusters)
    (finding,) = against(candidate, baseline).findings
    assert finding.outcome == "inconclusive"
    assert finding.p_not_worse is None
    assert "10 independent clusters are too few" in finding.advice
    assert finding.more_examples == 200


def test_unequal_clusters_count_as_fewer():
    clusters = ["giant" if i < 150 else f"doc{i}" for i in range(200)]
    (finding,) = against(*pair(5, 5, 200, clusters=clusters)).findings
    assert finding.outcome == "inconclusive"
    assert "so unequal that they count as 1" in finding.advice


def test_clusters_widen_the_interval():
    values = [1, 1, 1, 1, 0] * 80
    clusters = [f"doc{i // 5}" for i in range(400)]
    together = [0 if i % 25 < 5 else 1 for i in range(400)]
    old = scores([1] * 400, subject="sha256:old", clusters=clusters)
    spread = against(scores(values, clusters=clusters), old).findings[0]
    lumped = against(scores(together, clusters=clusters), old).findings[0]
    assert spread.estimate == pytest.approx(lumped.estimate)
    assert lumped.low < spread.low
    assert spread.clusters == 80


def seconds(n, factor=1.0, seed=1, **kw):
    rng = random.Random(seed)
    return scores([factor * rng.lognormvariate(0, 0.5) for _ in range(n)], metric=LATENCY, **kw)


def test_a_metric_without_a_range_is_compared_by_shares():
    old = seconds(80, subject="sha256:old")
    faster, slower = seconds(80, 0.95), seconds(80, 1.4)
    good = against(faster, old, metric="latency", margin=0.1, relative=True).findings[0]
    assert (good.outcome, good.method) == ("pass", "paired-log-t")
    assert good.estimate == pytest.approx(-0.05)
    assert "rules out a rise of 10 % or more" in good.sentence
    bad = against(slower, old, metric="latency", margin=0.1, relative=True).findings[0]
    assert bad.outcome == "fail"
    few = against(seconds(20), seconds(20, subject="sha256:old"), metric="latency", margin=0.1, relative=True)
    assert few.outcome == "inconclusive"
    assert "30 are needed" in few.findings[0].advice


def test_any_missing_row_leaves_a_metric_without_a_range_unmeasurable():
    torn = scores([None] + [1.0] * 199, metric=LATENCY)
    unmeasurable(decide(Policy(requirements=(at_most("latency", 2),)), torn, {}), "none may be")


def test_ceilings_without_a_range():
    policy = Policy(requirements=(at_most("latency", 1.5),))
    verdict = decide(policy, seconds(100), {})
    assert verdict.outcome == "pass"
    assert "geometric mean" in verdict.findings[0].sentence
    assert decide(policy, seconds(100, 3.0), {}).outcome == "fail"
    free = scores([0.0] * 50, metric=LATENCY)
    assert decide(policy, free, {}).outcome == "pass"
    unmeasurable(
        against(free, seconds(50, subject="sha256:old"), metric="latency", margin=0.1, relative=True),
        "no ratio",
    )


def test_holm_spares_one_weak_loss_among_many_requirements():
    names = [f"m{i}" for i in range(5)]
    metrics = tuple(Metric(name=n) for n in names)

    def arm(subject, first):
        rows = tuple(
            Row(
                example_id=f"e{i}",
                scores=tuple(Score(name=n, value=float(first(i) if n == "m0" else 1)) for n in names),
            )
            for i in range(60)
        )
        return Scores(identity=identity(subject, metrics), planned=tuple(r.key for r in rows), rows=rows)

    candidate, baseline = arm("sha256:new", lambda i: i > 5), arm("sha256:old", lambda i: 1)
    alone = Policy(requirements=(not_worse_than("production", "m0", margin=0.01),))
    many = Policy(requirements=tuple(not_worse_than("production", n, margin=0.01) for n in names))
    assert decide(alone, candidate, {"production": baseline}).outcome == "fail"
    verdict = decide(many, candidate, {"production": baseline})
    assert verdict.findings[0].outcome == "inconclusive"
    assert verdict.findings[0].p_worse_holm == pytest.approx(5 * verdict.findings[0].p_worse)


def test_later_looks_are_stricter_and_named():
    candidate, baseline = pair(3, 10, 200)
    first, second = against(candidate, baseline), against(candidate, baseline, look=2)
    assert (first.alpha, second.alpha) == (0.05, 0.0125)
    assert second.findings[0].low < first.findings[0].low
    assert "look 2" in second.sentence
    assert "97.5 % interval" in second.findings[0].sentence
    with pytest.raises(InvalidValue):
        against(candidate, baseline, look=0)


def test_the_printed_interval_never_contradicts_the_outcome():
    for wins in range(0, 30, 3):
        for losses in range(0, 30, 3):
            finding = against(*pair(wins, losses, 150)).findings[0]
            if finding.outcome == "pass":
                shown = finding.sentence.split("between ")[1].split(" and ")[0]
                assert float(shown.replace("−", "-")) > -0.05


def test_policies_refuse_numbers_that_mean_nothing():
    for bad in (0.0, -0.1, float("nan"), float("inf")):
        with pytest.raises(InvalidValue):
            not_worse_than("production", "m", margin=bad)
    with pytest.raises(InvalidValue):
        at_least("m", float("nan"))
    with pytest.raises(InvalidValue):
        Policy(requirements=(), alpha=0.5)
    with pytest.raises(InvalidValue):
        Policy(requirements=(), max_missing=1.0)


def test_the_guarantee_in_words():
    assert "1 time in 20 at most" in GUARANTEE
    assert guarantee(0.05) == GUARANTEE
    assert "1 time in 80" in guarantee(0.0125)


def test_importing_the_room_loads_neither_numpy_nor_scipy():
    code = "import sys, steelyard.gates; print([m for m in ('numpy', 'scipy', 'pandas') if m in sys.modules])"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == "[]"


# Beside the verdict


def test_changed_most():
    candidate, baseline = pair(2, 3, 50)
    found = changed_most(candidate, baseline, "exact_match", 2)
    assert [c.example_id for c in found.better] == ["e00000", "e00001"]
    assert [c.example_id for c in found.worse] == ["e00002", "e00003"]
    assert (found.n_worse, found.n_better) == (3, 2)
    assert found.worse[0].change == -1
    with pytest.raises(NotFound):
        changed_most(candidate, baseline, "fluency", 2)


def test_slices_are_advisory_means_with_n():
    def sliced(values, subject):
        plain = scores(values, subject=subject)
        rows = tuple(
            replace(r, slices={"language": "ja" if i % 4 == 0 else "en"}) for i, r in enumerate(plain.rows)
        )
        return Scores(identity=plain.identity, planned=plain.planned, rows=rows)

    candidate = sliced([0 if i % 4 == 0 else 1 for i in range(80)], "sha256:new")
    baseline = sliced([1] * 80, "sha256:old")
    en, ja = slices(candidate, baseline, "exact_match", "language")
    assert (en.value, en.n, en.change, en.p_worse) == ("en", 60, 0.0, 1.0)
    assert (ja.value, ja.n, ja.candidate, ja.baseline, ja.change) == ("ja", 20, 0.0, 1.0, -1.0)
    assert ja.p_worse_bh == pytest.approx(2 * 0.5**20)
    assert slices(candidate, None, "exact_match", "language")[1].baseline is None


def test_discordance_of_an_earlier_pair_feeds_the_plan():
    candidate, baseline = pair(6, 4, 100)
    assert discordance(candidate, baseline, "exact_match") == pytest.approx(0.1)
    assert discordance(seconds(50), seconds(50, subject="sha256:old", seed=2), "latency") == pytest.approx(
        0.7, abs=0.15
    )


def test_plan_tells_the_chances_before_a_run():
    policy = Policy(
        requirements=(
            not_worse_than("production", "exact_match", margin=0.05),
            at_least("exact_match", 0.6),
            not_worse_than("production", "latency", margin=0.1, relative=True),
            at_most("latency", 2),
        )
    )
    made = plan(policy, [EXACT, LATENCY], 200)
    loss, floor_line, ratio, ceiling = made.requirements
    assert loss.p_pass[1] == pytest.approx(0.70, abs=0.01)
    assert "70 % of the time" in loss.sentence.replace("69 %", "70 %")
    assert loss.detectable == pytest.approx(0.058, abs=0.002)
    assert loss.needed == n_for_pass(0.1, 0.05)
    assert "0.69 or more" in floor_line.sentence
    assert ratio.p_pass[1] > 0.9
    assert ceiling.detectable < 2
    few = plan(policy, [EXACT, LATENCY], 15)
    assert few.requirements[2].p_pass == (0, 0, 0)
    clustered = plan(policy, [EXACT, LATENCY], 200, clusters=10)
    assert clustered.requirements[0].needed == 400
    with pytest.raises(NotFound):
        plan(policy, [EXACT], 200)
    with pytest.raises(InvalidValue):
        plan(policy, [EXACT, LATENCY], 0)
