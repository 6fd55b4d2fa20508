"""Writes a session's report into a folder."""

from __future__ import annotations

import json
from pathlib import Path

from steelyard.core.canonical import JSON, canonical
from steelyard.core.files import SHARED, write_atomically
from steelyard.report.markdown import to_markdown
from steelyard.report.model import SessionReport
from steelyard.report.page import to_html

__all__ = ["to_json", "write_report"]


def to_json(session: SessionReport) -> str:
    """The verdicts as JSON text: no clock and no run id, so the same verdicts give the same bytes."""
    gates: list[JSON] = [
        {
            "gate": _storable(gate.gate),
            "outcome": gate.outcome,
            "error": _storable(gate.error) if gate.error is not None else None,
            "verdict_digest": gate.verdict.digest,
            "verdict": gate.verdict.to_json(),
        }
        for gate in session.gates
    ]
    value = {"format": 1, "outcome": session.outcome, "counts": dict(session.counts), "gates": gates}
    # Through the canonical form, which refuses what JSON cannot hold; then indented for people.
    return json.dumps(json.loads(canonical(value)), ensure_ascii=False, indent=1) + "\n"


def _storable(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def write_report(session: SessionReport, folder: Path) -> Path:
    """The path of `index.html`, written with `summary.md` and `verdicts.json` beside it.

    Each file appears whole or not at all; a reader of the old one is not disturbed.

    Raises:
        OSError: the folder cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    # index.html last: who sees it finds the other two.
    _replace(folder / "verdicts.json", to_json(session))
    _replace(folder / "summary.md", to_markdown(session))
    return _replace(folder / "index.html", to_html(session))


def _replace(path: Path, text: str) -> Path:
    write_atomically(path, text.encode("utf-8"), mode=SHARED)  # a report is for colleagues
    return path
