"""Numbers that others published, or that follow by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from steelyard.core.errors import InvalidValue
from steelyard.gates.binary import (
    binomial_or_fewer,
    binomial_or_more,
    clopper_pearson,
    mcnemar_asymptotic,
    mcnemar_exact,
    mcnemar_mid_p,
    mcnemar_worse,
    tango_interval,
    tango_p,
    wilson,
)
from steelyard.gates.clustered import cluster_se, cluster_sums, null_t, t_interval, t_p
from steelyard.gates.multiple import benjamini_hochberg, holm
from steelyard.gates.power import connor_n, floor_reach, n_for_pass, p_fail_paired, p_pass_paired
from steelyard.gates.sequential import e_worse
from steelyard.gates.trials import pass_at_k, pass_hat_k

# Benjamini and Hochberg 1995, section 4.1.
BH_1995 = [
    *(0.0001, 0.0004, 0.0019, 0.0095, 0.0201, 0.0278, 0.0298, 0.0344),
    *(0.0459, 0.3240, 0.4262, 0.5719, 0.6528, 0.7590, 1.0000),
]


def test_tango_on_the_table_of_fagerland_2014():
    assert tango_interval(1, 7, 21, level=0.95) == pytest.approx((-0.5172, -0.0260), abs=5e-5)


def test_tango_without_discordant_pairs_has_a_closed_form():
    z2 = 1.6448536269514722**2
    low, high = tango_interval(0, 0, 50, level=0.9)
    assert high == pytest.approx(z2 / (50 + z2), rel=1e-9)
    assert low == pytest.approx(-0.05133, abs=5e-6)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 40), st.integers(0, 40), st.integers(0, 100))
def test_tango_interval_and_test_agree(wins, losses, rest):
    n = max(1, wins + losses + rest)
    low, high = tango_interval(wins, losses, n, level=0.9)
    assert -1 <= low <= (wins - losses) / n <= high <= 1
    if low > -1 + 1e-9:
        assert float(tango_p(wins, losses, n, low)) == pytest.approx(0.05, abs=1e-6)
    mirrored = tango_interval(losses, wins, n, level=0.9)
    assert mirrored == pytest.approx((-high, -low), abs=1e-9)


def test_mcnemar():
    assert mcnemar_exact(1, 7) == pytest.approx(0.0703125, rel=1e-12)
    assert mcnemar_mid_p(1, 7) == pytest.approx(0.0390625, rel=1e-12)
    assert mcnemar_asymptotic(1, 7) == pytest.approx(0.0338949, abs=5e-8)
    assert mcnemar_exact(10, 2) == pytest.approx(0.03857421875, rel=1e-12)
    assert mcnemar_exact(8, 1) == pytest.approx(0.0390625, rel=1e-12)
    assert float(mcnemar_worse(1, 8)) == pytest.approx(0.0390625 / 2, rel=1e-12)
    assert float(mcnemar_worse(5, 0)) == 1.0
    assert float(mcnemar_worse(0, 0)) == 1.0


def test_clustered_standard_error():
    values = np.arange(20.0)
    assert cluster_se(values, np.arange(20) % 4) == pytest.approx(0.6454972243679, rel=1e-12)


def test_intervals_of_newcombe_1998():
    assert wilson(81, 263, level=0.95) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson(15, 148, level=0.95) == pytest.approx((0.0624, 0.1605), abs=5e-5)
    assert wilson(0, 20, level=0.95) == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert clopper_pearson(81, 263, level=0.95) == pytest.approx((0.2527, 0.3676), abs=5e-5)
    assert clopper_pearson(15, 148, level=0.95) == pytest.approx((0.0578, 0.1617), abs=5e-5)
    assert clopper_pearson(0, 20, level=0.9)[0] == 0.0
    assert clopper_pearson(20, 20, level=0.9)[1] == 1.0


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 60), st.integers(1, 60), st.floats(0.01, 0.99))
def test_binomial_tails_are_sums(k, n, rate):
    k = min(k, n)
    chances = [math.comb(n, i) * rate**i * (1 - rate) ** (n - i) for i in range(n + 1)]
    assert float(binomial_or_more(k, n, rate)) == pytest.approx(sum(chances[k:]), rel=1e-8, abs=1e-12)
    assert float(binomial_or_fewer(k, n, rate)) == pytest.approx(sum(chances[: k + 1]), rel=1e-8, abs=1e-12)


def test_connor_1987():
    assert [connor_n(0.1, d) for d in (0.05, 0.03, 0.02)] == [246, 685, 1544]


def test_e_process_for_losses_over_wins():
    pairs = [(8, 1), (10, 2), (15, 3), (0, 0)]
    assert [e_worse(losses, wins) for losses, wins in pairs] == pytest.approx(
        [11.2556, 9.4406, 33.7415, 1], abs=5e-5
    )
    assert e_worse(0, 40) == pytest.approx(1 / 41)
    assert e_worse(3000, 0) == math.inf


def test_pass_at_k_and_pass_hat_k():
    assert pass_at_k(5, 2, 2) == pytest.approx(0.7)
    assert pass_hat_k(5, 2, 2) == pytest.approx(0.1)
    assert pass_at_k(10, 3, 5) == pytest.approx(0.916667, abs=5e-7)
    with pytest.raises(InvalidValue, match="trials=6"):
        pass_at_k(5, 2, 6)
    with pytest.raises(InvalidValue, match="right of"):
        pass_hat_k(5, 6, 2)


def test_holm_and_benjamini_hochberg_on_the_paper_s_p_values():
    assert sum(p <= 0.05 for p in holm(BH_1995)) == 3
    assert sum(p <= 0.05 for p in benjamini_hochberg(BH_1995)) == 4
    assert holm([]) == []
    assert holm([0.04, 0.01]) == pytest.approx([0.04, 0.02])
    assert benjamini_hochberg([0.04, 0.01]) == pytest.approx([0.04, 0.02])


@pytest.mark.parametrize(
    ("n", "q", "p_pass", "p_fail"), [(50, 0.1, 0.24, 0.01), (200, 0.1, 0.70, 0.03), (1000, 0.2, 0.97, 0.04)]
)
def test_exact_chances_of_an_unchanged_candidate(n, q, p_pass, p_fail):
    assert p_pass_paired(n, q, 0.05) == pytest.approx(p_pass, abs=0.01)
    assert p_fail_paired(n, q, delta=0.0) == pytest.approx(p_fail, abs=0.01)


def test_a_two_point_margin_passes_an_unchanged_candidate_only_22_percent_of_the_time():
    assert p_pass_paired(200, 0.1, 0.02) == pytest.approx(0.22, abs=0.01)


def test_a_large_loss_is_found():
    assert p_fail_paired(50, 0.1, delta=-0.1) >= 0.5
    assert p_fail_paired(200, 0.1, delta=-0.1) >= 0.99


@pytest.mark.parametrize(("q", "margin"), [(0.1, 0.05), (0.2, 0.05), (0.1, 0.02), (0.3, 0.1)])
def test_the_n_that_is_advised_gives_the_power_that_is_promised(q, margin):
    assert p_pass_paired(n_for_pass(q, margin), q, margin) == pytest.approx(0.8, abs=0.03)


def test_the_approximation_for_huge_n_continues_the_exact_chance():
    exact, approximate = p_pass_paired(20_000, 0.2, 0.008), p_pass_paired(20_001, 0.2, 0.008)
    assert approximate == pytest.approx(exact, abs=0.01)


def test_floor_reach_is_where_the_floor_is_decided_8_times_in_10():
    up, down = floor_reach(150, 0.6)
    least = next(x for x in range(151) if binomial_or_more(x, 150, 0.6) <= 0.05)
    assert float(binomial_or_more(least, 150, up)) == pytest.approx(0.8, abs=1e-6)
    assert 0.49 < down < 0.51
    assert floor_reach(3, 0.9)[0] is None


def test_cluster_t_by_hand():
    values, clusters = np.array([1.0, 0.0, 1.0, 1.0, 0.0, 1.0]), np.array([0, 0, 1, 1, 2, 2])
    sums = cluster_sums(values, clusters)
    # Sums 1, 2, 1 over sizes 2, 2, 2; at 0.5 the residuals are 0, 1, 0.
    assert null_t(sums, 0.5) == pytest.approx((4 / 6 - 0.5) / (math.sqrt(1 * 3 / 2) / 6))
    assert t_p(sums, 0.5) == pytest.approx(0.249, abs=0.001)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.25, 1.0]), min_size=40, max_size=80), st.integers(1, 3))
def test_cluster_interval_is_what_the_test_does_not_reject(values, size):
    values = np.array(values)
    sums = cluster_sums(values, np.arange(len(values)) // size).plus(1.0, -1.0, size=size)
    low, high = t_interval(sums, level=0.9)
    assert low <= sums.mean <= high
    if math.isfinite(low):
        assert t_p(sums, low) == pytest.approx(0.05, abs=1e-6)
        assert t_p(sums.negated(), -high) == pytest.approx(0.05, abs=1e-6)
