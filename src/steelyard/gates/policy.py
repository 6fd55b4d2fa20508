"""What is demanded: requirements, and the policy they form."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from steelyard.core.canonical import JSON, canonical, digest
from steelyard.core.errors import InvalidValue

__all__ = ["Policy", "Requirement", "RequirementKind", "at_least", "at_most", "not_worse_than"]

_RESTORE = "Restore the evidence from the store, or run the eval again."
RequirementKind = Literal["at_least", "at_most", "not_worse"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Requirement:
    """One demand on one metric. Build it with `at_least`, `at_most` or `not_worse_than`.

    Attributes:
        kind: `at_least` and `at_most` compare with a number, `not_worse` with a baseline.
        metric: The metric's name.
        bound: The floor or ceiling, in the metric's own unit; None for `not_worse`.
        baseline: The alias compared with; None for floors and ceilings.
        margin: The tolerated loss: in the metric's own unit, or a share of the baseline if `relative`.
        relative: Whether the margin is a share (metrics without a range only).
    """

    kind: RequirementKind
    metric: str
    bound: float | None = None
    baseline: str | None = None
    margin: float | None = None
    relative: bool = False

    def to_json(self) -> dict[str, JSON]:
        """The requirement as a JSON object."""
        return {f: getattr(self, f) for f in self.__dataclass_fields__}

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Requirement:
        """The requirement that `to_json` wrote.

        Raises:
            InvalidValue: it is none that `at_least`, `at_most` or `not_worse_than` make.
        """
        try:
            given = cls(**value)
            made = _made_again(given)
        except (KeyError, TypeError, AttributeError):
            given = made = None
        if made is None or made != given or not isinstance(made.metric, str):  # pyright: ignore[reportUnnecessaryIsInstance] - read from JSON
            raise InvalidValue(
                f"the stored requirement {str(value)[:120]!r} is none that can be judged", do=_RESTORE
            )
        return made

    def __str__(self) -> str:
        if self.kind == "not_worse":
            margin = f"{100 * (self.margin or 0):.3g} %" if self.relative else f"{self.margin:.3g}"
            return f"{self.metric} not worse than {self.baseline} (margin {margin})"
        return f"{self.metric} {'≥' if self.kind == 'at_least' else '≤'} {self.bound:g}"


def at_least(metric: str, floor: float) -> Requirement:
    """The mean of the metric is proven to be at least `floor`.

    Raises:
        InvalidValue: the floor is NaN or infinite.
    """
    return Requirement(kind="at_least", metric=metric, bound=_finite(floor, "floor", metric))


def at_most(metric: str, ceiling: float) -> Requirement:
    """The mean of the metric is proven to be at most `ceiling` (latency, cost, length, error rates).

    For a metric without a range whose values are all above 0, the mean is the geometric one: a few slow
    answers do not hide what is typical, and the test stays calibrated.

    Raises:
        InvalidValue: the ceiling is NaN or infinite.
    """
    return Requirement(kind="at_most", metric=metric, bound=_finite(ceiling, "ceiling", metric))


def not_worse_than(baseline: str, metric: str, *, margin: float, relative: bool = False) -> Requirement:
    """The candidate is proven not to lose `margin` or more against the baseline, example by example.

    Args:
        baseline: An alias, such as `"production"`.
        metric: The metric's name.
        margin: The tolerated loss, above 0, in the metric's own unit.
        relative: Read the margin as a share of the baseline; for metrics without a range (latency, cost).

    Raises:
        InvalidValue: the margin is not above 0, or is infinite.
    """
    _finite(margin, "margin", metric)
    if not margin > 0:
        raise InvalidValue(
            f"margin={margin} for {metric!r}: no finite sample proves a loss of exactly nothing",
            do="Give the loss you can live with, such as margin=0.02.",
        )
    return Requirement(
        kind="not_worse", metric=metric, baseline=baseline, margin=float(margin), relative=relative
    )


def _made_again(given: Requirement) -> Requirement | None:
    """The requirement as its own constructor makes it; None where there is none for it."""
    if given.kind == "not_worse" and isinstance(given.baseline, str) and given.margin is not None:
        return not_worse_than(
            given.baseline, given.metric, margin=given.margin, relative=given.relative is True
        )
    if given.kind == "at_least" and given.bound is not None:
        return at_least(given.metric, given.bound)
    if given.kind == "at_most" and given.bound is not None:
        return at_most(given.metric, given.bound)
    return None


def _finite(value: float, what: str, metric: str) -> float:
    if not math.isfinite(value):
        raise InvalidValue(
            f"{what}={value} for {metric!r} is no number to compare with", do=f"Give a finite {what}."
        )
    return float(value)


@dataclass(frozen=True, kw_only=True)
class Policy:
    """All requirements of a gate and the error rate they share.

    Attributes:
        requirements: At least one is needed to measure anything.
        alpha: One-sided error rate of each question.
        max_missing: Largest share of planned rows that may be missing or in error.
        report_only: Rows whose metadata has all of these values are reported and not weighed; the caller
            leaves them out of what it hands to `decide`.
    """

    requirements: tuple[Requirement, ...]
    alpha: float = 0.05
    max_missing: float = 0.02

    def __post_init__(self) -> None:
        if not 0 < self.alpha < 0.5:
            raise InvalidValue(f"alpha={self.alpha} is no error rate", do="Give a share such as alpha=0.05.")
        if not 0 <= self.max_missing < 1:
            raise InvalidValue(
                f"max_missing={self.max_missing} is no share of rows", do="Give a share such as 0.02."
            )

    report_only: Mapping[str, str] = field(default_factory=dict[str, str])

    @cached_property
    def digest(self) -> str:
        """`sha256:<hex>` of the policy; the order of the requirements counts."""
        return digest(self.to_json())

    def to_json(self) -> dict[str, JSON]:
        """The policy as a JSON object."""
        return {
            "requirements": [r.to_json() for r in self.requirements],
            "alpha": self.alpha,
            "max_missing": self.max_missing,
            "report_only": dict(self.report_only),
        }

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Policy:
        """The policy that `to_json` wrote.

        Raises:
            InvalidValue: it is none.
        """
        try:
            report_only: Mapping[str, str] = value.get("report_only", {})
            policy = cls(
                requirements=tuple(Requirement.from_json(r) for r in value["requirements"]),
                alpha=value["alpha"],
                max_missing=value["max_missing"],
                report_only=dict(report_only),
            )
            canonical(policy.to_json())
        except (KeyError, TypeError, AttributeError, ValueError) as error:
            if isinstance(error, InvalidValue):
                raise
            raise InvalidValue(f"the stored policy has a wrong shape ({error!r:.80})", do=_RESTORE) from None
        return policy
