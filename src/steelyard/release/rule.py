"""The rule of promotion, as a pure function: which evidence carries a candidate, or what is missing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from steelyard.core.canonical import short
from steelyard.store import EvidenceInfo

__all__ = ["DECIDED", "Standing", "newest", "weigh_evidence"]

DECIDED = ("pass", "fail", "inconclusive", "unmeasurable")
"""Outcomes of a verdict; evidence with any other outcome was never decided on and does not count."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What the evidence says of a candidate.

    Attributes:
        carried: The evidence that carries the promotion, one a required gate.
        missing: What is missing, each a clause; empty if nothing is.
    """

    carried: tuple[EvidenceInfo, ...]
    missing: tuple[str, ...]


def newest(evidence: Sequence[EvidenceInfo], gate: str) -> EvidenceInfo | None:
    """The newest decided evidence of a gate, or None. Later in the sequence wins among equals."""
    decided = [e for e in evidence if e.gate == gate and e.outcome in DECIDED]
    return max(enumerate(decided), key=lambda pair: (pair[1].created, pair[0]))[1] if decided else None


def weigh_evidence(
    candidate: str,
    *,
    alias: str,
    current: str,
    required: Mapping[str, str],
    evidence: Sequence[EvidenceInfo],
) -> Standing:
    """Whether evidence carries a candidate to an alias.

    For every required gate the newest decided evidence of that very candidate counts, and no other: it must
    have passed, under the required policy, against the version the alias stands at now. A gate that compares
    with nothing may be required beside others, but at least one must compare.

    Args:
        candidate: Digest of the candidate version.
        alias: The alias that is to move.
        current: Digest that the alias stands at.
        required: Policy digest by gate.
        evidence: What the store has of this name, oldest first; other candidates' is left out here.
    """
    own = [e for e in evidence if e.subject == candidate]
    carried: list[EvidenceInfo] = []
    missing: list[str] = []
    if not required:
        missing.append(f"no gate is required for {alias!r}, so no evidence can carry it")
    for gate, policy in sorted(required.items()):
        found = newest(own, gate)
        if found is None:
            missing.append(f"gate {gate!r} has not decided on {short(candidate)}")
        elif found.policy != policy:
            missing.append(
                f"gate {gate!r} was decided by policy {short(found.policy)}, "
                f"but {short(policy)} is required (evidence {found.id})"
            )
        elif found.outcome != "pass":
            missing.append(f"the newest verdict of gate {gate!r} is {found.outcome} (evidence {found.id})")
        elif alias in found.baselines and found.baselines[alias] != current:
            missing.append(
                f"gate {gate!r} compared with {short(found.baselines[alias])}, "
                f"but {alias!r} is at {short(current)} now (evidence {found.id})"
            )
        else:
            carried.append(found)
    if required and not missing and not any(alias in e.baselines for e in carried):
        missing.append(f"no required gate compares with {alias!r}: floors alone do not replace what is live")
    return Standing(carried=tuple(carried), missing=tuple(missing))
