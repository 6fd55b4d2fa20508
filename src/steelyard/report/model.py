"""What a report is made from: values, gathered by whoever ran the gate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.results import Scores
from steelyard.gates.verdict import OUTCOMES, Finding, Outcome, Verdict, worst

__all__ = ["Creep", "GateReport", "SessionReport"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Creep:
    """How the candidate stands against a version of long ago; advice, not part of the verdict.

    Attributes:
        alias: The alias of that version.
        subject: Digest it stands at.
        findings: One a relative requirement of the gate, against that version.
        reason: Why there is nothing to compare, a sentence; None if there is.
    """

    alias: str
    subject: str
    findings: tuple[Finding, ...] = ()
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GateReport:
    """Everything a report shows of one gate. Only `gate` and `verdict` are needed.

    Attributes:
        gate: The gate's name, such as the test's id.
        verdict: The answer.
        candidate: The candidate's rows; None where nothing was run.
        baselines: The rows of each baseline, by alias; None where it is absent.
        inputs: Inputs of each example, by example id.
        references: Reference outputs of each example, by example id.
        evidence_id: The candidate's evidence bundle.
        baseline_source: By alias, where its rows come from: `"stored evidence <id>"`, `"run anew"` or
            `"identical"`.
        unset: Aliases compared with that stand nowhere yet.
        prompt_name: The prompt weighed; None where the task uses none.
        prompt_texts: Prompt texts under `"candidate"` and each alias, for the prompt diff.
        git_revision: The commit the code was at.
        git_dirty: Whether there were uncommitted changes.
        replay_counts: Model calls by where they were answered: `hit` (a recording) and `live`.
        seconds: Wall seconds of the gate.
        advisory: Rows reported and not gated, by a name such as `"language=ja"`; None where none ran.
        plan_sentence: What the plan said beforehand: the chance to pass and the smallest effect seen.
        creep: The change since the anchor; None where no anchor is set.
        error: Why the gate could not be decided at all, in words.
    """

    gate: str
    verdict: Verdict
    candidate: Scores | None = None
    baselines: Mapping[str, Scores | None] = field(default_factory=dict[str, Scores | None])
    inputs: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    references: Mapping[str, JSON] = field(default_factory=dict[str, Any])
    evidence_id: str | None = None
    baseline_source: Mapping[str, str] = field(default_factory=dict[str, str])
    unset: Sequence[str] = ()
    prompt_name: str | None = None
    prompt_texts: Mapping[str, str] = field(default_factory=dict[str, str])
    git_revision: str | None = None
    git_dirty: bool = False
    replay_counts: Mapping[str, int] = field(default_factory=dict[str, int])
    seconds: float = 0.0
    advisory: Mapping[str, Scores | None] = field(default_factory=dict[str, Scores | None])
    plan_sentence: str | None = None
    creep: Creep | None = None
    error: str | None = None

    @property
    def outcome(self) -> Outcome:
        """The verdict's outcome; a gate with an error never passes, whatever its verdict says."""
        if self.error is not None:
            return worst((self.verdict.outcome, "unmeasurable"))
        return self.verdict.outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionReport:
    """All gates of a session, such as one `pytest evals/`.

    Attributes:
        gates: The gates, in the order they were decided.
        created: When, as text people read: `"2026-11-23 21:45 UTC"`.
        title: The report's heading.
    """

    gates: tuple[GateReport, ...]
    created: str = ""
    title: str = "Steelyard report"

    @property
    def outcome(self) -> Outcome:
        """The worst outcome; no gate at all is unmeasurable."""
        return worst(tuple(g.outcome for g in self.gates))

    @property
    def counts(self) -> Mapping[Outcome, int]:
        """How many gates ended in each outcome, worst first, zeros left out."""
        found = [g.outcome for g in self.gates]
        return {o: found.count(o) for o in OUTCOMES if o in found}
