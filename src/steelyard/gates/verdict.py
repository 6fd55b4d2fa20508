"""The answer of a gate, as values. Its JSON holds no clock and no run id: same evidence, same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from steelyard.core.canonical import JSON, canonical, digest
from steelyard.core.results import Identity
from steelyard.gates.policy import Policy, Requirement

__all__ = ["OUTCOMES", "Finding", "Outcome", "Verdict", "worst"]

Outcome = Literal["pass", "fail", "inconclusive", "unmeasurable"]
OUTCOMES: tuple[Outcome, ...] = ("fail", "unmeasurable", "inconclusive", "pass")
"""From worst to best: the precedence when several requirements are put together."""


def worst(outcomes: tuple[Outcome, ...]) -> Outcome:
    """The overall outcome; no requirement at all is unmeasurable, never a pass."""
    return min(outcomes, key=OUTCOMES.index) if outcomes else "unmeasurable"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What is said of one requirement.

    Attributes:
        requirement: The requirement.
        outcome: The answer.
        sentence: The answer in plain words, one or two sentences.
        candidate: Mean of the candidate, in the metric's own unit; None where nothing was measured.
        baseline: Mean of the baseline over the compared examples; None for floors and ceilings.
        estimate: What is judged: the mean itself, or candidate − baseline, in the metric's own unit; for a
            relative margin the typical change as a share of the baseline (−0.05 is 5 % less).
        low: Lower end of the two-sided interval around `estimate` at level 1 − 2α (at this look's α). Missing
            rows count against the candidate at the end that could make it pass. None where there is no end.
        high: Upper end.
        limit: What the interval is held against: floor, ceiling, or −margin (+margin where lower is better).
        n: Examples measured.
        clusters: Independent clusters among them.
        missing: Planned rows without a score, of both arms.
        planned: Planned rows, of both arms.
        invalid: Rows scored worst for `invalid_output`, of both arms.
        p_not_worse: p-value of question 1.
        p_worse: p-value of question 2, before Holm.
        p_worse_holm: p-value of question 2, after Holm.
        method: The test's name: `"tango"` (with exact McNemar for question 2), `"clopper-pearson"`,
            `"cluster-t"`, `"paired-log-t"`, `"identical"`.
        more_examples: How many more examples would likely decide it; None where that is unknown or moot.
        advice: What to do next, a sentence; empty on a pass.
    """

    requirement: Requirement
    outcome: Outcome
    sentence: str
    candidate: float | None = None
    baseline: float | None = None
    estimate: float | None = None
    low: float | None = None
    high: float | None = None
    limit: float | None = None
    n: int = 0
    clusters: int = 0
    missing: int = 0
    planned: int = 0
    invalid: int = 0
    p_not_worse: float | None = None
    p_worse: float | None = None
    p_worse_holm: float | None = None
    method: str | None = None
    more_examples: int | None = None
    advice: str = ""

    def to_json(self) -> dict[str, JSON]:
        """The finding as a JSON object, numbers at 9 significant digits."""
        out: dict[str, Any] = {f: _round(getattr(self, f)) for f in self.__dataclass_fields__}
        return out | {"requirement": self.requirement.to_json()}

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Finding:
        """The finding that `to_json` wrote."""
        fields: dict[str, Any] = {**value}
        fields["requirement"] = Requirement.from_json(value["requirement"])
        return cls(**fields)


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The answer of a gate.

    Attributes:
        outcome: fail > unmeasurable > inconclusive > pass over all findings.
        sentence: The answer in plain words.
        findings: One a requirement, in the policy's order.
        policy: The policy that decided.
        candidate: What was weighed; None where nothing could be run.
        baselines: What it was compared with, by alias.
        look: Which look at this pair on this dataset, 1 and up.
        alpha: The error rate after the correction for looks.
        reasons: Why it is unmeasurable as a whole (empty dataset, no evaluator …), each a sentence.
    """

    outcome: Outcome
    sentence: str
    findings: tuple[Finding, ...]
    policy: Policy
    candidate: Identity | None = None
    baselines: Mapping[str, Identity]
    look: int = 1
    alpha: float
    reasons: tuple[str, ...] = ()

    def to_json(self) -> dict[str, JSON]:
        """The verdict as a JSON object: no clock, no run id, numbers at 9 significant digits."""
        return {
            "format": 1,
            "outcome": self.outcome,
            "sentence": self.sentence,
            "findings": [f.to_json() for f in self.findings],
            "policy": self.policy.to_json(),
            "candidate": self.candidate.to_json() if self.candidate else None,
            "baselines": {k: v.to_json() for k, v in self.baselines.items()},
            "look": self.look,
            "alpha": _round(self.alpha),
            "reasons": list(self.reasons),
        }

    def to_bytes(self) -> bytes:
        """The canonical bytes of the verdict."""
        return canonical(self.to_json())

    @property
    def digest(self) -> str:
        """`sha256:<hex>` of the verdict."""
        return digest(self.to_json())

    @classmethod
    def from_json(cls, value: Mapping[str, JSON]) -> Verdict:
        """The verdict that `to_json` wrote."""
        candidate = value["candidate"]
        return cls(
            outcome=value["outcome"],
            sentence=value["sentence"],
            findings=tuple(Finding.from_json(f) for f in value["findings"]),
            policy=Policy.from_json(value["policy"]),
            candidate=Identity.from_json(candidate) if candidate else None,
            baselines={k: Identity.from_json(v) for k, v in value["baselines"].items()},
            look=value["look"],
            alpha=value["alpha"],
            reasons=tuple(value["reasons"]),
        )


def _round(value: Any) -> Any:
    return float(f"{value:.9g}") if isinstance(value, float) else value
