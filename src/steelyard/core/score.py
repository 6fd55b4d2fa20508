"""Scores and failures: what one evaluator says of one output, and what went wrong instead."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from sys import intern
from typing import Literal

from steelyard.core.canonical import JSON
from steelyard.core.errors import InvalidValue

__all__ = ["FAILURE_KINDS", "Direction", "Failure", "Metric", "Score"]

Direction = Literal["higher", "lower"]

FAILURE_KINDS = (
    "transport",  # no connection, reset, DNS, TLS
    "timeout",  # no answer in time, of a call, a task or an evaluator
    "rate_limit",  # 429 after the last retry
    "auth",  # 401, 403
    "bad_request",  # 400, 404, 422: trying again cannot help
    "provider",  # 5xx after the last retry, or an answer that is no completion
    "replay_miss",  # replay mode, and nobody recorded this request
    "task",  # the task's own code raised
    "evaluator",  # an evaluator raised, or returned something that is no score
    "judge",  # a judge's answer could not be read as its type
    "budget",  # not run: the budget was spent
    "cancelled",  # not run: the run was stopped
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """Why there is no value. A failure is never a score.

    Attributes:
        kind: One word of `FAILURE_KINDS`.
        message: What happened, in one line or a few.
        status: HTTP status, where there was one.
    """

    kind: str
    message: str
    status: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in FAILURE_KINDS:
            raise InvalidValue(
                f"{self.kind!r} is no kind of failure", do=f"Use one of {', '.join(FAILURE_KINDS)}."
            )

    def to_json(self) -> dict[str, JSON]:
        """The failure as a JSON object."""
        out: dict[str, JSON] = {"kind": self.kind, "message": self.message}
        return out | ({"status": self.status} if self.status is not None else {})

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Failure:
        """The failure that `to_json` wrote."""
        return cls(kind=value["kind"], message=value["message"], status=value.get("status"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Metric:
    """What an evaluator measures: a name, which way is better, and the range of its values.

    Attributes:
        name: The metric's name; unique in a run.
        direction: `"higher"` or `"lower"` is better.
        low: Smallest possible value, or None where there is no range.
        high: Largest possible value, or None.
        unit: `"s"`, `"USD"`, `"tokens"`, for people.
    """

    name: str
    direction: Direction = "higher"
    low: float | None = 0.0
    high: float | None = 1.0
    unit: str | None = None

    def __post_init__(self) -> None:
        if self.bounded and not self.low < self.high:  # type: ignore[operator]
            raise InvalidValue(
                f"metric {self.name!r} has the range [{self.low}, {self.high}]",
                do="Give a low end that is smaller than the high end, or None for both.",
            )

    @property
    def bounded(self) -> bool:
        """Whether the metric has a range (both ends)."""
        return self.low is not None and self.high is not None

    @property
    def span(self) -> float:
        """How far the range reaches; 1 for a metric without one."""
        return self.high - self.low if self.low is not None and self.high is not None else 1.0

    def to_json(self) -> dict[str, JSON]:
        """The metric as a JSON object."""
        return {
            "name": self.name,
            "direction": self.direction,
            "low": self.low,
            "high": self.high,
            "unit": self.unit,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Metric:
        """The metric that `to_json` wrote."""
        return cls(**{k: value[k] for k in ("name", "direction", "low", "high", "unit")})


@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """What one evaluator says of one output: a value, or an error, never both and never neither.

    Attributes:
        name: The metric.
        value: A finite number (True and False are 1.0 and 0.0); None with an error.
        label: A word for it, such as the category or `"invalid_output"`.
        explanation: Why, in words.
        error: Why there is no value.
        evaluator_version: Digest of the evaluator.

    Raises:
        InvalidValue: NaN or an infinity, both a value and an error, or neither.
    """

    name: str
    value: float | None = None
    label: str | None = None
    explanation: str | None = None
    error: Failure | None = None
    evaluator_version: str | None = None

    def __post_init__(self) -> None:
        if self.value is not None and not math.isfinite(self.value):
            raise InvalidValue(
                f"score {self.name!r} is {self.value}",
                do="Return a finite number, or raise: an error is not a score.",
            )
        if (self.value is None) == (self.error is None):
            raise InvalidValue(
                f"score {self.name!r} needs exactly one of value and error",
                do="Return a number, or raise: an error is not a score.",
            )

    def to_json(self) -> dict[str, JSON]:
        """The score as a JSON object, empty fields left out."""
        out: dict[str, JSON] = {"name": self.name}
        for key in ("value", "label", "explanation", "evaluator_version"):
            if (value := getattr(self, key)) is not None:
                out[key] = value
        return out | ({"error": self.error.to_json()} if self.error else {})

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Score:
        """The score that `to_json` wrote."""
        error, version = value.get("error"), value.get("evaluator_version")
        return cls(
            name=intern(value["name"]),  # 100,000 rows repeat a few names and digests
            value=value.get("value"),
            label=value.get("label"),
            explanation=value.get("explanation"),
            error=Failure.from_json(error) if error else None,
            evaluator_version=intern(version) if version is not None else None,
        )
