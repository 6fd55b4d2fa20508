"""Evaluators: plain values that score one row. Factories record their arguments; functions are decorated."""

from steelyard.evals.evaluators.base import Evaluator, Sample
from steelyard.evals.evaluators.foreign import adapt
from steelyard.evals.evaluators.function import evaluator
from steelyard.evals.evaluators.judge import judge
from steelyard.evals.evaluators.resources import cost, latency, output_tokens
from steelyard.evals.evaluators.scoring import (
    EVALUATORS,
    invalid_output_scores,
    resolve_evaluators,
    score_row,
)
from steelyard.evals.evaluators.structure import json_schema, numeric_close
from steelyard.evals.evaluators.text import contains, exact_match, length, one_of, regex

__all__ = [
    "EVALUATORS",
    "Evaluator",
    "Sample",
    "adapt",
    "contains",
    "cost",
    "evaluator",
    "exact_match",
    "invalid_output_scores",
    "json_schema",
    "judge",
    "latency",
    "length",
    "numeric_close",
    "one_of",
    "output_tokens",
    "regex",
    "resolve_evaluators",
    "score_row",
]
