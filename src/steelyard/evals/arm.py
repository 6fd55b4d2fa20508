"""One arm of a gate: the rows of one version on the dataset, as a bundle that survives its process."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from steelyard.core.canonical import JSON
from steelyard.core.clock import monotonic, stamp
from steelyard.core.dataset import Example
from steelyard.core.errors import Interrupted
from steelyard.core.results import Identity, Row, Usage
from steelyard.core.score import Failure, Score
from steelyard.evals.evaluators import invalid_output_scores
from steelyard.evals.evaluators.base import Sample
from steelyard.evals.evaluators.scoring import Scoring
from steelyard.evals.looping import run_sync
from steelyard.evals.prepared import Prepared
from steelyard.evals.record import record
from steelyard.evals.resume import Begun, begin, how_to_resume, storing
from steelyard.evals.runner import Progress, run_rows
from steelyard.evals.weigh import gated_part
from steelyard.evals.workspace import Workspace, provenance
from steelyard.evidence.bundle import EvidenceBundle
from steelyard.lm import Budget

__all__ = ["Limits", "Stopped", "manifest_of", "run_arm", "run_into"]


class Stopped(Exception):
    """The run of an arm stopped before its end, for a reason that every further row would meet.

    Args:
        evidence_id: Its bundle, unsealed.
        failure: Why.
        done: Rows that are there.
        planned: Rows that were to be.
    """

    def __init__(self, evidence_id: str, failure: Failure, done: int, planned: int) -> None:
        self.evidence_id, self.failure = evidence_id, failure
        self.sentence = f"{failure.message.rstrip('.')} ({done} of {planned} rows are there)"
        super().__init__(self.sentence)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What all arms of a gate may take together.

    Attributes:
        deadline: When the rows must be done, on the clock of `monotonic`; None sets no limit.
        budget: What the model calls that go out may spend; None sets no limit.
    """

    deadline: float | None = None
    budget: Budget | None = None

    @classmethod
    def of(cls, prepared: Prepared, workspace: Workspace) -> Limits:
        """The limits of a gate: its own, else the settings'."""
        spec, settings = prepared.spec, workspace.settings
        seconds = spec.run_timeout_s or settings.run_timeout_s
        tokens = spec.max_tokens_total or settings.max_tokens_total
        dollars = spec.max_cost_usd or settings.max_cost_usd
        return cls(
            deadline=monotonic() + seconds if seconds is not None else None,
            budget=Budget(max_tokens_total=tokens, max_cost_usd=dollars) if tokens or dollars else None,
        )

    def charge(self, rows: Iterable[Row]) -> None:
        """Count what rows of an earlier part of the run spent: a resumed run has no second budget.

        Raises:
            InvalidValue: the budget is in dollars, and what a row cost is not known.
        """
        if self.budget is None:
            return
        spent = sum((r.usage for r in rows if not r.usage.replayed), Usage())
        known = Budget(
            max_tokens_total=self.budget.max_tokens_total, max_cost_usd=self.budget.max_cost_usd, spent=spent
        )
        self.budget.tokens += known.tokens
        self.budget.usd += known.usd


def manifest_of(prepared: Prepared, workspace: Workspace, identity: Identity) -> dict[str, JSON]:
    """What is written of an arm before its first row."""
    return {
        "gate": prepared.spec.label,
        "identity": identity.to_json(),
        "planned": [list(pair) for pair in prepared.pairs],
        "policy": prepared.spec.policy.to_json(),
        "advisory": sorted(prepared.advisory),
        "provenance": provenance(workspace),
    }


def run_arm(
    prepared: Prepared,
    workspace: Workspace,
    prompt: Any,
    identity: Identity,
    limits: Limits,
    title: str,
) -> EvidenceBundle:
    """One arm as a bundle of its own, stored without a verdict, so that it need not be run again.

    Raises:
        Stopped: it stopped before its end. RunStopped: its rows cannot be written.
    """
    started = stamp()
    begun = begin(workspace, manifest_of(prepared, workspace, identity), decided=False)
    if begun.sealed is not None and begun.claim is not None:
        bundle = begun.sealed
        try:
            bundle.verify()
            record(workspace, bundle, None, gated_part(bundle.scores, prepared.advisory), started=started)
        except BaseException:
            begun.claim.release(ended=False)
            raise
        begun.claim.release(ended=True)
        return bundle
    writer = begun.writer
    assert writer is not None
    try:
        with storing(workspace, prepared.spec.label, writer):
            if not prepared.reasons:
                run_into(prepared, workspace, begun, prompt, limits, title)
            values = writer.scores().digest_of_values()
            bundle = writer.seal(None, baselines={}, look=1, reasons=list(prepared.reasons), values=values)
        record(workspace, bundle, None, gated_part(bundle.scores, prepared.advisory), started=started)
        writer.end()
    finally:
        with contextlib.suppress(OSError):  # the disk's own fault is told already
            writer.close()
    return bundle


def run_into(
    prepared: Prepared,
    workspace: Workspace,
    begun: Begun,
    prompt: Any,
    limits: Limits,
    title: str,
) -> None:
    """Run the rows that an arm still lacks.

    Raises:
        Stopped: a failure that every further row would meet, or the time limit of the run.
        Interrupted: Ctrl-C or SIGTERM. RunStopped: a row cannot be written.
    """
    writer, spec = begun.writer, prepared.spec
    assert writer is not None
    plan = prepared.plan(prompt, workspace)
    if writer.written and limits.budget is not None:
        limits.charge(writer.scores().rows)

    def tick(progress: Progress) -> None:
        workspace.say(f"{spec.label}: {title}", progress)

    def write(row: Row) -> None:
        with storing(workspace, spec.label, writer):
            writer.append(row)

    with Scoring(prepared.evaluators, plan.timeout_s) as scoring:

        async def judged(
            example: Example, outputs: JSON, invalid: str | None, usage: Usage
        ) -> tuple[Score, ...]:
            if invalid is not None:
                return invalid_output_scores(prepared.evaluators, invalid, usage)
            return await scoring.scores(
                Sample(
                    inputs=example.inputs,
                    outputs=outputs,
                    reference_outputs=example.reference_outputs,
                    metadata=example.metadata,
                    usage=usage,
                )
            )

        rows = run_rows(
            plan,
            judged,
            write,
            skip=writer.written.copy(),
            answered=begun.answered,
            deadline=limits.deadline,
            tick=tick,
        )
        try:
            with workspace.recording(limits.budget):
                stop = run_sync(rows)
        except Interrupted as error:
            raise Interrupted(
                error.signal,
                f"stopped at {len(writer.written)} of {writer.planned} rows of gate {spec.label!r}; "
                f"to go on: {how_to_resume(workspace, writer.id)}",
            ) from None
    if stop is not None:
        raise Stopped(writer.id, stop, len(writer.written), writer.planned)
