"""What every evaluator must do, as tests to inherit.

Write a class and three fixtures, and pytest runs all of it on your evaluator:

    from steelyard.testing.evaluator_contract import EvaluatorContract

    class TestPolite(EvaluatorContract):
        @pytest.fixture
        def make(self):
            return lambda: polite

        @pytest.fixture
        def better(self):
            return {"inputs": {"q": "hi"}, "outputs": "please", "reference_outputs": "please"}

        @pytest.fixture
        def worse(self):
            return {"inputs": {"q": "hi"}, "outputs": "go away", "reference_outputs": "please"}

`make` gives a function from nothing to the evaluator, made anew, as it stands in `evaluators=[...]`. `better`
and `worse` are two rows (`inputs`, `outputs`, `reference_outputs`, `metadata`) that it must tell apart. A
fourth, `broken`, may give evaluators of the same kind that raise, skip or return what is no score.
"""

# What tests do needs no docstring beyond their names.
# ruff: noqa: D102

from __future__ import annotations

import asyncio
import copy
import math
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from steelyard.core.canonical import is_digest
from steelyard.core.score import FAILURE_KINDS, Score
from steelyard.evals.evaluators import Evaluator, invalid_output_scores, resolve_evaluators, score_row

__all__ = ["EvaluatorContract", "scored"]

ROWS = 12


class EvaluatorContract:
    """Every obligation of `steelyard.evals.evaluators.Evaluator`, one test each."""

    @pytest.fixture
    def broken(self) -> Sequence[Any]:
        """Evaluators of this kind that give no score; none by default."""
        return ()

    def test_it_is_accepted_as_it_is(self, make: Callable[[], Any]) -> None:
        (evaluator,) = resolve_evaluators([make()])
        assert isinstance(evaluator, Evaluator)
        assert not evaluator.needs_lm, "bind its model before it is tried"
        assert evaluator.metrics
        assert len({m.name for m in evaluator.metrics}) == len(evaluator.metrics)
        for metric in evaluator.metrics:
            assert metric.name
            assert metric.direction in ("higher", "lower")

    def test_its_identity_is_that_of_its_twin(self, make: Callable[[], Any]) -> None:
        (one,), (two,) = resolve_evaluators([make()]), resolve_evaluators([make()])
        assert is_digest(one.digest)
        assert one.digest == two.digest

    def test_one_score_a_metric_within_its_range(
        self, make: Callable[[], Any], better: dict[str, Any]
    ) -> None:
        (evaluator,) = resolve_evaluators([make()])
        scores = scored([evaluator], better)
        assert [s.name for s in scores] == [m.name for m in evaluator.metrics]
        for metric, score in zip(evaluator.metrics, scores, strict=True):
            assert score.error is None, score.error
            assert score.value is not None
            assert math.isfinite(score.value)
            assert score.evaluator_version == evaluator.digest
            if metric.low is not None and metric.high is not None:
                assert metric.low <= score.value <= metric.high

    def test_it_tells_better_from_worse(
        self, make: Callable[[], Any], better: dict[str, Any], worse: dict[str, Any]
    ) -> None:
        (evaluator,) = resolve_evaluators([make()])
        good, bad = scored([evaluator], better), scored([evaluator], worse)
        assert all(s.error is None for s in (*good, *bad)), [s.error for s in (*good, *bad)]
        signs = [1 if m.direction == "higher" else -1 for m in evaluator.metrics]
        gains = [s * (g.value - b.value) for s, g, b in zip(signs, good, bad, strict=True)]  # type: ignore[operator]
        assert max(gains) > 0, "a better row scores no better"
        assert min(gains) >= 0, "a better row scores worse: is the direction right?"

    def test_the_same_row_scores_the_same_and_changes_nothing(
        self, make: Callable[[], Any], better: dict[str, Any], worse: dict[str, Any]
    ) -> None:
        (evaluator,) = resolve_evaluators([make()])
        before, kept = evaluator.digest, copy.deepcopy(better)
        first = scored([evaluator], better)
        scored([evaluator], worse)
        assert scored([evaluator], better) == first
        assert better == kept, "it writes on what it judges"
        assert evaluator.digest == before
        (again,) = resolve_evaluators([make()])
        assert again.digest == before, "having scored changes what it is"

    def test_rows_at_once_do_not_mix(
        self, make: Callable[[], Any], better: dict[str, Any], worse: dict[str, Any]
    ) -> None:
        (evaluator,) = resolve_evaluators([make()])
        alone = [_values(scored([evaluator], row)) for row in (better, worse)]

        async def crowd() -> list[Any]:
            rows = [(better, worse)[i % 2] for i in range(ROWS)]
            return [_values(s) for s in await asyncio.gather(*(_score([evaluator], r) for r in rows))]

        assert asyncio.run(crowd()) == alone * (ROWS // 2)

    def test_no_output_is_no_crash(self, make: Callable[[], Any], better: dict[str, Any]) -> None:
        (evaluator,) = resolve_evaluators([make()])
        scores = scored([evaluator], {**better, "outputs": None})
        assert [s.name for s in scores] == [m.name for m in evaluator.metrics]
        signs = {m.name: m for m in evaluator.metrics}
        for score, best in zip(scores, scored([evaluator], better), strict=True):
            if score.value is not None and best.value is not None:
                gain = score.value - best.value
                assert (gain if signs[score.name].direction == "higher" else -gain) <= 0

    def test_an_unusable_answer_scores_worst(self, make: Callable[[], Any]) -> None:
        (evaluator,) = resolve_evaluators([make()])
        scores = invalid_output_scores([evaluator], "not JSON")
        for metric, score in zip(evaluator.metrics, scores, strict=True):
            worst = metric.low if metric.direction == "higher" else metric.high
            assert score.value == worst if metric.bounded else score.error is not None

    def test_what_gives_no_score_is_an_error_and_never_a_value(
        self, broken: Sequence[Any], better: dict[str, Any]
    ) -> None:
        for given in broken:
            (evaluator,) = resolve_evaluators([given])
            scores = scored([evaluator], better)
            assert [s.name for s in scores] == [m.name for m in evaluator.metrics]
            for score in scores:
                assert score.value is None, f"{given!r} gave {score.value}"
                assert score.error is not None
                assert score.error.kind in FAILURE_KINDS
                assert score.error.message


async def _score(evaluators: Sequence[Evaluator], row: dict[str, Any]) -> tuple[Score, ...]:
    known = {
        k: copy.deepcopy(row[k]) for k in ("inputs", "outputs", "reference_outputs", "metadata") if k in row
    }
    inputs, outputs = known.get("inputs", {}), known.get("outputs")
    reference, metadata = known.get("reference_outputs"), known.get("metadata")
    scores = await score_row(
        evaluators, inputs=inputs, outputs=outputs, reference_outputs=reference, metadata=metadata
    )
    assert {k: row[k] for k in known} == known, "it writes on what it judges"
    return scores


def scored(evaluators: Sequence[Evaluator], row: dict[str, Any]) -> tuple[Score, ...]:
    """The scores of one row, as a run would give them."""
    return asyncio.run(_score(evaluators, row))


def _values(scores: Sequence[Score]) -> list[tuple[float | None, str | None]]:
    return [(s.value, s.label) for s in scores]
