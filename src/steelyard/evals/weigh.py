"""From evidence to verdict: a pure function of the bundle, with no model call and no clock."""

from __future__ import annotations

from dataclasses import replace

from steelyard.core.errors import Corrupt, InvalidValue
from steelyard.core.results import Scores
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.gates import decide
from steelyard.gates.policy import Policy
from steelyard.gates.verdict import Verdict

__all__ = ["advisory_part", "gated_part", "weigh"]


def weigh(bundle: EvidenceBundle, policy: Policy | None = None) -> Verdict:
    """The verdict of a bundle, computed anew.

    Args:
        bundle: The evidence.
        policy: The policy to decide by; the bundle's own if left out. Another one than the run was made for
            is unmeasurable: choosing the demands after seeing the results proves nothing.
    """
    manifest = bundle.manifest
    own = _own_policy(bundle)
    advisory = frozenset(manifest["advisory"])
    baselines: dict[str, Scores | None] = {}
    for alias in manifest["baselines"]:
        scores = bundle.baseline(alias)
        baselines[alias] = gated_part(scores, advisory) if scores else None
    return decide(
        policy or own,
        gated_part(bundle.scores, advisory),
        baselines,
        look=manifest["look"],
        policy_at_run=own.digest,
        reasons=tuple(manifest["reasons"]),
        absent=manifest.get("absent", {}),
    )


def _own_policy(bundle: EvidenceBundle) -> Policy:
    """The policy the run was made for."""
    file = bundle.folder / "manifest.json"
    for key in ("policy", "advisory", "baselines", "look", "reasons"):
        if key not in bundle.manifest:
            raise Corrupt(file, f"it lacks {key!r}", do="No verdict follows from it: run the eval again.")
    try:
        return Policy.from_json(bundle.manifest["policy"])
    except InvalidValue as error:
        raise Corrupt(file, error.what, do=error.do) from None


def gated_part(scores: Scores, advisory: frozenset[str]) -> Scores:
    """The rows that are weighed."""
    return _part(scores, advisory, keep=False)


def advisory_part(scores: Scores, advisory: frozenset[str]) -> Scores:
    """The rows that are only reported."""
    return _part(scores, advisory, keep=True)


def _part(scores: Scores, advisory: frozenset[str], *, keep: bool) -> Scores:
    if not advisory and not keep:
        return scores
    return replace(
        scores,
        planned=tuple(p for p in scores.planned if (p[0] in advisory) is keep),
        rows=tuple(r for r in scores.rows if (r.example_id in advisory) is keep),
    )
