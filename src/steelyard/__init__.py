"""Steelyard: versioned prompts, honest gates, evidence before promotion.

Names are loaded when they are first used: importing the package costs nothing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from steelyard.core.dataset import Dataset, Example
    from steelyard.core.errors import GateFailed, InvalidOutput, SteelyardError
    from steelyard.core.score import Score
    from steelyard.core.settings import load_settings
    from steelyard.evals.evaluators import (
        adapt,
        contains,
        cost,
        evaluator,
        exact_match,
        json_schema,
        judge,
        latency,
        length,
        numeric_close,
        one_of,
        regex,
    )
    from steelyard.evals.spec import Gate
    from steelyard.gates.policy import at_least, at_most, not_worse_than
    from steelyard.lm.langchain_lm import chat_model
    from steelyard.prompts import load_prompt
    from steelyard.prompts.serve import prompt

_HOMES = {
    "Dataset": "core.dataset",
    "Example": "core.dataset",
    "Gate": "evals.spec",
    "GateFailed": "core.errors",
    "InvalidOutput": "core.errors",
    "Score": "core.score",
    "SteelyardError": "core.errors",
    "adapt": "evals.evaluators",
    "at_least": "gates.policy",
    "chat_model": "lm.langchain_lm",
    "at_most": "gates.policy",
    "contains": "evals.evaluators",
    "cost": "evals.evaluators",
    "evaluator": "evals.evaluators",
    "exact_match": "evals.evaluators",
    "json_schema": "evals.evaluators",
    "judge": "evals.evaluators",
    "latency": "evals.evaluators",
    "length": "evals.evaluators",
    "load_prompt": "prompts",
    "load_settings": "core.settings",
    "not_worse_than": "gates.policy",
    "numeric_close": "evals.evaluators",
    "one_of": "evals.evaluators",
    "prompt": "prompts.serve",
    "regex": "evals.evaluators",
}

__all__ = [  # noqa: RUF022 - by subject
    "Gate",
    "at_least",
    "at_most",
    "not_worse_than",
    "Dataset",
    "Example",
    "Score",
    "adapt",
    "contains",
    "cost",
    "evaluator",
    "exact_match",
    "json_schema",
    "judge",
    "latency",
    "length",
    "numeric_close",
    "one_of",
    "regex",
    "chat_model",
    "load_prompt",
    "prompt",
    "load_settings",
    "GateFailed",
    "InvalidOutput",
    "SteelyardError",
]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'steelyard' has no attribute {name!r}")
    from importlib import import_module

    value = getattr(import_module(f"steelyard.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
