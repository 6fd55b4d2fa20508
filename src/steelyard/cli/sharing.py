"""What a gate leaves outside its own process: properties for JUnit, and its report for xdist's controller."""

from __future__ import annotations

import base64
import pickle
from typing import Any

from steelyard.cli.session import EvalSession
from steelyard.report import GateReport

__all__ = ["packed", "properties", "unpack"]


def properties(report: GateReport) -> list[tuple[str, object]]:
    """What a JUnit file says of a gate: verdict, evidence, and each requirement's numbers."""
    verdict = report.verdict
    out: list[tuple[str, object]] = [
        (f"steelyard.{report.gate}.verdict", verdict.outcome),
        (f"steelyard.{report.gate}.evidence", report.evidence_id or "-"),
    ]
    for finding in verdict.findings:
        requirement = finding.requirement
        against = f".{requirement.baseline}" if requirement.baseline else ""
        name = f"steelyard.{report.gate}.{requirement.metric}{against}"
        out.append((f"{name}.outcome", finding.outcome))
        for key in ("candidate", "baseline", "estimate", "low", "high"):
            value = getattr(finding, key)
            if value is not None:
                out.append((f"{name}.{key}", f"{value:.6g}"))
    return out


def packed(session: EvalSession) -> str:
    """What a worker's session found since this was last asked, as text."""
    workspace = session.workspace
    found: dict[str, Any] = {
        "reports": workspace.reports[:],
        "outcomes": session.outcomes[:],
        "texts": session.texts[:],
        "errors": [str(e) for e in session.errors],
        "resumed": workspace.resumed[:],
        "unended": dict(workspace.unended),
    }
    for told in (workspace.reports, workspace.resumed, session.outcomes, session.texts, session.errors):
        told.clear()
    workspace.unended.clear()
    return base64.b64encode(pickle.dumps(found)).decode("ascii")


def unpack(text: str, session: EvalSession) -> None:
    """Put what a worker found into the controller's session."""
    # Written by our own worker process, on this user's own pipe; nothing else reaches this.
    found = pickle.loads(base64.b64decode(text))  # noqa: S301
    session.workspace.reports += found["reports"]
    session.outcomes += found["outcomes"]
    session.texts += found["texts"]
    session.errors += [RuntimeError(e) for e in found["errors"]]
    session.workspace.resumed += found["resumed"]
    session.workspace.unended |= found["unended"]
